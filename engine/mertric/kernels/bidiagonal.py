"""Reduction of a matrix to bidiagonal form, with one pass over it a step.

LAPACK's `gebrd` reads the trailing matrix twice a step. Here the pending rank-two update and the products
with the step's two reflectors share one pass over each row, which stays in the first-level cache (Howell,
Demmel, Fulton, Hammarling & Marmol, "Cache efficient bidiagonalization using BLAS 2.5 operators", ACM TOMS
34, 2008). No threads: pairs run side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 4  # rows that one sweep takes together


def _example() -> tuple[NDArray[np.float64]]:
    return (np.pad(np.eye(5, 6), ((0, ROWS), (0, 0))),)


@kernel(example=_example)
def bidiagonalise(a: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diagonal and superdiagonal of a bidiagonal matrix with the singular values of `a`.

    Householder reflections from both sides (Golub & Kahan 1965): aᵀ = Q B Pᵀ with B upper bidiagonal.

    Parameters
    ----------
    a : float64 [rows + ROWS, columns], rows <= columns
        The last `ROWS` rows are zero: they spare the sweep its remainder. Overwritten.

    Returns
    -------
    diagonal, above : float64 [rows]
        The last element of `above` is zero.
    """
    rows, columns = a.shape[0] - ROWS, a.shape[1]
    diagonal, above = np.zeros(rows), np.zeros(rows)
    # Pending: row j of `a` still has to lose w[j] u + v[j] z.
    u, z, q, y = np.zeros(columns), np.zeros(columns), np.zeros(columns), np.zeros(columns)
    w, v, x = np.zeros(rows + ROWS), np.zeros(rows + ROWS), np.zeros(rows + ROWS)
    for k in range(rows):
        _settle(a[k, k:], w[k], u[k:], v[k], z[k:])
        diagonal[k], scale, tau = _reflector(a[k, k:])
        q[k:] = a[k, k:] * scale
        q[k] = 1.0
        if k + 1 == rows:
            break
        y[k:] = 0.0
        for j in range(k + 1, rows, ROWS):
            a0, a1, a2, a3 = a[j, k:], a[j + 1, k:], a[j + 2, k:], a[j + 3, k:]
            _sweep(a0, a1, a2, a3, u[k:], z[k:], q[k:], y[k:], w[j:], v[j:], x[j:], tau)
        u[k:] = q[k:]
        above[k], scale, tau = _reflector(x[k + 1 : rows])
        overlap = 0.0
        for j in range(k + 1, rows):
            v[j] = x[j] * scale
        v[k + 1] = 1.0
        for j in range(k + 1, rows):
            overlap += v[j] * w[j]
            v[j] *= tau
        _row_product(z[k:], y[k:], a[k + 1, k:], q[k:], scale, scale * above[k], overlap)
    return diagonal, above


@kernel()
def _settle(row: NDArray[np.float64], w: float, u: NDArray[np.float64], v: float, z: NDArray[np.float64]) -> None:
    for i in range(row.size):
        row[i] -= w * u[i] + v * z[i]


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
def _sweep(
    a0: NDArray[np.float64],
    a1: NDArray[np.float64],
    a2: NDArray[np.float64],
    a3: NDArray[np.float64],
    u: NDArray[np.float64],
    z: NDArray[np.float64],
    q: NDArray[np.float64],
    y: NDArray[np.float64],
    w: NDArray[np.float64],
    v: NDArray[np.float64],
    x: NDArray[np.float64],
    tau: float,
) -> None:
    """For four rows: settle what is pending, w = tau a q, x = first column reflected, y += aᵀ x."""
    s0, s1, s2, s3 = _update(a0, a1, a2, a3, u, z, q, w, v)
    w[0], w[1], w[2], w[3] = tau * s0, tau * s1, tau * s2, tau * s3
    x[0], x[1], x[2], x[3] = a0[0] - w[0], a1[0] - w[1], a2[0] - w[2], a3[0] - w[3]
    _accumulate(y, a0, a1, a2, a3, x[0], x[1], x[2], x[3])


@kernel()
def _update(
    a0: NDArray[np.float64],
    a1: NDArray[np.float64],
    a2: NDArray[np.float64],
    a3: NDArray[np.float64],
    u: NDArray[np.float64],
    z: NDArray[np.float64],
    q: NDArray[np.float64],
    w: NDArray[np.float64],
    v: NDArray[np.float64],
) -> tuple[float, float, float, float]:
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    v0, v1, v2, v3 = v[0], v[1], v[2], v[3]
    s0 = s1 = s2 = s3 = 0.0
    for i in range(u.size):
        b0 = a0[i] - w0 * u[i] - v0 * z[i]
        b1 = a1[i] - w1 * u[i] - v1 * z[i]
        b2 = a2[i] - w2 * u[i] - v2 * z[i]
        b3 = a3[i] - w3 * u[i] - v3 * z[i]
        s0 += b0 * q[i]
        s1 += b1 * q[i]
        s2 += b2 * q[i]
        s3 += b3 * q[i]
        a0[i] = b0
        a1[i] = b1
        a2[i] = b2
        a3[i] = b3
    return s0, s1, s2, s3


@kernel()
def _accumulate(
    y: NDArray[np.float64],
    a0: NDArray[np.float64],
    a1: NDArray[np.float64],
    a2: NDArray[np.float64],
    a3: NDArray[np.float64],
    x0: float,
    x1: float,
    x2: float,
    x3: float,
) -> None:
    for i in range(y.size):
        y[i] += x0 * a0[i] + x1 * a1[i] + x2 * a2[i] + x3 * a3[i]


@kernel()
def _row_product(
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    first: NDArray[np.float64],
    q: NDArray[np.float64],
    scale: float,
    shift: float,
    overlap: float,
) -> None:
    """z = aᵀ v of the reflected a, from y = aᵀ x and v = scale * (x - beta e1)."""
    for i in range(z.size):
        z[i] = scale * y[i] - shift * first[i] - overlap * q[i]
