"""Products of 32 x 32 blocks in bfloat16, summed in float32: in AMX's tiles, or, without AMX, in plain loops.

A bfloat16 is the upper half of a float32, here a uint16. The first factor stands in rows; the second is packed as a
step of AMX takes it, `STEP` of the inner dimension for two tiles of 16 columns, [2, STEP / 2, 16, 2]: in the last axis
are two neighbours of the inner dimension.
"""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mertric.kernels.jit import kernel
from mertric.kernels.processor import why_no_tiles
from mertric.kernels.sizes import BLOCK, PACKED, STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_TILE = 16
"""Rows of a tile, of 64 bytes each."""
_AHEAD = 2, 2
"""Steps ahead of which the rows and the packed factor are brought to the first-level cache."""

_BYTE, _LONG, _WORD = ir.IntType(8), ir.IntType(64), ir.IntType(32)
_PLACE = _BYTE.as_pointer()


def _configuration() -> NDArray[np.uint8]:
    """What ``ldtilecfg`` reads: palette 1, eight tiles of 16 rows of 64 bytes."""
    block = np.zeros(64, np.uint8)
    block[0] = 1
    block[16:32].view(np.uint16)[:] = 64
    block[48:56] = _TILE
    return block


CONFIGURATION = _configuration()


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    return intrinsic(prefer_literal=True)(function)


def _call(builder: Any, name: str, arguments: list[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _PLACE)


def _moving(name: str) -> Callable[..., Any]:
    @_instruction
    def move(_: Any, tile: Any, array: Any, index: Any, stride: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(context, builder, signature.args[1], arguments[1], arguments[2])
            _call(builder, name, [_BYTE(tile.literal_value), place, arguments[3]])
            return context.get_dummy_value()

        return types.void(tile, array, types.int64, types.int64), code

    return move


_load = _moving("llvm.x86.tileloadd64")
"""Load a tile from an array: rows `stride` bytes apart from `index` on."""
_store = _moving("llvm.x86.tilestored64")
"""Write a tile where `_load` would read it."""


@_instruction
def _multiply_add(_: Any, total: Any, a: Any, b: Any) -> Any:
    """Add the product of two tiles of bfloat16 to a tile of float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tdpbf16ps", [_BYTE(tile.literal_value) for tile in (total, a, b)])
        return context.get_dummy_value()

    return types.void(total, a, b), code


@_instruction
def _zero(_: Any, tile: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tilezero", [_BYTE(tile.literal_value)])
        return context.get_dummy_value()

    return types.void(tile), code


@_instruction
def _configure(_: Any, block: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments[0], _LONG(0))
        _call(builder, "llvm.x86.ldtilecfg", [place])
        return context.get_dummy_value()

    return types.void(block), code


@_instruction
def _release(_: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tilerelease", [])
        return context.get_dummy_value()

    return types.void(), code


@_instruction
def _prefetch(_: Any, array: Any, index: Any) -> Any:
    """Bring the cache line of an array's number `index` to the first level. It may be beyond the array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], *arguments)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [_PLACE], ir.FunctionType(ir.VoidType(), [_PLACE, _WORD, _WORD, _WORD])
        )
        builder.call(prefetch, [place, _WORD(0), _WORD(3), _WORD(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), code


@_instruction
def as_single(_: Any, bits: Any) -> Any:
    """The float32 that has these bits, a uint32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), code


@_instruction
def as_bits(_: Any, number: Any) -> Any:
    """The bits of a float32, as a uint32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.uint32(types.float32), code


@kernel()
def rounded(number: np.float32) -> np.uint16:
    """A finite number in bfloat16, to the nearest, of two equally near to the one farther from 0."""
    return np.uint16((as_bits(number) + np.uint32(0x8000)) >> np.uint32(16))


@kernel()
def widened(number: np.uint16) -> np.float32:
    """The value of a bfloat16."""
    return as_single(np.uint32(number) << np.uint32(16))  # type: ignore[no-any-return]


@kernel()
def _fetch(array: NDArray[np.uint16], at: int, stride: int) -> None:
    for row in range(_TILE):
        _prefetch(array, at + row * stride)


@kernel()
def _begin_tiles(configuration: NDArray[np.uint8]) -> None:
    _configure(configuration)


@kernel()
def _end_tiles() -> None:
    _release()


@kernel()
def _multiply_tiles(
    a: NDArray[np.uint16],
    at: int,
    stride: int,
    b: NDArray[np.uint16],
    packed: int,
    steps: int,
    product: NDArray[np.float32],
    to: int,
) -> None:
    _zero(0)
    _zero(1)
    _zero(2)
    _zero(3)
    lower = at + _TILE * stride
    for _ in range(steps):
        _fetch(a, at + _AHEAD[0] * STEP, stride)
        _load(4, a, at, 2 * stride)
        _load(6, b, packed, 64)
        _multiply_add(0, 4, 6)
        _fetch(b, packed + _AHEAD[1] * PACKED, STEP)
        _load(7, b, packed + PACKED // 2, 64)
        _multiply_add(1, 4, 7)
        _fetch(a, lower + _AHEAD[0] * STEP, stride)
        _load(5, a, lower, 2 * stride)
        _multiply_add(2, 5, 6)
        _fetch(b, packed + _AHEAD[1] * PACKED + PACKED // 2, STEP)
        _multiply_add(3, 5, 7)
        at += STEP
        lower += STEP
        packed += PACKED
    _store(0, product, to, 4 * BLOCK)
    _store(1, product, to + _TILE, 4 * BLOCK)
    _store(2, product, to + _TILE * BLOCK, 4 * BLOCK)
    _store(3, product, to + _TILE * BLOCK + _TILE, 4 * BLOCK)


@kernel()
def _begin_loops(configuration: NDArray[np.uint8]) -> None:
    pass


@kernel()
def _end_loops() -> None:
    pass


@kernel()
def _multiply_loops(
    a: NDArray[np.uint16],
    at: int,
    stride: int,
    b: NDArray[np.uint16],
    packed: int,
    steps: int,
    product: NDArray[np.float32],
    to: int,
) -> None:
    for i in range(to, to + BLOCK * BLOCK):
        product[i] = 0
    for step in range(steps):
        for row in range(BLOCK):
            for inner in range(STEP):
                factor = widened(a[at + row * stride + step * STEP + inner])
                for half in range(2):
                    line = packed + step * PACKED + half * (PACKED // 2) + inner // 2 * STEP + inner % 2
                    out = to + row * BLOCK + half * _TILE
                    for column in range(_TILE):
                        product[out + column] += factor * widened(b[line + 2 * column])


_HERE = why_no_tiles() is None
begin = _begin_tiles if _HERE else _begin_loops
"""Get the calling thread ready for `multiply_block`, with `CONFIGURATION`: in a kernel, after what may fail."""
end = _end_tiles if _HERE else _end_loops
"""To be called last in a kernel that called `begin`."""
multiply_block = _multiply_tiles if _HERE else _multiply_loops
"""Write a product of 32 rows and 32 packed columns, `product` [32, 32] from `to` on.

The rows are those of `a` from `at` on, `stride` numbers apart; `packed` is the second factor's first step in `b`, whose
`steps` follow one another.
"""
