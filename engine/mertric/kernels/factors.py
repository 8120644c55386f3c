"""Factors of products, in the types that there are products for, and what kernels do with them whatever the type.

An array of factors is [pieces, room]: of uint16 in bfloat16, for tiles (`mertric.kernels.bfloat16`), of float32, for
vectors, or of int16 with scales, for dot products of pairs (`mertric.kernels.scaled`). Rows stand in it, best some
`Factors.pitch` apart, or second factors, packed by blocks of `BLOCK` columns, each of steps of `PACKED` numbers, `STEP`
of the inner dimension for all columns of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.kernels.bfloat16 import (
    in_one_piece,
    room_for_pieces,
    store_line_in_pieces,
    store_number_in_pieces,
)
from mertric.kernels.dots import multiply_scaled
from mertric.kernels.jit import by_numbers, kernel
from mertric.kernels.lanes import store
from mertric.kernels.lines import LINE, empty, singles
from mertric.kernels.scaled import (
    numbers_of_scaled,
    pack_scaled,
    room_for_scaled,
    store_scaled_line,
    with_scales,
)
from mertric.kernels.sizes import SINGLES
from mertric.kernels.tiles import begin_tiles, end_tiles, multiply_pieces, no_tiles, pack_pieces
from mertric.kernels.vectors import multiply_singles, pack_singles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Array = NDArray[Any]


@dataclass(frozen=True)
class Factors:
    """How numbers are kept.

    Attributes
    ----------
    dtype
        uint16 for bfloat16, float32, or int16.
    pieces : int
        Of each number, see `mertric.kernels.bfloat16`.
    """

    dtype: type[np.generic]
    pieces: int = 1

    @property
    def size(self) -> int:
        """Bytes that a number takes, without its share of a scale."""
        return self.pieces * np.dtype(self.dtype).itemsize

    def room(self, numbers: int) -> int:
        """Return how many bytes so many numbers take, whole lines of them."""
        return self.size * self._places(numbers)

    def pitch(self, numbers: int) -> int:
        """How far apart rows of so many numbers are to begin: whole cache lines, an odd number of them."""
        line = LINE // np.dtype(self.dtype).itemsize
        return (-(-numbers // line) | 1) * line

    def empty(self, *shape: int) -> Array:
        """Return room for numbers, the last axis; others come before the pieces."""
        return empty((*shape[:-1], self.pieces, self._places(shape[-1])), self.dtype)

    def _places(self, numbers: int) -> int:
        return with_scales(numbers) if self.dtype == np.int16 else numbers


@kernel()
def _store_line_of_singles(array: Singles, place: int, first: Any, second: Any) -> None:
    store(array, place // SINGLES, first)
    store(array, place // SINGLES + 1, second)


@kernel()
def _store_single(array: Singles, place: int, number: np.float32) -> None:
    array[0, place] = number


@kernel()
def _numbers(array: Array) -> int:
    return array.shape[1]  # type: ignore[no-any-return]


@kernel()
def _always(_: Array) -> bool:
    return True


@kernel()
def _never(_: Singles) -> bool:
    return False


@kernel()
def _room_for_singles(_: Singles, numbers: int) -> Singles:
    return singles(numbers).reshape(1, numbers)  # type: ignore[no-any-return]


@by_numbers(uint16=begin_tiles, float32=no_tiles, int16=no_tiles)
def begin(array: Array) -> None:
    """Get the calling thread ready for `multiply_block` with such an array: in a kernel, after what may fail."""


@by_numbers(uint16=end_tiles, float32=no_tiles, int16=no_tiles)
def end(array: Array) -> None:
    """To be called last in a kernel that called `begin`."""


@by_numbers(uint16=multiply_pieces, float32=multiply_singles, int16=multiply_scaled)
def multiply_block(
    a: Array, at: int, stride: int, rows: int, taps: int, b: Array, packed: int, steps: int, product: Singles, to: int
) -> None:
    """Write a product of 32 rows and 32 packed columns, `product` [32, 32] from `to` on.

    The rows are those of `a` from `at` on, `stride` numbers apart. A row is `taps` runs of `steps` steps, each half a
    stride after the one before, as a convolution's of stride 2 are. `packed` is the second factor's first step in `b`,
    whose steps follow one another. Of rows beyond the first `rows`, which must be there all the same, the product may
    be left 0.
    """


@by_numbers(uint16=pack_pieces, float32=pack_singles, int16=pack_scaled)
def pack_block(b: Array, packed: int, source: Singles, begin: int, stride: int) -> None:
    """Write a step of a second factor, from `packed` on: 32 rows of 32 columns, from `begin` on in `source`.

    Rows are `stride` numbers apart, whole lanes as `begin` is.
    """


@by_numbers(uint16=store_line_in_pieces, float32=_store_line_of_singles, int16=store_scaled_line)
def store_line(array: Array, place: int, first: Any, second: Any) -> None:
    """Write 32 finite float32, a step of a row, from number `place` on, a multiple of 32."""


@by_numbers(uint16=store_number_in_pieces, float32=_store_single)
def store_number(array: Array, place: int, number: np.float32) -> None:
    """Write a finite number."""


@by_numbers(uint16=_numbers, float32=_numbers, int16=numbers_of_scaled)
def numbers_of(array: Array) -> int:
    """How many numbers there is room for, of any piece."""
    raise NotImplementedError


@by_numbers(uint16=in_one_piece, float32=_never, int16=_always)
def coarse(array: Array) -> bool:
    """Whether numbers are rounded so much that `gelu` and `power_of_two` are good enough for them."""
    raise NotImplementedError


@by_numbers(uint16=room_for_pieces, float32=_room_for_singles, int16=room_for_scaled)
def room_like(array: Array, numbers: int) -> Array:
    """Room for so many numbers, as an array's own are kept."""
    raise NotImplementedError
