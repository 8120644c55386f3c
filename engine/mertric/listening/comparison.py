"""Does one metric follow listeners better than another, on the same items?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.listening.correlation import MINIMUM, check_pair, percentile_interval
from mertric.listening.resampling import weighted_kendall, weighted_pearson, weighted_spearman

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


_COPIES = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Two metrics' correlations with the same ratings.

    Attributes
    ----------
    coefficient
        ``spearman``, ``pearson`` or ``kendall``.
    first, second
        Strength of each metric's correlation: its sign is turned so that each is positive, 0 to 1.
    difference
        ``first - second``; positive where the first follows listeners better.
    low, high
        95 % paired bootstrap interval of the difference; None without resamples.
    bootstrap_p
        Two-sided p from the same resamples.
    steiger_z, steiger_p
        Steiger's statistic and its two-sided p; None for Kendall.
    n
        Items that both metrics score.
    """

    coefficient: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    bootstrap_p: float | None
    steiger_z: float | None
    steiger_p: float | None
    n: int


def compare(
    first: ArrayLike, second: ArrayLike, ratings: ArrayLike, *, weights: Array | None = None
) -> tuple[Comparison, ...]:
    """Compare two metrics by Spearman, Pearson and Kendall, on the items that both score.

    Errors fall and ratios rise with quality, so each metric is first turned to correlate positively over all
    items (by each coefficient's own sign); then strengths are compared.

    Parameters
    ----------
    first, second
        Scores of the two metrics, float64 [n]; NaN where missing. Infinities are left out of Pearson's.
    ratings
        Mean ratings, finite float64 [n].
    weights
        Bootstrap resamples from `resampling.track_weights`, [B, n].

    Raises
    ------
    InputError
        If the shapes differ, or fewer than 3 items have both scores, or these are all equal.
    """
    a, b, y = (np.asarray(values, dtype=np.float64) for values in (first, second, ratings))
    check_pair(a, y)
    check_pair(b, y)
    present, finite = ~(np.isnan(a) | np.isnan(b)), np.isfinite(a) & np.isfinite(b)
    return (
        _compare("spearman", weighted_spearman, a, b, y, present, weights),
        _compare("pearson", weighted_pearson, a, b, y, finite, weights),
        _compare("kendall", weighted_kendall, a, b, y, present, weights),
    )


def steiger_test(r_first: float, r_second: float, r_between: float, n: int) -> tuple[float, float]:
    """Test whether two dependent correlations that share a variable are equal.

    Parameters
    ----------
    r_first, r_second
        Correlations of two metrics with the same ratings, -1 to 1 exclusive.
    r_between
        Correlation of the two metrics with one another.
    n
        Number of items, above 3.

    Returns
    -------
    z, p_value
        The statistic, positive where the first correlation is the greater, and its two-sided p; 0 and 1 where
        the two metrics are copies of one another.

    Notes
    -----
    Dunn and Clark's statistic with pooled correlations: Steiger (1980), Tests for comparing elements of a
    correlation matrix, Psychological Bulletin 87, 245-251, the statistic Z1*. With rank correlations it is
    the usual approximation (Myers & Sirois, 2006), to be read beside the bootstrap's.

    Raises
    ------
    InputError
        If n is 3 or less, or a correlation with the ratings is -1 or 1.
    """
    if n <= MINIMUM or max(abs(r_first), abs(r_second)) >= 1:
        raise InputError(f"Steiger's test of r = {r_first:g} and {r_second:g} on {n} items; needs n > 3 and |r| < 1")
    pooled = (r_first + r_second) / 2
    square = pooled**2
    covariance = r_between * (1 - 2 * square) - square * (1 - 2 * square - r_between**2) / 2
    spread = 2 - 2 * covariance / (1 - square) ** 2
    gap = math.atanh(r_first) - math.atanh(r_second)
    z = gap * math.sqrt((n - 3) / spread) if spread > _COPIES else 0.0
    return z, math.erfc(abs(z) / math.sqrt(2))


def _compare(
    name: str,
    correlation: Callable[[Array, Array, Array], Array],
    a: Array,
    b: Array,
    y: Array,
    kept: NDArray[np.bool_],
    weights: Array | None,
) -> Comparison:
    a, b, y = a[kept], b[kept], y[kept]
    n = len(y)
    once = np.ones((1, n))
    r_a, r_b = (float(correlation(x, y, once)[0]) if n >= MINIMUM else math.nan for x in (a, b))
    if math.isnan(r_a) or math.isnan(r_b):
        raise InputError(f"{n} items have both scores for {name}, or their values are all equal; nothing to compare")
    sign_a, sign_b = math.copysign(1, r_a), math.copysign(1, r_b)
    first, second = abs(r_a), abs(r_b)
    low = high = bootstrap_p = z = p = None
    if weights is not None:
        drawn = weights[:, kept]
        gaps = sign_a * correlation(a, y, drawn) - sign_b * correlation(b, y, drawn)
        low, high = percentile_interval(gaps)
        bootstrap_p = _two_sided(gaps[~np.isnan(gaps)])
    if name != "kendall" and n > MINIMUM and max(first, second) < 1:
        between = sign_a * sign_b * float(correlation(a, b, once)[0])
        z, p = steiger_test(first, second, between, n)
    return Comparison(name, first, second, first - second, low, high, bootstrap_p, z, p, n)


def _two_sided(gaps: Array) -> float | None:
    """Bootstrap p of no difference: twice the lesser tail at zero, never below 2 / (B + 1).

    Source: Davison & Hinkley (1997), Bootstrap Methods and Their Application, 4.4.
    """
    if not len(gaps):
        return None
    tail = min((gaps <= 0).sum(), (gaps >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(gaps) + 1)))
