"""Sums of a Gaussian kernel over all pairs of two sets of frames, a tile at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _sum_example() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    return np.zeros((4, 4)), np.zeros(4), np.zeros(4), 1.0


@kernel(example=_sum_example)
def gaussian_sum(
    products: NDArray[np.float64],
    x_squares: NDArray[np.float64],
    y_squares: NDArray[np.float64],
    gamma: float,
) -> float:
    """Sum of exp(-gamma |x_i - y_j|²) over a tile, from x_i . y_j, |x_i|² and |y_j|²."""
    total = 0.0
    for i in range(products.shape[0]):
        for j in range(products.shape[1]):
            square = x_squares[i] + y_squares[j] - 2.0 * products[i, j]
            total += np.exp(-gamma * max(square, 0.0))
    return total


def _distance_example() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.zeros((3, 4)), np.empty(3)


@kernel(example=_distance_example)
def pair_distances(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the Euclidean distance of every pair i < j of the rows of x, in the order of (i, j)."""
    frames, dim = x.shape
    place = 0
    for i in range(frames):
        for j in range(i + 1, frames):
            total = 0.0
            for k in range(dim):
                total += (x[i, k] - x[j, k]) ** 2
            out[place] = np.sqrt(total)
            place += 1
