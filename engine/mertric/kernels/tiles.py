"""Products of 32 x 32 blocks in bfloat16, summed in float32: in AMX's tiles, or, without AMX, in plain loops.

The first factor stands in rows, best a `Factors.pitch` apart (`mertric.kernels.lines`); the second is packed as a step
of AMX takes it, `STEP` of the inner dimension for two tiles of 16 columns, [2, STEP / 2, 16, 2]: in the last axis are
two neighbours of the inner dimension.

Both have as many pieces (`mertric.kernels.bfloat16`). Of the products of two pieces, those are taken that are not below
what the last one leaves: of the first with all, of the second with all but the last, and so on. One piece is bfloat16;
two keep 16 bits of each factor and take three products; three keep 24, as float32 has, and take six.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.kernels.bfloat16 import store_interleaved, widened
from mertric.kernels.instructions import configure, fetch_tile, load_tile, multiply_add, release, store_tile, zero_tile
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, store
from mertric.kernels.processor import why_no_tiles
from mertric.kernels.sizes import BLOCK, PACKED, SINGLES, STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 16
"""Rows of a tile, of 64 bytes each."""
_ROWS_AHEAD, _PACKED_AHEAD = 1, 2
"""Steps ahead of which the factors are brought to the first-level cache."""


def _configuration() -> NDArray[np.uint8]:
    """What ``ldtilecfg`` reads: palette 1, eight tiles of 16 rows of 64 bytes."""
    block = np.zeros(64, np.uint8)
    block[0] = 1
    block[16:32].view(np.uint16)[:] = 64
    block[48:56] = _TILE
    return block


CONFIGURATION = _configuration()


@kernel()
def _begin_tiles(_: NDArray[np.uint16]) -> None:
    configure(CONFIGURATION)


@kernel()
def _end_tiles(_: NDArray[np.uint16]) -> None:
    release()


@kernel()
def _multiply(a: NDArray[np.uint16], at: int, stride: int, b: NDArray[np.uint16], packed: int) -> None:
    """Add the product of a piece of 32 rows and one of 32 columns, and fetch what follows each."""
    lower = at + _TILE * stride
    fetch_tile(a, at + _ROWS_AHEAD * STEP, 2 * stride)
    load_tile(4, a, at, 2 * stride)
    load_tile(6, b, packed, 2 * STEP)
    multiply_add(0, 4, 6)
    fetch_tile(b, packed + _PACKED_AHEAD * PACKED, 2 * STEP)
    load_tile(7, b, packed + PACKED // 2, 2 * STEP)
    multiply_add(1, 4, 7)
    fetch_tile(a, lower + _ROWS_AHEAD * STEP, 2 * stride)
    load_tile(5, a, lower, 2 * stride)
    multiply_add(2, 5, 6)
    fetch_tile(b, packed + _PACKED_AHEAD * PACKED + PACKED // 2, 2 * STEP)
    multiply_add(3, 5, 7)


@kernel()
def _multiply_packed(b: NDArray[np.uint16], packed: int) -> None:
    """Add the product of the same rows and other columns."""
    load_tile(6, b, packed, 2 * STEP)
    multiply_add(0, 4, 6)
    fetch_tile(b, packed + _PACKED_AHEAD * PACKED, 2 * STEP)
    load_tile(7, b, packed + PACKED // 2, 2 * STEP)
    multiply_add(1, 4, 7)
    multiply_add(2, 5, 6)
    fetch_tile(b, packed + _PACKED_AHEAD * PACKED + PACKED // 2, 2 * STEP)
    multiply_add(3, 5, 7)


@kernel()
def _multiply_rows(a: NDArray[np.uint16], at: int, stride: int) -> None:
    """Add the product of other rows and the same columns."""
    lower = at + _TILE * stride
    fetch_tile(a, at + _ROWS_AHEAD * STEP, 2 * stride)
    load_tile(4, a, at, 2 * stride)
    multiply_add(0, 4, 6)
    multiply_add(1, 4, 7)
    fetch_tile(a, lower + _ROWS_AHEAD * STEP, 2 * stride)
    load_tile(5, a, lower, 2 * stride)
    multiply_add(2, 5, 6)
    multiply_add(3, 5, 7)


@kernel()
def _multiply_tiles(
    a: NDArray[np.uint16],
    at: int,
    stride: int,
    _: int,
    taps: int,
    b: NDArray[np.uint16],
    packed: int,
    steps: int,
    product: NDArray[np.float32],
    to: int,
) -> None:
    zero_tile(0)
    zero_tile(1)
    zero_tile(2)
    zero_tile(3)
    pieces, plane, columns = a.shape[0], a.shape[1], b.shape[1]
    for tap in range(taps):
        place = at + tap * (stride // 2)
        for _step in range(steps):  # one factor of a product is always one of the next
            _multiply(a, place, stride, b, packed + (pieces - 1) * columns)
            if pieces == 3:
                _multiply_packed(b, packed + columns)
                _multiply_rows(a, place + plane, stride)
            if pieces > 1:
                _multiply_packed(b, packed)
            if pieces == 3:
                _multiply_rows(a, place, stride)
            if pieces > 1:
                _multiply_rows(a, place + (pieces - 1) * plane, stride)
            place += STEP
            packed += PACKED
    store_tile(0, product, to, 4 * BLOCK)
    store_tile(1, product, to + _TILE, 4 * BLOCK)
    store_tile(2, product, to + _TILE * BLOCK, 4 * BLOCK)
    store_tile(3, product, to + _TILE * BLOCK + _TILE, 4 * BLOCK)


@kernel()
def no_tiles(_: NDArray[Any]) -> None:
    """`begin` and `end` of what needs no tiles."""


@kernel()
def _multiply_loops(
    a: NDArray[np.uint16],
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: NDArray[np.uint16],
    packed: int,
    steps: int,
    product: NDArray[np.float32],
    to: int,
) -> None:
    product[to : to + BLOCK * BLOCK] = 0
    pieces, factors, sums = a.shape[0], np.empty((STEP, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    for j in range(pieces):
        for step in range(taps * steps):
            begin, second = at + step // steps * (stride // 2) + step % steps * STEP, packed + step * PACKED
            for inner in range(STEP):
                for column in range(BLOCK):
                    line = second + column // _TILE * (PACKED // 2) + column % _TILE * 2
                    factors[inner, column] = widened(b[j, line + inner // 2 * STEP + inner % 2])
            for i in range(pieces - j):
                for row in range(rows):
                    one = two = spread(np.float32(0))
                    for inner in range(STEP):
                        factor = spread(widened(a[i, begin + row * stride + inner]))
                        one = one + factor * load(factors, 2 * inner)
                        two = two + factor * load(factors, 2 * inner + 1)
                    store(sums, 0, one)
                    store(sums, 1, two)
                    for column in range(BLOCK):
                        product[to + row * BLOCK + column] += sums[column]


_HERE = why_no_tiles() is None
begin_tiles = _begin_tiles if _HERE else no_tiles
end_tiles = _end_tiles if _HERE else no_tiles
multiply_pieces = _multiply_tiles if _HERE else _multiply_loops


@kernel()
def pack_pieces(b: NDArray[np.uint16], packed: int, source: NDArray[np.float32], begin: int, stride: int) -> None:
    """`mertric.kernels.factors.pack_block` in bfloat16."""
    apart = stride // SINGLES
    for tile in range(BLOCK // _TILE):
        for pair in range(STEP // 2):
            line, to = begin // SINGLES + 2 * pair * apart + tile, packed // BLOCK + tile * (STEP // 2) + pair
            store_interleaved(b, to, load(source, line), load(source, line + apart))
