"""System level: models as the items, each by the mean of its scores and ratings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mertric.listening.correlation import Correlation, correlate, percentile_interval
from mertric.listening.resampling import settled, weighted_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from mertric.listening.correlation import Coefficient

    Array = NDArray[np.float64]


def correlate_systems(
    scores: ArrayLike, ratings: ArrayLike, models: Sequence[str], *, weights: Array | None = None
) -> Correlation:
    """Correlate the models' mean scores with their mean ratings.

    A model's means run over its items with a finite score, so that both speak of the same items; infinite and
    missing scores are counted. Each resample of the items (of tracks) gives new means.

    Parameters
    ----------
    scores, ratings, weights
        As for `correlation.correlate`.
    models
        The model of each item, n names.

    Returns
    -------
    correlation
        `Correlation.n` counts models; `Correlation.infinite` and `Correlation.missing` count items.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    finite = np.isfinite(x)
    names, model_of_item = np.unique(np.asarray(models, dtype=str)[finite], return_inverse=True)
    member = np.zeros((len(model_of_item), len(names)))
    member[np.arange(len(model_of_item)), model_of_item] = 1
    counts = member.sum(axis=0)
    means = correlate(settled(x[finite] @ member / counts), settled(y[finite] @ member / counts))
    if weights is not None and means.spearman.value is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = weights[:, finite]
            copies = drawn @ member
            x_means = drawn @ (member * x[finite, None]) / copies
            y_means = drawn @ (member * y[finite, None]) / copies
        means = _with_intervals(means, x_means, y_means)
    return replace(means, infinite=int(np.isinf(x).sum()), missing=int(np.isnan(x).sum()))


def _with_intervals(means: Correlation, x: Array, y: Array) -> Correlation:
    """Add intervals from resampled means [B, models]; resamples that lack a model are left out."""
    from scipy.stats import rankdata

    whole = ~(np.isnan(x) | np.isnan(y)).any(axis=1)
    if not whole.any():
        return means
    x, y, ones = settled(x[whole]), settled(y[whole]), np.ones(x[whole].shape)
    signs_x, signs_y = np.sign(x[:, :, None] - x[:, None, :]), np.sign(y[:, :, None] - y[:, None, :])
    untied = np.abs(signs_x).sum(axis=(1, 2)) * np.abs(signs_y).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        kendall = (signs_x * signs_y).sum(axis=(1, 2)) / np.sqrt(untied)
    return replace(
        means,
        spearman=_bounded(means.spearman, weighted_pearson(rankdata(x, axis=1), rankdata(y, axis=1), ones)),
        pearson=_bounded(means.pearson, weighted_pearson(x, y, ones)),
        kendall=_bounded(means.kendall, kendall),
    )


def _bounded(coefficient: Coefficient, samples: Array) -> Coefficient:
    low, high = percentile_interval(samples)
    return replace(coefficient, low=low, high=high)
