"""Block reflections: the QR decomposition of a few columns, each of which lies in memory as a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.copies import copy
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, spread, store, total
from mertric.kernels.multiply import add_product
from mertric.kernels.sizes import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 4  # reflected together


def _example() -> tuple[NDArray[np.float64], ...]:
    part = np.zeros((8, 24))[:, 8:]
    return part, part.copy()[:, :16], np.empty((16, 16))[:, 8:], np.empty((8, 8))


@kernel(example=_example)
def reflect_panel(
    panel: NDArray[np.float64],
    v: NDArray[np.float64],
    across: NDArray[np.float64],
    t: NDArray[np.float64],
) -> None:
    """panel = [L 0] (I - V T Vᵀ)ᵀ with a lower triangle L, by Householder reflections and their compact form.

    Schreiber & Van Loan, "A storage-efficient WY representation for products of Householder transformations",
    SIAM J. Sci. Stat. Comput. 10, 1989, eq. 2.

    Parameters
    ----------
    panel : float64 [width, n], width and n multiples of 8, n >= width
        Overwritten by [L 0].
    v : float64 [width, n]
        Vᵀ, written.
    across : float64 [n, width]
        V, written.
    t : float64 [width, width]
        Tᵀ, lower triangular, written.
    """
    width = panel.shape[0]
    t[:] = 0.0
    for p in range(width):
        beta, scale, t[p, p] = _reflector(panel[p, p:])
        v[p, :p] = 0.0
        v[p, p] = 1.0
        for k in range(p + 1, panel.shape[1]):
            v[p, k] = panel[p, k] * scale
        for i in range((p + 1) // ROWS * ROWS, width, ROWS):  # rows before p are zero where v is not
            _reflect_rows(panel[i], panel[i + 1], panel[i + 2], panel[i + 3], v[p], t[p, p])
        panel[p, p] = beta
        panel[p, p + 1 :] = 0.0
    copy(v.T, across)
    overlaps = np.zeros((width, width))
    add_product(overlaps[:, :width], v, across, 1.0)
    for p in range(1, width):
        for q in range(p):
            product = 0.0
            for k in range(q, p):
                product += t[k, q] * overlaps[k, p]
            t[p, q] = -t[p, p] * product


@kernel()
def _reflector(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    """beta, scale, tau: (I - tau h hᵀ) vector = beta e1 for h = scale * vector save for h[0] = 1."""
    squares = 0.0
    for i in range(vector.size):
        squares += vector[i] * vector[i]
    if squares == 0.0:
        return 0.0, 0.0, 0.0
    beta = -np.sqrt(squares) if vector[0] >= 0.0 else np.sqrt(squares)
    return beta, 1.0 / (vector[0] - beta), (beta - vector[0]) / beta


@kernel()
def _reflect_rows(
    a0: NDArray[np.float64],
    a1: NDArray[np.float64],
    a2: NDArray[np.float64],
    a3: NDArray[np.float64],
    v: NDArray[np.float64],
    tau: float,
) -> None:
    """a -= tau (a . v) v for each of four rows."""
    s0 = s1 = s2 = s3 = spread(0.0)
    for i in range(v.size // LANES):
        x = load(v, i)
        s0, s1 = s0 + load(a0, i) * x, s1 + load(a1, i) * x
        s2, s3 = s2 + load(a2, i) * x, s3 + load(a3, i) * x
    s0, s1 = spread(tau * total(s0)), spread(tau * total(s1))
    s2, s3 = spread(tau * total(s2)), spread(tau * total(s3))
    for i in range(v.size // LANES):
        x = load(v, i)
        store(a0, i, load(a0, i) - s0 * x)
        store(a1, i, load(a1, i) - s1 * x)
        store(a2, i, load(a2, i) - s2 * x)
        store(a3, i, load(a3, i) - s3 * x)
