"""LayerNorm, whose results the products after it read as factors (`mertric.kernels.factors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.factors import store_line
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, store, total
from mertric.kernels.sizes import SINGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric.kernels.factors import Array


@kernel()
def normalize(
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    epsilon: np.float32,
    replace: bool,
    out: Array,
    to: int,
    stride: int,
) -> None:
    """Write the LayerNorm of `x` [rows, dim], as factors, and, to `replace` it, over `x`.

    Rows of `out` begin at `to` and are `stride` numbers apart.
    """
    rows, dim = x.shape
    width = dim // SINGLES
    share = np.float32(1 / dim)
    for row in range(rows):
        line = x[row]
        sums = spread(np.float32(0))
        for j in range(width):
            sums = sums + load(line, j)
        mean = spread(total(sums) * share)
        squares = spread(np.float32(0))
        for j in range(width):
            difference = load(line, j) - mean
            squares = squares + difference * difference
        scale = spread(np.float32(1) / np.sqrt(total(squares) * share + epsilon))
        for j in range(0, width, 2):
            first = (load(line, j) - mean) * scale * load(weight, j) + load(bias, j)
            second = (load(line, j + 1) - mean) * scale * load(weight, j + 1) + load(bias, j + 1)
            store_line(out, to + row * stride + j * SINGLES, first, second)
            if replace:
                store(line, j, first)
                store(line, j + 1, second)


@kernel()
def round_rows(x: NDArray[np.float32], out: Array, to: int, stride: int) -> None:
    """Write `x` [rows, dim] to rows of `out` from `to` on, `stride` numbers apart."""
    rows, dim = x.shape
    for row in range(rows):
        for j in range(0, dim // SINGLES, 2):
            store_line(out, to + row * stride + j * SINGLES, load(x[row], j), load(x[row], j + 1))
