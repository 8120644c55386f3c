"""The triangular factor of many frames, some of them at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.copies import copy
from mertric.kernels.jit import kernel
from mertric.kernels.multiply import ROWS, add_product
from mertric.kernels.panel import reflect_panel

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 16  # columns of the factor that are reflected together


def _example() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.zeros((WIDTH, WIDTH)), np.zeros((WIDTH, 8))


@kernel(example=_example)
def absorb(lower: NDArray[np.float64], frames: NDArray[np.float64]) -> None:
    """L becomes the lower triangle L' with L' L'ᵀ = L Lᵀ + F Fᵀ, by block reflections of [L F] from the right.

    Neither product is formed, so no condition is squared. Only `WIDTH` columns of L meet a reflection: the
    structure of LAPACK's `tpqrt` (Demmel, Grigori, Hoemmen & Langou, "Communication-optimal parallel and
    sequential QR and LU factorizations", SIAM J. Sci. Comput. 34, 2012, §4).

    Parameters
    ----------
    lower : float64 [dim, dim], a multiple of `WIDTH`; overwritten
        Above the diagonal it is zero.
    frames : float64 [dim, n], n a multiple of 8; overwritten
        A frame a column.
    """
    dim, n = frames.shape
    panel, v = np.empty((WIDTH, WIDTH + n)), np.empty((WIDTH, WIDTH + n))
    across, scaled = np.empty((WIDTH + n, WIDTH)), np.empty((WIDTH + n, WIDTH))
    t, upper, part = np.empty((WIDTH, WIDTH)), np.empty((WIDTH, WIDTH)), np.empty((ROWS, WIDTH))
    for k in range(0, dim, WIDTH):
        end = k + WIDTH
        copy(lower[k:end, k:end], panel[:, :WIDTH])
        copy(frames[k:end], panel[:, WIDTH:])
        reflect_panel(panel[:, : WIDTH + n], v[:, : WIDTH + n], across[:, :WIDTH], t)
        copy(panel[:, :WIDTH], lower[k:end, k:end])
        copy(t.T, upper)
        scaled[:] = 0.0
        add_product(scaled[:, :WIDTH], across[:, :WIDTH], upper[:, :WIDTH], 1.0)
        for i in range(end, dim, ROWS):  # rows stay in the cache between both products
            old, new = lower[i : i + ROWS, k:end], frames[i : i + ROWS, :n]
            part[:] = 0.0
            add_product(part[:, :WIDTH], old, scaled[:WIDTH, :WIDTH], 1.0)
            add_product(part[:, :WIDTH], new, scaled[WIDTH:, :WIDTH], 1.0)
            add_product(old, part[:, :WIDTH], v[:, :WIDTH], -1.0)
            add_product(new, part[:, :WIDTH], v[:, WIDTH:], -1.0)
