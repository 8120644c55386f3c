"""Kernel Audio Distance: the unbiased squared maximum mean discrepancy of two sets of frames."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.kernels.gaussian import gaussian_sum, pair_distances
from mertric.kernels.moments import centre, frame_mean
from mertric.metrics.parallel import map_threads
from mertric.metrics.validation import embedding, require_finite, same_dim

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mertric.metrics.validation import Frames

TILE = 512
"""Frames a side of the tiles in which kernel values are summed: no frames x frames matrix is formed."""
MEDIAN_FRAMES = 2000
"""Frames, drawn with a fixed seed where there are more, whose pairwise distances give the bandwidth."""


def kernel_audio_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    bandwidth: float | None = None,
    scale: float = 100.0,
    workers: int | None = None,
) -> float:
    """Kernel Audio Distance of a set of frames `y` against a reference set `x`.

    MMD² = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), over pairs of different frames, with
    k(a, b) = exp(-|a - b|² / (2 bandwidth²)).

    Parameters
    ----------
    x, y : array [frames, dim]
        Reference and estimate; float16, float32 or float64, any strides, two frames each or more.
    bandwidth
        Of the kernel, in units of the embeddings; None for the median distance of the reference's frames.
    scale
        Factor of the result; 100, as kadtk has it.
    workers
        Number of threads; None for one a core.

    Returns
    -------
    float
        Unbiased, hence possibly a little below 0 for sets that are alike.

    Raises
    ------
    InputError
        Not [frames, dim], different dim, fewer than two frames, NaN or infinity; a bandwidth that is not
        above 0, or a median distance of 0 (more than half the reference's frames are the same).

    References
    ----------
    Chung et al., "KAD: No more FAD!", 2025, arXiv 2502.15602, eq. 5, and its implementation kadtk.
    Gretton et al., "A kernel two-sample test", JMLR 13, 2012, lemma 6.
    """
    first, second = embedding(x, "x", least=2), embedding(y, "y", least=2)
    same_dim(first.shape[1], second.shape[1], "x", "y")
    middle, own_middle = np.empty((2, first.shape[1])), np.empty((2, first.shape[1]))
    frame_mean(first, middle)
    frame_mean(second, own_middle)
    reference, estimate = _centred(first, middle, "x"), _centred(second, middle, "y")
    own = _centred(second, own_middle, "y")  # far from `middle`, products would lose what its frames differ by
    width = median_distance(reference) if bandwidth is None else bandwidth
    square = float(width) * float(width)
    if not (width > 0.0 and sys.float_info.min <= square <= sys.float_info.max):
        what = "the median distance of x's frames" if bandwidth is None else "bandwidth"
        raise InputError(
            f"{what} is {width}; expected a number above 0 whose square is a float64. Give a bandwidth that is."
        )
    gamma = 0.5 / square
    m, n = len(reference), len(estimate)
    within_x = _kernel_sum(reference, reference, gamma, workers) - m
    within_y = _kernel_sum(own, own, gamma, workers) - n
    between = _kernel_sum(reference, estimate, gamma, workers)
    return scale * (within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2.0 * between / (m * n))


def _centred(frames: Frames, mean: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Frames less a mean [2, dim] of `frame_mean`; InputError where they, or their squares, are not finite."""
    centred = np.empty(frames.shape)
    centre(frames, mean, centred)
    if not np.isfinite(np.vdot(centred, centred)):
        require_finite(frames, name)
    return centred


def median_distance(x: ArrayLike) -> float:
    """Median Euclidean distance of all pairs of frames of [frames, dim]; the lower one of an even number.

    Sets of more than 2000 frames are represented by 2000 of them, drawn with a fixed seed.
    """
    frames = np.ascontiguousarray(embedding(x, "x", least=2), np.float64)
    if len(frames) > MEDIAN_FRAMES:
        chosen = np.random.default_rng(0).choice(len(frames), MEDIAN_FRAMES, replace=False)
        frames = frames[np.sort(chosen)]
    distances = np.empty(len(frames) * (len(frames) - 1) // 2)
    pair_distances(frames, distances)
    middle = (len(distances) - 1) // 2
    return float(np.partition(distances, middle)[middle])


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64], gamma: float, workers: int | None) -> float:
    """Sum of the kernel over all pairs; of a set with itself, each pair of tiles counts once, twice over."""
    x_squares, y_squares = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)

    def tile(corner: tuple[int, int]) -> float:
        rows, columns = slice(corner[0], corner[0] + TILE), slice(corner[1], corner[1] + TILE)
        total = float(gaussian_sum(x[rows] @ y[columns].T, x_squares[rows], y_squares[columns], gamma))
        return 2.0 * total if x is y and corner[0] != corner[1] else total

    starts = [(i, j) for i in range(0, len(x), TILE) for j in range(0, len(y), TILE) if x is not y or i <= j]
    return math.fsum(map_threads(tile, starts, workers=workers))
