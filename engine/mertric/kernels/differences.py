"""Squared differences of two embeddings, without temporaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _example() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    return np.zeros((2, 16), np.float32), np.zeros((2, 16), np.float32), np.empty(2)


@kernel(example=_example)
def frame_squared_errors(x: NDArray[np.floating], y: NDArray[np.floating], out: NDArray[np.float64]) -> None:
    """Write the sum over dimensions of the squared difference, in float64, of every frame.

    Parameters
    ----------
    x, y : float32 or float64 [frames, dim], contiguous
    out : float64 [frames], written
    """
    frames, dim = x.shape
    for i in range(frames):
        total = 0.0
        for j in range(dim):
            difference = np.float64(x[i, j]) - np.float64(y[i, j])
            total += difference * difference
        out[i] = total
