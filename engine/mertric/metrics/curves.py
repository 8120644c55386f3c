"""Distances along a song: which seconds are bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.arguments import require_positive
from mertric.errors import InputError
from mertric.metrics.batch import frechet_distances
from mertric.metrics.embedding_mse import frame_mse
from mertric.metrics.validation import embedding, same_dim, same_frames

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FRAME_RATE = 75.0
"""Frames a second of MERT: a hop of 320 samples at 24 kHz."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Values over time: `times` float64 [points], the middle of each frame or window in seconds from the
    first frame, and `values` float64 [points]."""

    times: NDArray[np.float64]
    values: NDArray[np.float64]


def mse_curve(x: ArrayLike, y: ArrayLike, *, frame_rate: float = FRAME_RATE) -> Curve:
    """Mean squared error of every frame.

    Parameters
    ----------
    x, y : array [frames, dim]
        The same shape.
    frame_rate
        Frames a second, above 0.

    Raises
    ------
    InputError
        As `embedding_mse`, or a frame rate that is not above 0.
    """
    require_positive("frame_rate", frame_rate)
    values = frame_mse(x, y)
    return Curve(np.arange(len(values)) / frame_rate, values)


def frechet_curve(
    x: ArrayLike,
    y: ArrayLike,
    *,
    window: float = 5.0,
    hop: float = 1.0,
    frame_rate: float = FRAME_RATE,
    workers: int | None = None,
) -> Curve:
    """Fréchet Audio Distance of windows over time.

    Parameters
    ----------
    x, y : array [frames, dim]
        As many frames each.
    window, hop
        In seconds, rounded to whole frames; a window holds two frames or more, a hop one or more. Windows
        lie within the clip: seconds after the last whole window are in none.
    frame_rate
        Frames a second, above 0.
    workers
        Number of threads; None for one a core.

    Raises
    ------
    InputError
        As `frechet_distance`; different frame counts; a window longer than the clip or options out of range.
    """
    for name, value in (("window", window), ("hop", hop), ("frame_rate", frame_rate)):
        require_positive(name, value)
    first, second = embedding(x, "x", least=2), embedding(y, "y", least=2)
    same_dim(first.shape[1], second.shape[1], "x", "y")
    same_frames(len(first), len(second), "x", "y")
    length, step = round(window * frame_rate), round(hop * frame_rate)
    if length < 2 or step < 1:
        raise InputError(
            f"a window of {window} s and a hop of {hop} s are {length} and {step} frames at {frame_rate} "
            "frames a second; expected at least 2 and 1. Make them longer."
        )
    if length > len(first):
        raise InputError(
            f"a window of {window} s is {length} frames; the clip has {len(first)}. Take a shorter window."
        )
    starts = range(0, len(first) - length + 1, step)
    values = frechet_distances(
        [first[s : s + length] for s in starts], [second[s : s + length] for s in starts], workers=workers
    )
    return Curve((np.array(starts) + (length - 1) / 2.0) / frame_rate, values)
