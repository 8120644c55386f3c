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

SPAN = 32
"""Blocks of keys and values that are attended to at once."""
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
    steps: int,
    rows: int,
    weight: Halves,
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
    a: Halves, at: int, stride: int, steps: int, rows: int, weight: Halves, blocks: int, block: int, values: Halves
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
def _score(
    queries: Halves,
    at: int,
    stride: int,
    keys: Halves,
    packed: int,
    parts: int,
    frames: int,
    scores: Singles,
    tops: Singles,
) -> None:
    """Write the scores of a block of queries for the keys of `frames`, block by block, and the highest of each lane."""
    for key in range((frames + BLOCK - 1) // BLOCK):
        multiply_block(queries, at, stride, 1, keys, packed + key * parts * PACKED, parts, scores, key * _ONE)
        inside = frames - key * BLOCK
        for i in range(BLOCK):
            row = key * BLOCK + i
            if inside < BLOCK:
                scores[row * BLOCK + inside : (row + 1) * BLOCK] = -np.inf
            top = greatest(load(scores, row * _WIDTH), load(scores, row * _WIDTH + 1))
            store(tops, i, top if key == 0 else greatest(top, load(tops, i)))


@kernel()
def _share(
    scores: Singles,
    tops: Singles,
    scale: np.float32,
    count: int,
    shares: Halves,
    peaks: Singles,
    sums: Singles,
    factors: Singles,
) -> None:
    """Write 2 to the power of `count` blocks of scores, times `scale`, less the highest of them so far.

    `peaks` and `sums` are that highest one and the sum of shares so far, of each query; `factors` are what all before
    is to be multiplied by, in every lane.
    """
    apart = shares.shape[1] // _ONE
    for i in range(BLOCK):
        peak = max(highest(load(tops, i)) * scale, peaks[i])
        total_share = spread(np.float32(0))
        for key in range(count):
            for j in range(_WIDTH):
                exponent = load(scores, (key * BLOCK + i) * _WIDTH + j) * spread(scale) - spread(peak)
                share = power_of_two(exponent) if shares.shape[0] == 1 else fine_power_of_two(exponent)
                total_share = total_share + share
                store_lanes(shares, (i * apart + key) * _WIDTH + j, share)
        factor = fine_power_of_two(spread(peaks[i] - peak))
        store(factors, i, factor)
        sums[i] = sums[i] * highest(factor) + total(total_share)
        peaks[i] = peak


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

    Keys and values are taken `SPAN` blocks at a time, which stay in the second-level cache for all queries: Dao et al.,
    "FlashAttention: Fast and memory-efficient exact attention with IO-awareness", NeurIPS 2022, algorithm 1.

    Parameters
    ----------
    queries, at, stride
        Their rows begin at `at`, `stride` numbers apart, as those of `out` do.
    blocks, block
        Of keys and values in all, and the first of the clip's.
    frames
        Of the clip. What its last block has beyond them, which must be numbers, gets a share of 2^-126.
    scale
        Of the scores, times the logarithm of e to base 2.
    """
    pieces, parts = queries.shape[0], keys.shape[1] // (heads * blocks * PACKED)
    count = (frames + BLOCK - 1) // BLOCK
    size = (min(count, SPAN) | 1) * _ONE  # rows of shares lie apart as `mertric.kernels.lines.pitch` has it
    scores, shares = singles(size), singles(pieces * size // 2).view(np.uint16).reshape(pieces, size)
    tops, factors, product = singles(BLOCK * SINGLES), singles(BLOCK * SINGLES), singles(_ONE)
    found = singles(rows * parts * _ONE)
    peaks, sums = np.empty((rows, BLOCK), np.float32), np.empty((rows, BLOCK), np.float32)
    begin(CONFIGURATION)
    for head in range(heads):
        found[:] = 0
        peaks[:] = -np.inf
        sums[:] = 0
        for first in range(0, count, SPAN):
            span = min(SPAN, count - first)
            inside = min(span * BLOCK, frames - first * BLOCK)
            for m in range(rows):
                source = at + m * BLOCK * stride + head * parts * BLOCK
                packed = (head * blocks + block + first) * parts * PACKED
                _score(queries, source, stride, keys, packed, parts, inside, scores, tops)
                _share(scores, tops, scale, span, shares, peaks[m], sums[m], factors)
                for part in range(parts):
                    packed = ((head * parts + part) * blocks + block + first) * PACKED
                    multiply_block(shares, 0, size // BLOCK, 1, values, packed, span, product, 0)
                    for i in range(BLOCK):
                        for j in range(_WIDTH):
                            line = ((m * parts + part) * BLOCK + i) * _WIDTH + j
                            store(found, line, load(found, line) * load(factors, i) + load(product, i * _WIDTH + j))
        for m in range(rows):
            for i in range(BLOCK):
                weight = spread(np.float32(1) / sums[m, i])
                for part in range(parts):
                    line = (to + (m * BLOCK + i) * stride) // SINGLES + (head * parts + part) * _WIDTH
                    for j in range(_WIDTH):
                        store_lanes(out, line + j, load(found, ((m * parts + part) * BLOCK + i) * _WIDTH + j) * weight)
    end()
