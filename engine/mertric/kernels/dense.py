"""Products of rows and packed weights, and what follows each of them, before it is rounded or stored.

Rows stand in arrays of factors (`mertric.kernels.factors`) `stride` numbers apart, so that they may overlap, as a
convolution's do. Products take

- `a`, `at`, `stride`: the rows, and where the first begins;
- `taps`, `steps`: a row is so many runs of so many steps, each run half a stride after the one before;
- `rows`: how many; in whole blocks there must be room to read them;
- `weight`: the packed second factor, see `pack`;
- `first`, `last`: the columns to compute, without the last one; multiples of `BLOCK`;
- `bias`: float32, for each of them;
- `activate`: whether the GELU follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.activations import fine_gelu, gelu
from mertric.kernels.factors import begin, coarse, end, multiply_block, pack_block, store_line
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, store
from mertric.kernels.lines import singles, zeros
from mertric.kernels.sizes import BLOCK, PACKED, SINGLES, STEP

if TYPE_CHECKING:
    from mertric.kernels.factors import Array, Factors, Singles

_CACHED = 1 << 20
"""Bytes of rows that are multiplied by one block of columns after another: half a core's second-level cache, of AMX's
processors."""
_ONE = BLOCK * BLOCK
_WIDTH = BLOCK // SINGLES


def pack(matrix: Singles, factors: Factors) -> Array:
    """Return a matrix [in, out] as second factor: [pieces, out / BLOCK * in / STEP * PACKED].

    What it lacks to whole steps and blocks is zero.
    """
    rows, columns = -(-matrix.shape[0] // STEP) * STEP, -(-matrix.shape[1] // BLOCK) * BLOCK
    if (rows, columns) == matrix.shape and matrix.flags.c_contiguous and matrix.flags.aligned:
        whole = matrix.view()
    else:
        whole = zeros((rows, columns), np.float32)
        whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    whole.flags.writeable = False  # mapped files are not, and one compiled version serves them all
    packed = factors.empty(rows * columns)
    _pack(whole, packed)
    return packed


@kernel()
def _pack(matrix: Singles, packed: Array) -> None:
    rows, columns = matrix.shape
    steps = rows // STEP
    for step in range(steps):
        for n in range(columns // BLOCK):
            pack_block(packed, (n * steps + step) * PACKED, matrix, step * STEP * columns + n * BLOCK, columns)


@kernel()
def _group(blocks: int, steps: int, size: int) -> int:
    """Blocks of rows to take at once."""
    return max(1, min(blocks, _CACHED // (BLOCK * STEP * steps * size)))


@kernel()
def multiply_blocks(
    a: Array,
    at: int,
    stride: int,
    taps: int,
    steps: int,
    rows: int,
    weight: Array,
    m: int,
    n: int,
    product: Singles,
) -> int:
    """Write the product of block `m` of rows and block `n` of columns, [32, 32], and return how many rows it has."""
    inside = min(BLOCK, rows - m * BLOCK)
    begins, packed = at + m * BLOCK * stride, n * taps * steps * PACKED
    multiply_block(a, begins, stride, inside, taps, weight, packed, steps, product, 0)
    return inside


@kernel()
def dense_narrow(
    a: Array,
    at: int,
    stride: int,
    taps: int,
    steps: int,
    rows: int,
    weight: Array,
    first: int,
    last: int,
    bias: Singles,
    activate: bool,
    mean: Singles,
    out: Array,
    to: int,
    out_stride: int,
) -> None:
    """Write a product, less a mean, as factors, to rows of `out` from `to` on."""
    product, inner = singles(_ONE), taps * steps
    begin(a)
    blocks = (rows + BLOCK - 1) // BLOCK
    group = _group(blocks, inner, a.shape[0] * a.itemsize)
    for start in range(0, blocks, group):
        for n in range(first // BLOCK, last // BLOCK):
            for m in range(start, min(start + group, blocks)):
                for i in range(multiply_blocks(a, at, stride, taps, steps, rows, weight, m, n, product)):
                    one = load(product, 2 * i) + load(bias, 2 * n)
                    two = load(product, 2 * i + 1) + load(bias, 2 * n + 1)
                    if activate:
                        one = gelu(one) if coarse(out) else fine_gelu(one)
                        two = gelu(two) if coarse(out) else fine_gelu(two)
                    place = to + (m * BLOCK + i) * out_stride + n * BLOCK
                    store_line(out, place, one - load(mean, 2 * n), two - load(mean, 2 * n + 1))
    end(a)


@kernel()
def dense_add(
    a: Array,
    at: int,
    stride: int,
    taps: int,
    steps: int,
    rows: int,
    weight: Array,
    first: int,
    last: int,
    bias: Singles,
    activate: bool,
    out: Singles,
    to: int,
    out_stride: int,
) -> None:
    """Add a product to rows of `out` from `to` on, in float32."""
    product, inner = singles(_ONE), taps * steps
    begin(a)
    blocks = (rows + BLOCK - 1) // BLOCK
    group = _group(blocks, inner, a.shape[0] * a.itemsize)
    for start in range(0, blocks, group):
        for n in range(first // BLOCK, last // BLOCK):
            for m in range(start, min(start + group, blocks)):
                for i in range(multiply_blocks(a, at, stride, taps, steps, rows, weight, m, n, product)):
                    line = (to + (m * BLOCK + i) * out_stride) // SINGLES
                    for j in range(n * _WIDTH, (n + 1) * _WIDTH):
                        value = load(product, i * _WIDTH + j - n * _WIDTH) + load(bias, j)
                        if activate:
                            value = gelu(value) if coarse(a) else fine_gelu(value)
                        store(out, line + j, load(out, line + j) + value)
    end(a)
