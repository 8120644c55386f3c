"""Mean squared error of two embeddings: whole, by frame, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.kernels.differences import frame_squared_errors
from mertric.metrics.validation import embedding, layers, require_finite, same_dim, same_frames

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mertric.metrics.validation import Frames


def embedding_mse(x: ArrayLike, y: ArrayLike) -> float:
    """Mean over frames and dimensions of the squared difference.

    Parameters
    ----------
    x, y : array [frames, dim]
        float16, float32 or float64, any strides; the same shape.

    Returns
    -------
    float
        In squared units of the embeddings, 0 or above; float64 arithmetic whatever the input.

    Raises
    ------
    InputError
        Not [frames, dim], different dim or frame counts, no frames, NaN or infinity.

    References
    ----------
    Bereuter & Sontacchi, DAGA 2026, arXiv 2604.20270.
    """
    return float(np.mean(frame_mse(x, y)))


def frame_mse(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Mean over dimensions of the squared difference of each frame, float64 [frames].

    Takes and raises what `embedding_mse` does.
    """
    first, second = embedding(x, "x"), embedding(y, "y")
    same_dim(first.shape[1], second.shape[1], "x", "y")
    same_frames(first.shape[0], second.shape[0], "x", "y")
    curve = np.empty(len(first))
    frame_squared_errors(first, second, curve)
    if not np.isfinite(curve).all():
        require_finite(*_worse(first, second))
    curve /= first.shape[1]
    return curve


def layer_mse(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """`embedding_mse` of every layer, float64 [layers], of arrays [layers, frames, dim]."""
    first, second = layers(x, "x"), layers(y, "y")
    first, second = (e[np.newaxis] if e.ndim == 2 else e for e in (first, second))
    if len(first) != len(second):
        raise InputError(f"x has {len(first)} layers and y has {len(second)}; expected the same layers of both.")
    return np.array([embedding_mse(a, b) for a, b in zip(first, second, strict=True)])


def _worse(x: Frames, y: Frames) -> tuple[Frames, str]:
    """The array to blame, with its name: the first that is not finite, else that of the larger values."""
    for array, name in ((x, "x"), (y, "y")):
        if not np.isfinite(array).all():
            return array, name
    return (x, "x") if np.abs(x).max() >= np.abs(y).max() else (y, "y")
