"""Products of rows and packed weights in bfloat16, and what follows each of them, before it is rounded or stored.

Arrays in bfloat16 are [pieces, numbers], see `mertric.kernels.bfloat16`. Rows stand in them `stride` numbers apart, so
that they may overlap, as a convolution's do. Products take

- `a`, `at`, `stride`: the rows, bfloat16, and where the first begins;
- `taps`, `steps`: a row is so many runs of so many steps, each run half a stride after the one before;
- `rows`: how many, in blocks of `BLOCK`;
- `weight`: the packed second factor, see `pack`;
- `columns`: how many of its columns to compute, a multiple of `SINGLES`;
- `bias`: float32, for each of them;
- `activate`: whether the GELU follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.activations import fine_gelu, gelu
from mertric.kernels.bfloat16 import store_interleaved, store_lanes
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, store
from mertric.kernels.lines import empty, singles, zeros
from mertric.kernels.sizes import BLOCK, PACKED, SINGLES, STEP
from mertric.kernels.tiles import CONFIGURATION, begin, end, multiply_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Halves = NDArray[np.uint16]

_CACHED = 1 << 19
"""Numbers of rows that are multiplied by one block of columns after another: a megabyte, half a core's second-level
cache."""
_ONE = BLOCK * BLOCK
_WIDTH = BLOCK // SINGLES


def pack(matrix: Singles, pieces: int) -> Halves:
    """Return a matrix [in, out] in bfloat16, as second factor: [pieces, out / BLOCK * in / STEP * PACKED].

    What it lacks to whole steps and blocks is zero.
    """
    rows, columns = -(-matrix.shape[0] // STEP) * STEP, -(-matrix.shape[1] // BLOCK) * BLOCK
    if (rows, columns) == matrix.shape and matrix.flags.c_contiguous and matrix.flags.aligned:
        whole = matrix.view()
    else:
        whole = zeros((rows, columns), np.float32)
        whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    whole.flags.writeable = False  # mapped files are not, and one compiled version serves them all
    packed: Halves = empty((pieces, rows * columns), np.uint16)
    _pack(whole, packed)
    return packed


@kernel()
def _pack(matrix: Singles, packed: Halves) -> None:
    steps, width = matrix.shape[0] // STEP, matrix.shape[1] // SINGLES
    for step in range(steps):
        for j in range(width):
            n, tile = j // _WIDTH, j % _WIDTH
            to = ((n * steps + step) * _WIDTH + tile) * (STEP // 2)
            for pair in range(STEP // 2):
                line = (step * STEP + 2 * pair) * width + j
                store_interleaved(packed, to + pair, load(matrix, line), load(matrix, line + width))


@kernel()
def _group(rows: int, steps: int, pieces: int) -> int:
    """Blocks of rows to take at once."""
    return max(1, min(rows, _CACHED // (BLOCK * STEP * steps * pieces)))


@kernel()
def dense_narrow(
    a: Halves,
    at: int,
    stride: int,
    taps: int,
    steps: int,
    rows: int,
    weight: Halves,
    columns: int,
    bias: Singles,
    activate: bool,
    mean: Singles,
    out: Halves,
    to: int,
    out_stride: int,
) -> None:
    """Write a product, less a mean, in bfloat16, to rows of `out` from `to` on."""
    product, inner = singles(_ONE), taps * steps
    begin(CONFIGURATION)
    group = _group(rows, inner, a.shape[0])
    for start in range(0, rows, group):
        for n in range((columns + BLOCK - 1) // BLOCK):
            for m in range(start, min(start + group, rows)):
                begins = at + m * BLOCK * stride
                multiply_block(a, begins, stride, taps, weight, n * inner * PACKED, steps, product, 0)
                for i in range(BLOCK):
                    line = (to + (m * BLOCK + i) * out_stride) // SINGLES
                    for j in range(n * _WIDTH, min((n + 1) * _WIDTH, columns // SINGLES)):
                        value = load(product, i * _WIDTH + j - n * _WIDTH) + load(bias, j)
                        if activate:
                            value = gelu(value) if out.shape[0] == 1 else fine_gelu(value)
                        store_lanes(out, line + j, value - load(mean, j))
    end()


@kernel()
def dense_add(
    a: Halves,
    at: int,
    stride: int,
    taps: int,
    steps: int,
    rows: int,
    weight: Halves,
    columns: int,
    bias: Singles,
    activate: bool,
    out: Singles,
    to: int,
    out_stride: int,
) -> None:
    """Add a product to rows of `out` from `to` on, in float32."""
    product, inner = singles(_ONE), taps * steps
    begin(CONFIGURATION)
    group = _group(rows, inner, a.shape[0])
    for start in range(0, rows, group):
        for n in range((columns + BLOCK - 1) // BLOCK):
            for m in range(start, min(start + group, rows)):
                begins = at + m * BLOCK * stride
                multiply_block(a, begins, stride, taps, weight, n * inner * PACKED, steps, product, 0)
                for i in range(BLOCK):
                    line = (to + (m * BLOCK + i) * out_stride) // SINGLES
                    for j in range(n * _WIDTH, min((n + 1) * _WIDTH, columns // SINGLES)):
                        value = load(product, i * _WIDTH + j - n * _WIDTH) + load(bias, j)
                        if activate:
                            value = gelu(value) if a.shape[0] == 1 else fine_gelu(value)
                        store(out, line + j, load(out, line + j) + value)
    end()
