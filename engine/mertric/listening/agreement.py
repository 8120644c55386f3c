"""Do listeners agree with one another, and how well could any metric follow their mean?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.listening.correlation import MINIMUM
from mertric.listening.resampling import settled, weighted_pearson, weighted_spearman

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement among the raters of a set of items.

    Attributes
    ----------
    items, raters, ratings
        Items with at least two ratings, distinct raters of these (None where they are not known), and
        ratings.
    alpha
        Krippendorff's alpha, interval metric; 1 is perfect agreement, 0 chance.
    icc1, icc1k
        Intraclass correlation of a single rating and of the items' means (one-way random effects).
    split_half_spearman, split_half_pearson
        Correlation between means of random halves of the raters, stepped up to all raters.
    leave_one_out
        Mean over raters of the Spearman correlation of a rater with the mean of all others: what one more
        listener achieves. None where raters are not known.
    ceiling_spearman, ceiling_pearson
        Square roots of the split-half reliabilities: the correlation that a perfect metric can be expected to
        reach.
    """

    items: int
    raters: int | None
    ratings: int
    alpha: float | None
    icc1: float | None
    icc1k: float | None
    split_half_spearman: float | None
    split_half_pearson: float | None
    leave_one_out: float | None
    ceiling_spearman: float | None
    ceiling_pearson: float | None


def agreement(
    by_rater: Sequence[Mapping[str, float]], *, raters_known: bool = True, splits: int = 200, seed: int = 0
) -> Agreement | None:
    """Measure the agreement among raters.

    Parameters
    ----------
    by_rater
        One mapping of rater to rating an item; raters may rate different items.
    raters_known
        Whether equal names mean the same person.
    splits
        Number of random halvings.
    seed
        Seed of the halvings.

    Returns
    -------
    agreement
        None where fewer than 3 items have two ratings or more. A single figure is None where it is not
        defined.

    Notes
    -----
    The ceiling is the correction for attenuation for a metric without error: Spearman (1904), The proof and
    measurement of association between two things, American Journal of Psychology 15, 72-101.
    """
    units = [dict(item) for item in by_rater if len(item) > 1]
    if len(units) < MINIMUM:
        return None
    values = [np.array(list(unit.values())) for unit in units]
    icc1, icc1k = intraclass_correlation(values)
    spearman, pearson = split_half(units, splits=splits, seed=seed)
    return Agreement(
        items=len(units),
        raters=len({rater for unit in units for rater in unit}) if raters_known else None,
        ratings=sum(map(len, units)),
        alpha=krippendorff_alpha(values),
        icc1=icc1,
        icc1k=icc1k,
        split_half_spearman=spearman,
        split_half_pearson=pearson,
        leave_one_out=leave_one_out(units) if raters_known else None,
        ceiling_spearman=_root(spearman),
        ceiling_pearson=_root(pearson),
    )


def krippendorff_alpha(values: Sequence[Array]) -> float | None:
    """Krippendorff's alpha for interval data with missing ratings; None where all ratings are equal.

    Observed disagreement is the mean squared difference within items, expected disagreement that among all
    pairable ratings. Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability, section E,
    interval metric.

    Parameters
    ----------
    values
        Ratings of each item; items with a single rating do not count.
    """
    pairable = [v for v in values if len(v) > 1]
    pooled = np.concatenate(pairable) if pairable else np.empty(0)
    n = len(pooled)
    if n < 2 or np.ptp(pooled) == 0:
        return None
    observed = sum(2 * len(v) / (len(v) - 1) * ((v - v.mean()) ** 2).sum() for v in pairable) / n
    expected = 2 * ((pooled - pooled.mean()) ** 2).sum() / (n - 1)
    return float(1 - observed / expected)


