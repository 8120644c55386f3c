"""LayerNorm, whose results the products after it read in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.bfloat16 import store_lanes
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, store, total
from mertric.kernels.sizes import SINGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def normalize(
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    epsilon: np.float32,
    replace: bool,
    out: NDArray[np.uint16],
    to: int,
    stride: int,
) -> None:
    """Write the LayerNorm of `x` [rows, dim], in bfloat16, and, to `replace` it, over `x`.

    Rows of `out` begin at `to` and are `stride` numbers apart.
    """
    rows, dim = x.shape
    width = dim // SINGLES
    share = np.float32(1 / dim)
    for row in range(rows):
        line, narrow = x[row], (to + row * stride) // SINGLES
        sums = spread(np.float32(0))
        for j in range(width):
            sums = sums + load(line, j)
        mean = spread(total(sums) * share)
        squares = spread(np.float32(0))
        for j in range(width):
            difference = load(line, j) - mean
            squares = squares + difference * difference
        scale = spread(np.float32(1) / np.sqrt(total(squares) * share + epsilon))
        for j in range(width):
            value = (load(line, j) - mean) * scale * load(weight, j) + load(bias, j)
            store_lanes(out, narrow + j, value)
            if replace:
                store(line, j, value)


@kernel()
def round_rows(x: NDArray[np.float32], out: NDArray[np.uint16], to: int, stride: int) -> None:
    """Write `x` [rows, dim] to rows of `out` from `to` on, `stride` numbers apart, in bfloat16."""
    rows, dim = x.shape
    for row in range(rows):
        line, narrow = x[row], (to + row * stride) // SINGLES
        for j in range(dim // SINGLES):
            store_lanes(out, narrow + j, load(line, j))
