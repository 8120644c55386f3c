"""Centring of embeddings, and merging of the moments of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _mean_example() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    return np.zeros((2, 16), np.float32), np.empty((2, 16))


@kernel(example=_mean_example, in_order=True)
def frame_mean(x: NDArray[np.floating], mean: NDArray[np.float64]) -> None:
    """Write the mean over frames as the sum of two terms, `mean[0] + mean[1]`.

    The second is the mean of what is left after subtracting the first, so that a large offset of the
    embeddings costs no accuracy (Chan, Golub & LeVeque 1983, the corrected two-pass algorithm).

    Parameters
    ----------
    x : float32 or float64 [frames, dim], contiguous
    mean : float64 [2, dim], written
    """
    frames, dim = x.shape
    mean[:] = 0.0
    for i in range(frames):
        for j in range(dim):
            mean[0, j] += x[i, j]
    for j in range(dim):
        mean[0, j] /= frames
    for i in range(frames):
        for j in range(dim):
            mean[1, j] += x[i, j] - mean[0, j]
    for j in range(dim):
        mean[1, j] /= frames


def _centre_example() -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    return np.zeros((2, 16), np.float32), np.zeros((2, 16)), np.empty((2, 16))


@kernel(example=_centre_example, in_order=True)
def centre(x: NDArray[np.floating], mean: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Cast to float64 and subtract both terms of the mean, one after the other.

    Parameters
    ----------
    x : float32 or float64 [frames, dim], contiguous
    mean : float64 [2, dim], of `frame_mean`
    out : float64 [frames, dim], written
    """
    frames, dim = x.shape
    for i in range(frames):
        for j in range(dim):
            out[i, j] = (x[i, j] - mean[0, j]) - mean[1, j]


def _merge_example() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    return np.zeros((4, 4)), np.zeros((4, 4)), np.zeros(4), 0.5


@kernel(example=_merge_example)
def merge_scatter(
    scatter: NDArray[np.float64], other: NDArray[np.float64], gap: NDArray[np.float64], weight: float
) -> None:
    """Add another set's scatter matrix in place: S += S' + weight * gap gapᵀ, with no temporary.

    With weight = n n' / (n + n') and gap the difference of the means this is the scatter of both sets
    together (Chan, Golub & LeVeque 1983, eq. 2.1b).
    """
    dim = gap.size
    for i in range(dim):
        scaled = weight * gap[i]
        for j in range(dim):
            scatter[i, j] += other[i, j] + scaled * gap[j]
