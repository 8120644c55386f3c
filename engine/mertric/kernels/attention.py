"""Attention over the frames of one clip, for a block of queries at a time: never frames x frames.

Keys and values are second factors of products, so the products that make them write them as such, packed by heads:
keys [pieces, heads * blocks * head_dim / STEP * PACKED], whose columns are frames, and values [pieces, heads *
head_dim / BLOCK * blocks * PACKED], whose inner dimension is. A block is `BLOCK` frames, of one clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.activations import fine_power_of_two, power_of_two
from mertric.kernels.dense import multiply_blocks
from mertric.kernels.factors import begin, coarse, end, multiply_block, numbers_of, pack_block, room_like, store_line
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import greatest, highest, load, spread, store, total
from mertric.kernels.lines import singles
from mertric.kernels.sizes import BLOCK, PACKED, SINGLES

if TYPE_CHECKING:
    from mertric.kernels.factors import Array, Singles

SPAN = 32
"""Blocks of keys and values that are attended to at once."""
_ONE = BLOCK * BLOCK
_WIDTH = BLOCK // SINGLES


@kernel()
def _transpose(product: Singles, turned: Singles) -> None:
    """Write a block [32, 32] the other way round."""
    for i in range(BLOCK):
        for j in range(BLOCK):
            turned[i * BLOCK + j] = product[j * BLOCK + i]


@kernel()
def pack_keys(
    a: Array,
    at: int,
    stride: int,
    steps: int,
    rows: int,
    weight: Array,
    first: int,
    last: int,
    blocks: int,
    block: int,
    heads: int,
    keys: Array,
) -> None:
    """Write the keys of rows, see `dense_narrow`, as those from block `block` of `blocks` on, in whole blocks."""
    product, turned = singles(_ONE), singles(_ONE)
    begin(a)
    parts = numbers_of(weight) // (steps * PACKED * heads)
    for n in range(first // BLOCK, last // BLOCK):
        head, part = n // parts, n % parts
        for m in range((rows + BLOCK - 1) // BLOCK):
            multiply_blocks(a, at, stride, 1, steps, rows, weight, m, n, product)
            to = ((head * blocks + block + m) * parts + part) * PACKED
            _transpose(product, turned)
            pack_block(keys, to, turned, 0, BLOCK)
    end(a)


@kernel()
def pack_values(
    a: Array,
    at: int,
    stride: int,
    steps: int,
    rows: int,
    weight: Array,
    first: int,
    last: int,
    blocks: int,
    block: int,
    values: Array,
) -> None:
    """Write the values of rows, as `pack_keys` does the keys."""
    product = singles(_ONE)
    begin(a)
    for n in range(first // BLOCK, last // BLOCK):
        for m in range((rows + BLOCK - 1) // BLOCK):
            multiply_blocks(a, at, stride, 1, steps, rows, weight, m, n, product)
            pack_block(values, (n * blocks + block + m) * PACKED, product, 0, BLOCK)
    end(a)


@kernel()
def _score(
    queries: Array,
    at: int,
    stride: int,
    rows: int,
    keys: Array,
    packed: int,
    parts: int,
    frames: int,
    scores: Singles,
    tops: Singles,
) -> None:
    """Write the scores of rows of queries for the keys of `frames`, block by block, and the highest of each lane."""
    for key in range((frames + BLOCK - 1) // BLOCK):
        multiply_block(queries, at, stride, rows, 1, keys, packed + key * parts * PACKED, parts, scores, key * _ONE)
        inside = frames - key * BLOCK
        for i in range(rows):
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
    rows: int,
    count: int,
    shares: Array,
    peaks: Singles,
    sums: Singles,
    factors: Singles,
) -> None:
    """Write 2 to the power of rows of `count` blocks of scores, times `scale`, less the highest of them so far.

    `peaks` and `sums` are that highest one and the sum of shares so far, of each query; `factors` are what all before
    is to be multiplied by, in every lane.
    """
    apart = numbers_of(shares) // _ONE
    for i in range(rows):
        peak = max(highest(load(tops, i)) * scale, peaks[i])
        total_share = spread(np.float32(0))
        for key in range(count):
            one = load(scores, (key * BLOCK + i) * _WIDTH) * spread(scale) - spread(peak)
            two = load(scores, (key * BLOCK + i) * _WIDTH + 1) * spread(scale) - spread(peak)
            one = power_of_two(one) if coarse(shares) else fine_power_of_two(one)
            two = power_of_two(two) if coarse(shares) else fine_power_of_two(two)
            total_share = total_share + one + two
            store_line(shares, (i * apart + key) * BLOCK, one, two)
        factor = fine_power_of_two(spread(peaks[i] - peak))
        store(factors, i, factor)
        sums[i] = sums[i] * highest(factor) + total(total_share)
        peaks[i] = peak


@kernel()
def attend(
    queries: Array,
    at: int,
    stride: int,
    rows: int,
    heads: int,
    first_head: int,
    last_head: int,
    keys: Array,
    values: Array,
    blocks: int,
    block: int,
    frames: int,
    scale: np.float32,
    out: Array,
    to: int,
) -> None:
    """Write what rows of queries attend to, as factors, to rows of `out` from `to` on.

    Keys and values are taken `SPAN` blocks at a time, which stay in the second-level cache for all queries: Dao et al.,
    "FlashAttention: Fast and memory-efficient exact attention with IO-awareness", NeurIPS 2022, algorithm 1.

    Parameters
    ----------
    queries, at, stride, rows
        So many rows, which begin at `at`, `stride` numbers apart, as those of `out` do; in whole blocks there must be
        room to read them.
    heads, first_head, last_head
        How many there are, and those to attend with, without the last one.
    blocks, block
        Of keys and values in all, and the first of the clip's.
    frames
        Of the clip. What its last block has beyond them, which must be numbers, gets a share of 2^-126.
    scale
        Of the scores, times the logarithm of e to base 2.
    """
    parts = numbers_of(keys) // (heads * blocks * PACKED)
    count = (frames + BLOCK - 1) // BLOCK
    size = (min(count, SPAN) | 1) * _ONE  # rows of shares lie apart as `Factors.pitch` has it
    scores, shares = singles(size), room_like(queries, size)
    tops, factors, product = singles(BLOCK * SINGLES), singles(BLOCK * SINGLES), singles(_ONE)
    own = (rows + BLOCK - 1) // BLOCK
    found = singles(own * parts * _ONE)
    peaks, sums = np.empty((own, BLOCK), np.float32), np.empty((own, BLOCK), np.float32)
    begin(queries)
    for head in range(first_head, last_head):
        found[:] = 0
        peaks[:] = -np.inf
        sums[:] = 0
        for first in range(0, count, SPAN):
            span = min(SPAN, count - first)
            inside = min(span * BLOCK, frames - first * BLOCK)
            for m in range(own):
                here = min(BLOCK, rows - m * BLOCK)
                source = at + m * BLOCK * stride + head * parts * BLOCK
                packed = (head * blocks + block + first) * parts * PACKED
                _score(queries, source, stride, here, keys, packed, parts, inside, scores, tops)
                _share(scores, tops, scale, here, span, shares, peaks[m], sums[m], factors)
                for part in range(parts):
                    packed = ((head * parts + part) * blocks + block + first) * PACKED
                    multiply_block(shares, 0, size // BLOCK, here, 1, values, packed, span, product, 0)
                    for i in range(here):
                        for j in range(_WIDTH):
                            line = ((m * parts + part) * BLOCK + i) * _WIDTH + j
                            store(found, line, load(found, line) * load(factors, i) + load(product, i * _WIDTH + j))
        for m in range(own):
            for i in range(min(BLOCK, rows - m * BLOCK)):
                weight = spread(np.float32(1) / sums[m, i])
                for part in range(parts):
                    place, line = to + (m * BLOCK + i) * stride, ((m * parts + part) * BLOCK + i) * _WIDTH
                    one, two = load(found, line) * weight, load(found, line + 1) * weight
                    store_line(out, place + (head * parts + part) * BLOCK, one, two)
    end(queries)
