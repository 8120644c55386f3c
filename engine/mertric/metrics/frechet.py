"""Fréchet Audio Distance of two embeddings, exactly: a nuclear norm instead of a matrix square root.

Between Gaussians with means m and covariances C (Dowson & Landau 1982, eq. 16; Kilgour et al. 2019, eq. 1),

    FAD = |m1 - m2|² + tr C1 + tr C2 - 2 tr (C1 C2)^½.

With C1 = AᵀA and C2 = BᵀB, tr (C1 C2)^½ is the sum of the singular values of A Bᵀ: the eigenvalues of
AᵀA BᵀB are those of (A Bᵀ)(A Bᵀ)ᵀ. With the centred frames, over sqrt(frames - 1), for A and B, no
covariance is formed, and neither rank nor condition matters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import blas

from mertric.kernels.band import reduce_to_band
from mertric.kernels.nuclear import NODES, band_log_determinants, quadrature, tail
from mertric.kernels.sizes import LANES
from mertric.metrics.parallel import in_halves, side_by_side
from mertric.metrics.prepared import PreparedEmbedding, prepare, whole
from mertric.metrics.validation import same_dim

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WIDTH = 8
"""Diagonals below the main one of the band: more would cost more in the quadrature than they save before it."""
FEW = 128
"""Rows of a product on which another thread is not worth its start."""
SMALL = 100_000
"""Numbers in an embedding that is prepared in less time than another thread takes to start."""
CLOSE = 1e-4
"""Below this distance, as a part of sqrt(tr C1 tr C2), cancellation is worth the cost of avoiding."""


def frechet_distance(x: ArrayLike | PreparedEmbedding, y: ArrayLike | PreparedEmbedding) -> float:
    """Fréchet Audio Distance of two embeddings.

    Parameters
    ----------
    x, y : array [frames, dim], or PreparedEmbedding
        float16, float32 or float64, any strides; at least two frames each, not necessarily as many.
        Prepare one that is used again (`mertric.metrics.prepared.prepare`).

    Returns
    -------
    float
        In squared units of the embeddings, 0 or above; float64 arithmetic whatever the input. Symmetric to rounding
        and invariant to the order of frames. Of embeddings whose means and roots are equal to the bit it
        is 0.

    Raises
    ------
    InputError
        Not [frames, dim], different dim, fewer than two frames, NaN or infinity.

    References
    ----------
    Dowson & Landau, "The Fréchet distance between multivariate normal distributions", 1982, eq. 16.
    Kilgour, Zuluaga, Roblek & Sharifi, "Fréchet Audio Distance", Interspeech 2019, eq. 1.
    """
    worth = min(_unprepared(x), _unprepared(y)) > SMALL
    first, second = side_by_side(lambda: _prepared(x, "x"), lambda: _prepared(y, "y"), worth=worth)
    same_dim(first.dim, second.dim, "x", "y")
    return distance(first, second)


def load_kernels() -> None:
    """Compile what distances need, or read it from disk: some seconds once on a machine, in any thread."""
    for frames, dim in ((2, 3), (6, 3), (24, 16)):  # short, long, and long without a remainder
        x = np.eye(frames, dim, dtype=np.float16)
        x[:, 0] = x[:, 1]  # too ill-conditioned for Cholesky
        frechet_distance(x, -x)


def _prepared(x: ArrayLike | PreparedEmbedding, name: str) -> PreparedEmbedding:
    return x if isinstance(x, PreparedEmbedding) else prepare(x, name=name)


def _unprepared(x: ArrayLike | PreparedEmbedding) -> int:
    return x.size if isinstance(x, np.ndarray) else 0


def distance(x: PreparedEmbedding, y: PreparedEmbedding) -> float:
    """The same of two prepared embeddings of one dim.

    FAD = |m1 - m2|² + (sqrt(t1) - sqrt(t2))² + 2 sqrt(t1 t2) (1 - nu), with t the traces and nu the nuclear
    norm of the product of both roots scaled to unit Frobenius norm; each term is 0 or above.
    """
    gap = (x.mean[0] - y.mean[0]) + (x.mean[1] - y.mean[1])
    apart = float(gap @ gap) + (math.sqrt(x.trace) - math.sqrt(y.trace)) ** 2
    cross = math.sqrt(x.trace) * math.sqrt(y.trace)
    if cross == 0.0:
        return apart
    shortfall = max(0.0, 1.0 - _nuclear_norm(x, y))
    if apart + 2.0 * cross * shortfall < CLOSE * cross:
        shortfall = _shortfall(x, y)
    return apart + 2.0 * cross * shortfall


def _nuclear_norm(x: PreparedEmbedding, y: PreparedEmbedding) -> float:
    """Sum of the singular values of x.root y.rootᵀ, over the roots' Frobenius norms: between 0 and 1."""
    few, many = (x, y) if len(x.root) <= len(y.root) else (y, x)
    rows, columns = whole(len(few.root), WIDTH), whole(len(many.root), LANES)
    product = np.zeros((rows, max(rows, columns)))  # rows and columns of zeros add singular values of zero
    norm = math.sqrt(x.squares) * math.sqrt(y.squares)

    def multiply(part: slice) -> None:
        out = product[: len(few.root), : len(many.root)][part]
        if few.triangular and many.triangular:
            out[:] = blas.dtrmm(1.0 / norm, many.root, few.root[part], side=1, trans_a=1)
        else:
            np.matmul(few.root[part], many.root.T, out=out)
            out /= norm

    in_halves(multiply, len(few.root), worth=len(few.root) > FEW)
    return nuclear_norm(product)


def nuclear_norm(a: NDArray[np.float64]) -> float:
    """Sum of the singular values of a matrix, each at most 1.

    With lambda the eigenvalues of AᵀA, sum sqrt(lambda) = 1/pi ∫ log det (I + AᵀA / t²) dt over t > 0: by
    parts from sqrt(lambda) = 2/pi ∫ lambda / (lambda + t²) dt (Higham, Functions of Matrices, 2008, eq. 5.3).

    Parameters
    ----------
    a : float64 [rows, columns], rows <= columns, both multiples of 8
        Overwritten.
    """
    diagonal, below = reduce_to_band(a, WIDTH)
    t, weights = quadrature()

    def integral(nodes: slice) -> float:
        return float(band_log_determinants(diagonal, below, t[nodes], weights[nodes]))

    return (sum(in_halves(integral, NODES, worth=len(a) > FEW)) + tail(diagonal, below)) / math.pi


def _shortfall(x: PreparedEmbedding, y: PreparedEmbedding) -> float:
    """1 - nu without cancellation, for embeddings that are nearly alike.

    1 - nu = ½ min |A - W B|² over W with orthonormal rows (the orthogonal Procrustes problem, Schönemann
    1966): a sum of squares of what differs. The best W is U Vᵀ of the singular vectors of A Bᵀ, and an
    error in it counts only in the second order.
    """
    few, many = (x, y) if len(x.root) <= len(y.root) else (y, x)
    a, b = few.root / math.sqrt(few.squares), many.root / math.sqrt(many.squares)
    if np.array_equal(a, b):
        return 0.0  # not what the singular vectors' rounding leaves
    left, _, right = np.linalg.svd(a @ b.T, full_matrices=False)
    turned = right @ b
    outside = b - right.T @ turned
    return 0.5 * (_sum_of_squares(left.T @ a - turned) + _sum_of_squares(outside))


def _sum_of_squares(a: NDArray[np.float64]) -> float:
    return float(np.vdot(a, a))
