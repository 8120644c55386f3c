"""Float32 to bfloat16 and back: the upper half of its bits, here a uint16.

What holds 8 bits of a number may be one piece of it: the next holds 8 bits of what the first left, and so on. Three
pieces are all of a float32. Arrays of bfloat16 are uint16 [pieces, numbers].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.kernels.halves import by_turns, in_bfloat16, kept
from mertric.kernels.instructions import as_bits, as_single
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import store
from mertric.kernels.lines import singles
from mertric.kernels.sizes import SINGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def rounded(number: np.float32) -> np.uint16:
    """A finite number in bfloat16, to the nearest, of two equally near to the one farther from 0."""
    return np.uint16((as_bits(number) + np.uint32(0x8000)) >> np.uint32(16))


@kernel()
def widened(number: np.uint16) -> np.float32:
    """The value of a bfloat16."""
    return as_single(np.uint32(number) << np.uint32(16))  # type: ignore[no-any-return]


@kernel()
def store_number_in_pieces(array: NDArray[np.uint16], place: int, number: np.float32) -> None:
    """Write the pieces of a finite number."""
    for piece in range(array.shape[0]):
        array[piece, place] = rounded(number)
        number -= widened(array[piece, place])


@kernel()
def store_interleaved(array: NDArray[np.uint16], index: int, lanes: Any, others: Any) -> None:
    """Write the pieces of two lanes of finite float32, by turns, as pairs of lanes number `index`."""
    plane = array.shape[1] // (2 * SINGLES)
    for piece in range(array.shape[0]):
        store(array, index + piece * plane, by_turns(in_bfloat16(lanes), in_bfloat16(others)))
        lanes, others = lanes - kept(lanes), others - kept(others)


@kernel()
def _store_lanes(array: NDArray[np.uint16], index: int, lanes: Any) -> None:
    """Write the pieces of lanes of finite float32, as lanes number `index`; of numbers there are whole lanes."""
    store(array, index, in_bfloat16(lanes))
    if array.shape[0] > 1:
        rest, plane = lanes - kept(lanes), array.shape[1] // SINGLES
        store(array, index + plane, in_bfloat16(rest))
        if array.shape[0] > 2:
            store(array, index + 2 * plane, in_bfloat16(rest - kept(rest)))


@kernel()
def store_line_in_pieces(array: NDArray[np.uint16], place: int, first: Any, second: Any) -> None:
    """`mertric.kernels.factors.store_line` in bfloat16."""
    _store_lanes(array, place // SINGLES, first)
    _store_lanes(array, place // SINGLES + 1, second)


@kernel()
def in_one_piece(array: NDArray[np.uint16]) -> bool:
    """Whether numbers are rounded to bfloat16."""
    return array.shape[0] == 1  # type: ignore[no-any-return]


@kernel()
def room_for_pieces(array: NDArray[np.uint16], numbers: int) -> NDArray[np.uint16]:
    """Room for so many numbers, an even one, in as many pieces."""
    pieces = array.shape[0]
    return singles(pieces * numbers // 2).view(np.uint16).reshape(pieces, numbers)  # type: ignore[no-any-return]
