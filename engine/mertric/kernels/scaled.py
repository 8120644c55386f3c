"""Factors in integers of 14 bits, with a scale for each step of a row or column.

An array is int16 [1, numbers + numbers / 16]: the last seventeenth holds the float32 scales, one for each line of 32
numbers, which are integers from -8191 to 8191 times that scale. Of rows, a line is a step; second factors are packed as
`mertric.kernels.tiles` has it, and a line's scale is there that of a column in a step, in the columns' order. A sum of
32 products then always fits in 32 bits, and a number is off by at most 1 / 16382 of the largest in its line.
"""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types

from mertric.kernels.halves import by_turns, in_integers
from mertric.kernels.jit import instruction, kernel
from mertric.kernels.lanes import (
    greatest,
    highest_magnitude,
    load,
    magnitude,
    spread,
    store,
)
from mertric.kernels.lines import singles
from mertric.kernels.sizes import BLOCK, SINGLES, STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Integers = NDArray[np.int16]

_MOST = np.float32(8191)
_LEAST = np.float32(1e-30)
"""What the largest number of a line counts as at least, so that its inverse is finite."""
_SHARE = 16
"""Numbers for one more, of its scale: a line's takes two places."""
_TILES = BLOCK // SINGLES
_LONG = ir.IntType(64)


def with_scales(numbers: int) -> int:
    """Return the size of an array of so many numbers, whole lines."""
    return numbers + numbers // _SHARE


@kernel()
def numbers_of_scaled(array: Integers) -> int:
    """`mertric.kernels.factors.numbers_of` scaled integers."""
    return array.shape[1] // (_SHARE + 1) * _SHARE  # type: ignore[no-any-return]


@kernel()
def scales_of(array: Integers) -> Singles:
    """The scales of an array, in the order of its lines."""
    return array[0, numbers_of_scaled(array) :].view(np.float32)


def place_of_scale(context: Any, builder: Any, kind: Any, array: Any, line: Any) -> Any:
    """The place of a line's scale, in LLVM's terms."""
    own = context.make_array(kind)(context, builder, array)
    size = builder.extract_value(own.shape, 1)
    numbers = builder.mul(builder.udiv(size, _LONG(_SHARE + 1)), _LONG(_SHARE))
    plane = builder.bitcast(builder.gep(own.data, [numbers]), ir.FloatType().as_pointer())
    return builder.gep(plane, [line])


@instruction
def _store_scale(_: Any, array: Any, line: Any, scale: Any) -> Any:
    """Write the scale of a line of an array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, line, scale = arguments
        builder.store(scale, place_of_scale(context, builder, signature.args[0], array, line))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float32), code


@kernel()
def room_for_scaled(_: Integers, numbers: int) -> Integers:
    """Room for so many numbers, whole lines."""
    room = numbers + numbers // _SHARE
    return singles(room // 2).view(np.int16).reshape(1, room)  # type: ignore[no-any-return]


@kernel()
def store_scaled_line(array: Integers, place: int, first: Any, second: Any) -> None:
    """`mertric.kernels.factors.store_line` in scaled integers."""
    most = max(highest_magnitude(first, second), _LEAST)
    scale = spread(_MOST / most)
    store(array, place // SINGLES, in_integers(first * scale))
    store(array, place // SINGLES + 1, in_integers(second * scale))
    _store_scale(array, place // BLOCK, most / _MOST)


@kernel()
def pack_scaled(b: Integers, packed: int, source: Singles, begin: int, stride: int) -> None:
    """`mertric.kernels.factors.pack_block` in scaled integers."""
    scales = scales_of(b)
    for tile in range(_TILES):
        line, apart = begin // SINGLES + tile, stride // SINGLES
        most = spread(_LEAST)
        for inner in range(STEP):
            most = greatest(most, magnitude(load(source, line + inner * apart)))
        store(scales, packed // BLOCK // SINGLES + tile, most / spread(_MOST))
        scale = spread(_MOST) / most
        for pair in range(STEP // 2):
            own, to = line + 2 * pair * apart, packed // BLOCK + tile * (STEP // 2) + pair
            first, second = in_integers(load(source, own) * scale), in_integers(load(source, own + apart) * scale)
            store(b, to, by_turns(first, second))
