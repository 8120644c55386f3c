"""Attention in bfloat16 over the frames of one clip, for a block of queries at a time: never frames x frames.

Keys and values are second factors of products, so the products that make them write them as such, packed by heads:
keys [pieces, heads * blocks * head_dim / STEP * PACKED], whose columns are frames, and values [pieces, heads *
head_dim / BLOCK * blocks * PACKED], whose inner dimension is. A block is `BLOCK` frames, of one clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.activations import fine_power_of_two, power_of_two
from mertric.kernels.bfloat16 import rounded, store_interleaved, store_lanes
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import greatest, highest, kept, load, spread, store, total
from mertric.kernels.lines import singles
from mertric.kernels.sizes import BLOCK, PACKED, SINGLES, STEP
from mertric.kernels.tiles import CONFIGURATION, begin, end, multiply_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Halves = NDArray[np.uint16]

_ONE = BLOCK * BLOCK
_WIDTH = BLOCK // SINGLES


@kernel()
def _take_off(product: Singles) -> None:
    """Leave of numbers what their first piece does not hold."""
    for j in range(product.size // SINGLES):
        value = load(product, j)
        store(product, j, value - kept(value))


@kernel()
def pack_keys(
    a: Halves,
    at: int,
    stride: int,
    rows: int,
    weight: Halves,
    steps: int,
    blocks: int,
    block: int,
    heads: int,
    keys: Halves,
) -> None:
    """Write the keys of `rows` blocks of rows, see `dense_narrow`, as those from number `block` of `blocks`."""
    product = singles(_ONE)
    begin(CONFIGURATION)
    columns = weight.shape[1] // (steps * PACKED)
    parts = columns // heads
    for n in range(columns):
        head, part = n // parts, n % parts
        for m in range(rows):
            multiply_block(a, at + m * BLOCK * stride, stride, 1, weight, n * steps * PACKED, steps, product, 0)
            to = ((head * blocks + block + m) * parts + part) * PACKED
            for piece in range(keys.shape[0]):
                for tile in range(2):
                    for pair in range(STEP // 2):
                        line = to + tile * (PACKED // 2) + pair * STEP
                        for i in range(16):
                            source = (tile * 16 + i) * BLOCK + 2 * pair
                            keys[piece, line + 2 * i] = rounded(product[source])
                            keys[piece, line + 2 * i + 1] = rounded(product[source + 1])
                if piece + 1 < keys.shape[0]:
                    _take_off(product)
    end()


@kernel()
def pack_values(
    a: Halves, at: int, stride: int, rows: int, weight: Halves, steps: int, blocks: int, block: int, values: Halves
) -> None:
    """Write the values of `rows` blocks of rows, as `pack_keys` does the keys."""
    product = singles(_ONE)
    begin(CONFIGURATION)
    for n in range(weight.shape[1] // (steps * PACKED)):
        for m in range(rows):
            multiply_block(a, at + m * BLOCK * stride, stride, 1, weight, n * steps * PACKED, steps, product, 0)
            to = (n * blocks + block + m) * _WIDTH * (STEP // 2)
            for tile in range(_WIDTH):
                for pair in range(STEP // 2):
                    line = 2 * pair * _WIDTH + tile
                    store_interleaved(values, to + pair, load(product, line), load(product, line + _WIDTH))
                to += STEP // 2
    end()


@kernel()
def attend(
    queries: Halves,
    at: int,
    stride: int,
    rows: int,
    heads: int,
    keys: Halves,
    values: Halves,
    blocks: int,
    block: int,
    frames: int,
    scale: np.float32,
    out: Halves,
    to: int,
) -> None:
    """Write what `rows` blocks of queries attend to, in bfloat16, to rows of `out` from `to` on.

    Parameters
    ----------
    queries, at, stride
        Their rows begin at `at`, `stride` numbers apart, as those of `out` do.
    blocks, block
        Of keys and values in all, and the first of the clip's.
    frames
        Of the clip. What its last block has beyond them is attended to by none.
    scale
        Of the scores, times the logarithm of e to base 2.
    """
    parts = keys.shape[1] // (heads * blocks * PACKED)
    count = (frames + BLOCK - 1) // BLOCK
    inside = frames - (count - 1) * BLOCK
    apart = count | 1  # blocks from one row of shares to the next, see `mertric.kernels.lines.pitch`
    scores, product, tops = singles(count * _ONE), singles(_ONE), singles(BLOCK * SINGLES)
    shares = singles(queries.shape[0] * apart * _ONE // 2).view(np.uint16).reshape(queries.shape[0], apart * _ONE)
    weights = np.empty(BLOCK, np.float32)
    begin(CONFIGURATION)
    for m in range(rows):
        for head in range(heads):
            for key in range(count):
                packed = (head * blocks + block + key) * parts * PACKED
                source = at + m * BLOCK * stride + head * parts * BLOCK
                multiply_block(queries, source, stride, 1, keys, packed, parts, scores, key * _ONE)
                if key == count - 1:
                    for i in range(BLOCK):
                        scores[key * _ONE + i * BLOCK + inside : key * _ONE + (i + 1) * BLOCK] = -np.inf
                for i in range(BLOCK):
                    line = (key * BLOCK + i) * _WIDTH
                    found = greatest(load(scores, line), load(scores, line + 1))
                    store(tops, i, found if key == 0 else greatest(found, load(tops, i)))
            for i in range(BLOCK):
                top, sums = spread(highest(load(tops, i)) * scale), spread(np.float32(0))
                for key in range(count):
                    for j in range(_WIDTH):
                        exponent = load(scores, (key * BLOCK + i) * _WIDTH + j) * spread(scale) - top
                        share = power_of_two(exponent) if queries.shape[0] == 1 else fine_power_of_two(exponent)
                        sums = sums + share
                        store_lanes(shares, (i * apart + key) * _WIDTH + j, share)
                weights[i] = np.float32(1) / total(sums)
            for part in range(parts):
                packed = ((head * parts + part) * blocks + block) * PACKED
                multiply_block(shares, 0, apart * BLOCK, 1, values, packed, count, product, 0)
                for i in range(BLOCK):
                    weight = spread(weights[i])
                    line = (to + (m * BLOCK + i) * stride) // SINGLES + (head * parts + part) * _WIDTH
                    for j in range(_WIDTH):
                        store_lanes(out, line + j, load(product, i * _WIDTH + j) * weight)
    end()
