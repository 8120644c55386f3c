"""What a Fréchet distance needs of one embedding, computed once however many it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import blas, lapack

from mertric.kernels.moments import centre, frame_mean
from mertric.kernels.sizes import LANES
from mertric.kernels.triangular import WIDTH, absorb
from mertric.metrics.validation import embedding, require_finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mertric.metrics.validation import Frames

BLOCK = 512
"""Frames centred at a time where they outnumber dimensions: what is centred is still in the cache when used."""
ABSORBED = 256
"""Frames that the triangular factor takes in at a time: they stay in the second-level cache."""
LEAST_RCOND = 1e-10
"""Reciprocal condition of a scatter matrix below which its Cholesky factor is too inaccurate."""


@dataclass(frozen=True, eq=False)
class PreparedEmbedding:
    """Mean, trace and a root of the covariance of one embedding.

    Attributes
    ----------
    mean : float64 [2, dim]
        The mean over frames is the sum of both rows; the second is a correction of the first's rounding.
    root : float64 [rows, dim]
        At most as many rows as frames, or as dimensions where these are fewer or the root is a Gaussian's.
        rootᵀ root is proportional to the covariance: the centred frames, or a triangular factor.
    squares : float
        Sum of squares of the root.
    trace : float
        Trace of the unbiased covariance.
    triangular : bool
        The root is upper triangular.
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    squares: float
    trace: float
    triangular: bool = False

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return int(self.root.shape[1])


def prepare(x: ArrayLike, *, name: str = "x") -> PreparedEmbedding:
    """Centre an embedding and, where frames outnumber dimensions, reduce it to a dim x dim root.

    Parameters
    ----------
    x : array [frames, dim]
        float16, float32 or float64, any strides; at least two frames.
    name
        What to call it in errors.

    Raises
    ------
    InputError
        Not two axes, not real, no frames, one frame (its covariance is undefined), NaN or infinity.

    Notes
    -----
    The root of a long clip is the Cholesky factor of its scatter matrix, or, where that is singular or its
    condition exceeds 1e10, the triangular factor of a QR decomposition, which does not square the condition.
    """
    frames = embedding(x, name, least=2)
    count, dim = frames.shape
    mean = np.empty((2, dim))
    frame_mean(frames, mean)
    if count <= dim:
        root = np.empty((count, dim))
        centre(frames, mean, root)
        squares = float(np.vdot(root, root))
    else:
        root, squares = _reduced(frames, mean)
    if not np.isfinite(squares):
        require_finite(frames, name)
    return PreparedEmbedding(mean, root, squares, squares / (count - 1), triangular=count > dim)


def _reduced(x: Frames, mean: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """An upper triangular dim x dim root of the scatter matrix, and its sum of squares."""
    dim = x.shape[1]
    scatter = np.zeros((dim, dim), order="F")  # its upper triangle
    buffer = np.empty((min(BLOCK, len(x)), dim))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        centre(block, mean, buffer[: len(block)])
        scatter = blas.dsyrk(1.0, buffer[: len(block)].T, beta=1.0, c=scatter, overwrite_c=1)
    squares = float(np.trace(scatter))
    if not np.isfinite(squares):
        return scatter, squares
    root = _cholesky(scatter, squares)
    return (_triangular(x, mean) if root is None else root), squares


def _cholesky(scatter: NDArray[np.float64], trace: float) -> NDArray[np.float64] | None:
    """The upper factor of a matrix of which the upper triangle is given, or None where it is near to singular.

    Overwrites the matrix. Its trace stands for its norm, which is no larger.
    """
    root, failed = lapack.dpotrf(scatter, overwrite_a=1)
    if failed:
        return None
    rcond, _ = lapack.dpocon(root, trace)
    return root if rcond > LEAST_RCOND else None


def _triangular(x: Frames, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The triangular factor of the centred frames, a block at a time."""
    dim = x.shape[1]
    lower = np.zeros((whole(dim, WIDTH),) * 2)
    for start in range(0, len(x), ABSORBED):
        block = x[start : start + ABSORBED]
        columns = np.zeros((len(lower), whole(len(block), LANES)))
        centre(block, mean, columns[:dim, : len(block)].T)
        absorb(lower, columns)
    return lower[:dim, :dim].T


def whole(size: int, unit: int) -> int:
    """The least multiple of `unit` that is `size` or more."""
    return -(-size // unit) * unit
