"""Reduction of a matrix to a band, almost all of it in matrix products.

A reduction to two diagonals spends half its time in products of matrix and vector, at the speed of memory.
One to a band of `width` diagonals reflects `width` rows and columns at once (Großer & Lang, "Efficient
parallel reduction to bidiagonal form", Parallel Computing 25, 1999, the first of their two stages).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.copies import copy
from mertric.kernels.jit import kernel
from mertric.kernels.multiply import add_product
from mertric.kernels.panel import reflect_panel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _example() -> tuple[NDArray[np.float64], int]:
    return np.eye(16, 24), 8


@kernel(example=_example)
def reduce_to_band(a: NDArray[np.float64], width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Blocks of a banded matrix with the singular values of `a`.

    Block reflections from the right leave a lower triangle of each block of rows, those from the left an upper
    triangle of the block of columns below it. The rest C becomes (I - V S Vᵀ)ᵀ C (I - Y T Yᵀ), which is
    C - [W V] [Y Z]ᵀ with W = C Y T and Z = (C - W Yᵀ)ᵀ V S.

    Parameters
    ----------
    a : float64 [rows, columns], rows <= columns, rows a multiple of `width`, columns one of 8
        Overwritten.
    width : int
        Number of diagonals below the main one, a multiple of 8.

    Returns
    -------
    diagonal, below : float64 [rows / width, width, width]
        Lower triangular blocks on the diagonal, and upper triangular blocks to the left of those, of which
        the first is zero.
    """
    rows, columns = a.shape
    diagonal = np.zeros((rows // width, width, width))
    below = np.zeros((rows // width, width, width))
    right = np.empty((2 * width, columns))  # Yᵀ over Zᵀ
    left = np.empty((rows, 2 * width))  # W beside V
    y, ty = np.empty((columns, width)), np.empty((columns, width))
    v, edge, inner = np.empty((width, rows)), np.empty((width, rows)), np.empty((width, columns))
    t, small = np.empty((width, width)), np.empty((width, width))
    for k in range(0, rows, width):
        block, end = k // width, k + width
        reflect_panel(a[k:end, k:], right[:width, k:], y[k:, :width], t)
        copy(a[k:end, k:end], diagonal[block])
        if end == rows:
            break
        w, rest = left[end:, :width], a[end:, end:]
        copy(t.T, small)
        _set_product(ty[k:, :width], y[k:, :width], small[:, :width])
        _set_product(w, a[end:, k:], ty[k:, :width])
        add_product(a[end:, k:end], w, right[:width, k:end], -1.0)
        copy(a[end:, k:end].T, edge[:, end:])
        reflect_panel(edge[:, end:], v[:, end:], left[end:, width:], t)
        copy(edge[:, end : end + width].T, below[block + 1])
        _set_product(inner[:, end:], v[:, end:], rest)
        _set_product(small[:, :width], v[:, end:], w)
        add_product(inner[:, end:], small[:, :width], right[:width, end:], -1.0)
        _set_product(right[width:, end:], t[:, :width], inner[:, end:])
        add_product(rest, left[end:, : 2 * width], right[:, end:], -1.0)
    return diagonal, below


@kernel()
def _set_product(c: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    c[:] = 0.0
    add_product(c, a, b, 1.0)
