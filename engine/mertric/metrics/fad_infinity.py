"""FAD-infinity: the Fréchet distance extrapolated to a set without end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.metrics.frechet import distance
from mertric.metrics.parallel import map_threads
from mertric.metrics.per_file import prepared_reference
from mertric.metrics.prepared import PreparedEmbedding, prepare
from mertric.metrics.validation import embedding, require_finite, same_dim

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mertric.metrics.gaussian import Gaussian


@dataclass(frozen=True, eq=False)
class FadInfinity:
    """A line through Fréchet distances over 1 / frames.

    Attributes
    ----------
    score : float
        The line at 1 / frames = 0. An extrapolation: it may be below 0.
    slope : float
        The bias of a set of one frame, by the line.
    r2 : float
        Coefficient of determination, at most 1; near 1 where the extrapolation can be trusted. NaN where
        all distances are equal, of which the fit explains nothing.
    frames : int64 [steps]
        Sizes of the drawn sets.
    distances : float64 [draws, steps]
        Their distances.
    scores : float64 [draws]
        The score of each draw by itself: their spread is the sampling error.
    """

    score: float
    slope: float
    r2: float
    frames: NDArray[np.int64]
    distances: NDArray[np.float64]
    scores: NDArray[np.float64]


def fad_infinity(
    reference: Gaussian | PreparedEmbedding | ArrayLike,
    x: ArrayLike,
    *,
    steps: int = 25,
    least: int = 500,
    draws: int = 1,
    replace: bool = True,
    seed: int = 0,
    workers: int | None = None,
) -> FadInfinity:
    """Fréchet distance of a set, freed from the bias of its size.

    Sets of `least` to all frames are drawn from `x`, and a line is fitted to their distances over 1 / frames.

    Parameters
    ----------
    reference : Gaussian, PreparedEmbedding, or array [frames, dim]
    x : array [frames, dim]
        All frames of the set under test, more than `least`.
    steps
        Number of sizes, evenly spaced, 2 or more.
    least
        Smallest size, 2 or more.
    draws
        Number of sets drawn for each size.
    replace
        Draw with replacement, as fadtk does: the line then ends near the distance of `x` itself, and only the
        bias of drawing is taken away. Without (as Chong & Forsyth), that of the size of `x` goes too: choose
        it for an unbiased score, and keep the default to compare with published ones.
    seed
        Of the generator that draws; the same seed gives the same score.
    workers
        Number of threads; None for one a core. The score does not depend on it.

    Raises
    ------
    InputError
        Options out of range, too few frames, or as `frechet_distance`.

    References
    ----------
    Chong & Forsyth, "Effectively unbiased FID and Inception Score", CVPR 2020, section 3.
    Gui, Gamper, Braun & Emmanouilidou, "Adapting Fréchet Audio Distance for generative music evaluation",
    ICASSP 2024, section 2.4 (fadtk: sizes from 500, 25 steps, with replacement).
    """
    frames = embedding(x, "x", least=2)
    for name, value, low in (("steps", steps, 2), ("least", least, 2), ("draws", draws, 1), ("seed", seed, 0)):
        if value < low:
            raise InputError(f"{name} is {value}; expected at least {low}.")
    if len(frames) <= least:
        raise InputError(f"x has {len(frames)} frames; extrapolating from {least} on needs more. Lower `least`.")
    if not np.isfinite(frames).all():
        require_finite(frames, "x")
    known = prepared_reference(reference)
    same_dim(known.dim, frames.shape[1], "the reference", "x")
    sizes = np.linspace(least, len(frames), steps).astype(np.int64)
    seeds = np.random.SeedSequence(seed).spawn(draws * steps)

    def of_draw(item: tuple[int, np.random.SeedSequence]) -> float:
        size, own = item
        chosen = np.random.default_rng(own).choice(len(frames), size, replace=replace)
        return distance(known, prepare(frames[chosen]))

    items = list(zip(sizes.tolist() * draws, seeds, strict=True))
    distances = np.array(map_threads(of_draw, items, workers=workers)).reshape(draws, steps)
    slope, score = np.polyfit(np.tile(1.0 / sizes, draws), distances.ravel(), 1)
    scores = np.array([np.polyfit(1.0 / sizes, row, 1)[1] for row in distances])
    r2 = _determination(distances, slope / sizes + score)
    return FadInfinity(float(score), float(slope), r2, sizes, distances, scores)


def _determination(distances: NDArray[np.float64], line: NDArray[np.float64]) -> float:
    spread = float(np.sum((distances - distances.mean()) ** 2))
    return 1.0 - float(np.sum((distances - line) ** 2)) / spread if spread else float("nan")