def intraclass_correlation(values: Sequence[Array]) -> tuple[float | None, float | None]:
    """ICC(1,1) and ICC(1,k) of a one-way random-effects design; None where not defined.

    Source: Shrout & Fleiss (1979), Intraclass correlations, Psychological Bulletin 86, 420-428; unequal
    numbers of ratings enter through the mean group size n0 of Donner (1986), International Statistical Review
    54, 67-82.

    Parameters
    ----------
    values
        Ratings of each item, two or more each.
    """
    if np.ptp(np.concatenate(values)) == 0:
        return None, None
    sizes = np.array([len(v) for v in values], dtype=np.float64)
    means = settled(np.array([v.mean() for v in values]))
    total = sizes.sum()
    grand = (sizes * means).sum() / total
    between = (sizes * (means - grand) ** 2).sum() / (len(values) - 1) if np.ptp(means) > 0 else 0.0
    within = sum(((v - v.mean()) ** 2).sum() for v in values) / (total - len(values))
    size = (total - (sizes**2).sum() / total) / (len(values) - 1)
    single = float((between - within) / (between + (size - 1) * within))
    return single, float((between - within) / between) if between > 0 else None


def split_half(units: Sequence[Mapping[str, float]], *, splits: int, seed: int) -> tuple[float | None, float | None]:
    """Spearman and Pearson split-half reliability of the items' means.

    Raters are put in random order; each item's first half in that order stands against its second half. The
    correlation of the halves' means, r on average over the halvings, is stepped up to all raters by 2 r / (1
    + r): Spearman (1910) and Brown (1910), British Journal of Psychology 3, 271-295 and 296-322. Where items have odd
    numbers of ratings, halves are not equal, and it is Horst's formula, which is the same for equal ones: Horst (1951),
    Educational and Psychological Measurement 11, 368-371.
    """
    raters = sorted({rater for unit in units for rater in unit})
    table = np.full((len(units), len(raters)), np.nan)
    column = {rater: index for index, rater in enumerate(raters)}
    for row, unit in enumerate(units):
        table[row, [column[rater] for rater in unit]] = list(unit.values())
    generator = np.random.default_rng(seed)
    ones = np.ones((1, len(units)))
    results = []
    for _ in range(splits):
        shuffled = table[:, generator.permutation(len(raters))]
        rank = np.cumsum(~np.isnan(shuffled), axis=1)
        first = rank <= rank[:, -1:] // 2
        halves = [settled(np.nanmean(np.where(half, shuffled, np.nan), axis=1)) for half in (first, ~first)]
        results.append([float(f(halves[0], halves[1], ones)[0]) for f in (weighted_spearman, weighted_pearson)])
    spearman, pearson = np.array(results).T
    counts = np.array([len(unit) for unit in units])
    product = float(np.mean((counts // 2) * (counts - counts // 2) / counts**2))
    return _stepped_up(spearman, product), _stepped_up(pearson, product)


def leave_one_out(units: Sequence[Mapping[str, float]]) -> float | None:
    """Mean Spearman correlation of one rater with the mean of all others, over raters with 3 items or more.

    Source: the lower bound of the noise ceiling of Nili et al. (2014), PLOS Computational Biology 10,
    e1003553.
    """
    own: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for unit in units:
        total = sum(unit.values())
        for rater, value in unit.items():
            own.setdefault(rater, []).append(value)
            others.setdefault(rater, []).append((total - value) / (len(unit) - 1))
    found = [
        float(weighted_spearman(np.array(values), settled(np.array(others[rater])), np.ones((1, len(values))))[0])
        for rater, values in own.items()
        if len(values) >= MINIMUM
    ]
    defined = [value for value in found if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def _stepped_up(correlations: Array, product: float) -> float | None:
    """Reliability of all raters, from the correlation of parts whose shares of them have this product."""
    defined = correlations[~np.isnan(correlations)]
    mean = float(np.mean(defined)) if len(defined) else -1.0
    if mean <= -1:
        return None
    return 2 * mean / (mean + math.sqrt(mean**2 + 4 * product * (1 - mean**2)))


def _root(reliability: float | None) -> float | None:
    return None if reliability is None or reliability < 0 else math.sqrt(reliability)
