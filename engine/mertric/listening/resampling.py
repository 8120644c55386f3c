"""Bootstrap over tracks: resamples as integer weights, and all correlation coefficients under such weights at
once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_BLOCK = 4_000_000
_ROUNDING = 1e-13
_DIGITS = 300
"""After the point, of the smallest numbers: more are no power of ten in float64."""


def track_weights(tracks: Sequence[str], *, resamples: int, seed: int) -> Array:
    """Draw bootstrap resamples of whole tracks.

    Items of one track share listeners' idea of the song and the mixture, so tracks, not rows, are drawn with
    replacement (the cluster bootstrap: Davison & Hinkley, 1997, Bootstrap Methods and Their Application,
    3.8).

    Parameters
    ----------
    tracks
        The track of each item, n names.
    resamples
        Number of resamples B, at least 1.
    seed
        Seed of the generator; equal seeds and tracks give equal weights.

    Returns
    -------
    weights
        float64 [B, n]: how many times each item stands in each resample.

    Raises
    ------
    InputError
        If `resamples` is below 1.
    """
    if resamples < 1:
        raise InputError(f"resamples={resamples}; expected at least 1")
    names, track_of_item = np.unique(np.asarray(tracks, dtype=str), return_inverse=True)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.asarray(counts, dtype=np.float64)[:, track_of_item]


def settled(values: Array) -> Array:
    """Finite values, to 12 digits of the largest: equal ones tie, in whatever order and unit they were summed."""
    largest = float(np.abs(values).max(initial=0.0))
    return np.round(values, min(11 - math.floor(math.log10(largest)), _DIGITS)) if largest > 0 else values


def weighted_pearson(x: Array, y: Array, weights: Array) -> Array:
    """Pearson correlation of x and y in each resample.

    Parameters
    ----------
    x, y
        Finite values, float64 [n], or one row a resample, [B, n].
    weights
        float64 [B, n].

    Returns
    -------
    correlation
        float64 [B], -1 to 1; NaN where x or y is constant in the resample.
    """
    x, y = (values - (np.median(values) if values.ndim == 1 else values.mean()) for values in (x, y))
    total = weights.sum(axis=1)
    x_sum, y_sum = _sums(weights, x), _sums(weights, y)
    xx, yy, xy = _sums(weights, x, x), _sums(weights, y, y), _sums(weights, x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        x_spread, y_spread = xx - x_sum**2 / total, yy - y_sum**2 / total
        correlation = (xy - x_sum * y_sum / total) / np.sqrt(x_spread * y_spread)
    varied = (x_spread > _ROUNDING * xx) & (y_spread > _ROUNDING * yy)
    return np.asarray(np.where(varied, np.clip(correlation, -1, 1), np.nan))


def weighted_spearman(x: Array, y: Array, weights: Array) -> Array:
    """Spearman correlation of x and y in each resample: Pearson of average ranks. x may hold infinities."""
    return weighted_pearson(weighted_ranks(x, weights), weighted_ranks(y, weights), weights)


def weighted_kendall(x: Array, y: Array, weights: Array) -> Array:
    """Kendall's tau-b of x and y in each resample; infinities may stand in x.

    With S the sign matrix of x times that of y, concordant minus discordant pairs are half of w' S w; pairs
    tied in x are counted from the weights of x's equal values. Source: Kendall (1945), Biometrika 33,
    239-251.
    """
    n = len(x)
    difference = np.zeros(len(weights))
    narrow = weights.astype(np.float32)
    step = max(1, _BLOCK // n)
    for start in range(0, n, step):
        part = slice(start, start + step)
        signs = _signs(x[:, None], x[None, part]) * _signs(y[:, None], y[None, part])
        difference += ((narrow @ signs).astype(np.float64) * weights[:, part]).sum(axis=1)
    untied = _untied(x, weights) * _untied(y, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = difference / np.sqrt(untied)
    return np.asarray(np.where(untied > 0, np.clip(tau, -1, 1), np.nan))


def weighted_ranks(x: Array, weights: Array) -> Array:
    """Average ranks of x among all copies in each resample, float64 [B, n]."""
    order, starts, group = _groups(x)
    sizes = np.add.reduceat(np.take(weights, order, axis=1), starts, axis=1)
    ranks = np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2
    return np.take(ranks, group, axis=1)


def _untied(x: Array, weights: Array) -> Array:
    """Twice the number of pairs with unequal x in each resample."""
    order, starts, _ = _groups(x)
    sizes = np.add.reduceat(np.take(weights, order, axis=1), starts, axis=1)
    return np.asarray(sizes.sum(axis=1) ** 2 - (sizes**2).sum(axis=1))


def _groups(x: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Order that sorts x, where each run of equal values starts in it, and the run of each element."""
    order = np.argsort(x, kind="stable")
    _, starts, group = np.unique(x[order], return_index=True, return_inverse=True)
    group_of_element = np.empty(len(x), dtype=np.intp)
    group_of_element[order] = group
    return order, starts, group_of_element


def _signs(left: Array, right: Array) -> NDArray[np.float32]:
    return (left > right).astype(np.float32) - (left < right).astype(np.float32)


def _sums(weights: Array, *factors: Array) -> Array:
    """Weighted sum of the factors' product in each resample; factors are [n] or [B, n]."""
    if all(factor.ndim == 1 for factor in factors):
        return np.asarray(weights @ np.prod(factors, axis=0))
    terms = ",".join("bn" if factor.ndim == 2 else "n" for factor in factors)
    return np.asarray(np.einsum(f"bn,{terms}->b", weights, *factors))
