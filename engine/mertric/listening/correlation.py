"""Correlation of one metric with listeners' ratings: coefficients, p-values, bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.listening.resampling import weighted_kendall, weighted_pearson, weighted_spearman

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

CONFIDENCE = 0.95
MINIMUM = 3
_EXACT = 8


@dataclass(frozen=True)
class Coefficient:
    """One correlation coefficient.

    Attributes
    ----------
    value
        -1 to 1; None where it is not defined.
    p_value
        Two-sided, for no association, 0 to 1. It takes items as independent.
    low, high
        Bounds of the 95 % percentile bootstrap interval; None without resamples.
    """

    value: float | None = None
    p_value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Correlation:
    """How one metric follows the ratings of a set of items.

    Attributes
    ----------
    spearman, pearson, kendall
        Rank correlation, linear correlation, and tau-b.
    n
        Items with a score: those in the rank correlations, infinities among them.
    n_pearson
        Items with a finite score: those in Pearson's.
    infinite, missing
        Items whose score is infinite, and items without a score.
    note
        Why a coefficient is not defined; empty otherwise.
    """

    spearman: Coefficient
    pearson: Coefficient
    kendall: Coefficient
    n: int
    n_pearson: int
    infinite: int
    missing: int
    note: str = ""


def correlate(scores: ArrayLike, ratings: ArrayLike, *, weights: Array | None = None) -> Correlation:
    """Correlate scores with ratings.

    Infinite scores are extremes to the ranks and left out of Pearson's; missing ones (NaN) are left out of
    all.

    Parameters
    ----------
    scores
        One metric's scores, float64 [n].
    ratings
        Mean ratings, finite float64 [n].
    weights
        Bootstrap resamples from `resampling.track_weights`, [B, n]; None for no intervals.

    Raises
    ------
    InputError
        If the shapes differ or a rating is not finite.

    Notes
    -----
    Spearman: Pearson's coefficient of average ranks; p from t with n - 2 degrees of freedom, for up to 8
    items from all permutations. Pearson: p from the exact distribution under normality. Kendall: tau-b
    (Kendall, 1945), p exact without ties for up to 33 items, else from the normal approximation. Intervals:
    percentiles of the resampled coefficients (Efron & Tibshirani, 1993, An Introduction to the Bootstrap,
    13.3); resamples in which a coefficient is undefined are left out.
    """
    from scipy import stats

    x, y = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    check_pair(x, y)
    present, finite = ~np.isnan(x), np.isfinite(x)
    ranked, linear = _reason(x[present], y[present]), _reason(x[finite], y[finite])
    spearman = pearson = kendall = Coefficient()
    if not ranked:
        drawn = None if weights is None else weights[:, present]
        spearman = _coefficient(_spearman, weighted_spearman, x[present], y[present], drawn)
        kendall = _coefficient(stats.kendalltau, weighted_kendall, x[present], y[present], drawn)
    if not linear:
        drawn = None if weights is None else weights[:, finite]
        pearson = _coefficient(stats.pearsonr, weighted_pearson, x[finite], y[finite], drawn)
    return Correlation(
        spearman=spearman,
        pearson=pearson,
        kendall=kendall,
        n=int(present.sum()),
        n_pearson=int(finite.sum()),
        infinite=int(present.sum() - finite.sum()),
        missing=int((~present).sum()),
        note=ranked or (linear and f"Pearson: {linear}"),
    )


def percentile_interval(samples: Array) -> tuple[float | None, float | None]:
    """Bounds of the central 95 % of the defined samples; None where none is defined."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def check_pair(x: Array, y: Array) -> None:
    """Require two vectors of one length, the second finite.

    Raises
    ------
    InputError
        If they are not.
    """
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"scores {x.shape} and ratings {y.shape}; expected two vectors of one length")
    if not np.isfinite(y).all():
        raise InputError(f"{int((~np.isfinite(y)).sum())} ratings are not finite; leave those items out")


def _coefficient(
    statistic: Callable[..., tuple[float, float]],
    resampled: Callable[[Array, Array, Array], Array],
    x: Array,
    y: Array,
    weights: Array | None,
) -> Coefficient:
    value, p_value = statistic(x, y)
    low, high = (None, None) if weights is None else percentile_interval(resampled(x, y, weights))
    return Coefficient(float(value), float(p_value), low, high)


def _spearman(x: Array, y: Array) -> tuple[float, float]:
    from scipy import stats

    value, p_value = stats.spearmanr(x, y)
    if len(x) <= _EXACT:
        ranks = stats.rankdata(x)
        orders = np.array(list(permutations(stats.rankdata(y) - (len(y) + 1) / 2)))
        products = np.abs(orders @ ranks)
        p_value = (products >= products[0] * (1 - 1e-12)).mean()
    return float(value), float(p_value)


def _reason(x: Array, y: Array) -> str:
    """Why no correlation of x and y is defined, or nothing."""
    if len(x) < MINIMUM:
        return f"n = {len(x)}, at least {MINIMUM} are needed"
    if np.all(x == x[0]):
        return "all scores are equal" if np.isfinite(x[0]) else "all scores are infinite"
    return "all ratings are equal" if np.all(y == y[0]) else ""
