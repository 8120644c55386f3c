"""Products of small or narrow matrices, on parts of arrays where they lie, in the calling thread.

A BLAS copies its operands into an order of its own first. Where one side is only 8 to 32 wide that takes as
long as the product; here tiles of the result stay in registers and the operands are read in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, store
from mertric.kernels.sizes import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 8  # of the result in registers at once
DEPTH = 32  # terms added up before the result goes back to memory: so many rows of b stay in the cache


def _example() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    return np.zeros((16, 24))[:8, :24], np.zeros((8, 5))[:, :4], np.zeros((4, 25))[:, :24], 1.0


@kernel(example=_example)
def add_product(c: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], factor: float) -> None:
    """c += factor * a b.

    Parameters
    ----------
    c : float64 [rows, columns], multiples of `ROWS` and `LANES`; changed in place
    a : float64 [rows, n]
    b : float64 [n, columns]
        Elements of a row of `b` and of `c` lie side by side; rows may lie apart.
    """
    rows, columns = c.shape
    for k in range(0, a.shape[1], DEPTH):
        end = min(k + DEPTH, a.shape[1])
        for i in range(0, rows, ROWS):
            for j in range(0, columns - LANES, 2 * LANES):
                _wide_tile(c[i : i + ROWS, j:], a[i : i + ROWS, k:end], b[k:end, j:], factor)
            if columns % (2 * LANES):
                j = columns - LANES
                _tile(c[i : i + ROWS, j:], a[i : i + ROWS, k:end], b[k:end, j:], factor)


@kernel()
def _tile(c: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], factor: float) -> None:
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = spread(0.0)
    for k in range(a.shape[1]):
        x = load(b[k], 0)
        s0 = s0 + spread(a[0, k]) * x
        s1 = s1 + spread(a[1, k]) * x
        s2 = s2 + spread(a[2, k]) * x
        s3 = s3 + spread(a[3, k]) * x
        s4 = s4 + spread(a[4, k]) * x
        s5 = s5 + spread(a[5, k]) * x
        s6 = s6 + spread(a[6, k]) * x
        s7 = s7 + spread(a[7, k]) * x
    _add(c, 0, factor, s0, s1, s2, s3, s4, s5, s6, s7)


@kernel()
def _wide_tile(c: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], factor: float) -> None:
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = spread(0.0)
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = spread(0.0)
    for k in range(a.shape[1]):
        x, y = load(b[k], 0), load(b[k], 1)
        a0, a1, a2, a3 = spread(a[0, k]), spread(a[1, k]), spread(a[2, k]), spread(a[3, k])
        a4, a5, a6, a7 = spread(a[4, k]), spread(a[5, k]), spread(a[6, k]), spread(a[7, k])
        s0, t0 = s0 + a0 * x, t0 + a0 * y
        s1, t1 = s1 + a1 * x, t1 + a1 * y
        s2, t2 = s2 + a2 * x, t2 + a2 * y
        s3, t3 = s3 + a3 * x, t3 + a3 * y
        s4, t4 = s4 + a4 * x, t4 + a4 * y
        s5, t5 = s5 + a5 * x, t5 + a5 * y
        s6, t6 = s6 + a6 * x, t6 + a6 * y
        s7, t7 = s7 + a7 * x, t7 + a7 * y
    _add(c, 0, factor, s0, s1, s2, s3, s4, s5, s6, s7)
    _add(c, 1, factor, t0, t1, t2, t3, t4, t5, t6, t7)


@kernel()
def _add(
    c: NDArray[np.float64],
    place: int,
    factor: float,
    s0: float,
    s1: float,
    s2: float,
    s3: float,
    s4: float,
    s5: float,
    s6: float,
    s7: float,
) -> None:
    by = spread(factor)
    store(c[0], place, load(c[0], place) + by * s0)
    store(c[1], place, load(c[1], place) + by * s1)
    store(c[2], place, load(c[2], place) + by * s2)
    store(c[3], place, load(c[3], place) + by * s3)
    store(c[4], place, load(c[4], place) + by * s4)
    store(c[5], place, load(c[5], place) + by * s5)
    store(c[6], place, load(c[6], place) + by * s6)
    store(c[7], place, load(c[7], place) + by * s7)
