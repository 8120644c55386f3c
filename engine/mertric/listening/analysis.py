"""Every metric against the ratings, by group of items and by level."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError, TableError
from mertric.listening.agreement import Agreement, agreement
from mertric.listening.comparison import Comparison, compare
from mertric.listening.correlation import Coefficient, Correlation, correlate
from mertric.listening.direction import wrong_way
from mertric.listening.resampling import track_weights
from mertric.listening.systems import correlate_systems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric.listening.matching import RatedScores
    from mertric.listening.scores import Metric

ALL = "all"
GROUPINGS = ("stem", "model_type", "model")
LEVELS = ("item", "system")
ENOUGH_TRACKS = 5
"""From which on resamples of tracks differ enough: of fewer there are at most 35."""
COLUMNS = (
    *("group", "level", "metric", "layer", "n", "tracks", "infinite", "missing"),
    *("spearman", "spearman_low", "spearman_high", "spearman_p"),
    *("pearson", "pearson_low", "pearson_high", "pearson_p", "n_pearson"),
    *("kendall", "kendall_low", "kendall_high", "kendall_p", "note"),
)


@dataclass(frozen=True)
class Group:
    """Items that are analysed together.

    Attributes
    ----------
    name
        The value that they share, or ``all``.
    indices
        Which items, integers [n].
    weights
        Bootstrap resamples of their tracks, float64 [B, n]; None without bootstrap.
    tracks
        Number of distinct tracks.
    """

    name: str
    indices: NDArray[np.intp]
    weights: NDArray[np.float64] | None
    tracks: int


@dataclass(frozen=True)
class Result:
    """One metric's correlation with the ratings of one group, at one level."""

    group: str
    level: str
    metric: Metric
    tracks: int
    correlation: Correlation

    @property
    def note(self) -> str:
        """Why a coefficient is not defined, or an interval says little; empty otherwise."""
        own = self.correlation.note
        if self.correlation.spearman.low is None or self.tracks >= ENOUGH_TRACKS:
            return own
        few = f"intervals are resampled from {self.tracks} tracks and say little"
        return f"{own}; {few}" if own else few

    def row(self) -> dict[str, object]:
        """All figures under the names of `COLUMNS`."""
        found = self.correlation
        row: dict[str, object] = {
            "group": self.group,
            "level": self.level,
            "metric": self.metric.name,
            "layer": self.metric.layer,
            "n": found.n,
            "tracks": self.tracks,
            "infinite": found.infinite,
            "missing": found.missing,
            "n_pearson": found.n_pearson,
            "note": self.note,
        }
        for name in ("spearman", "pearson", "kendall"):
            coefficient: Coefficient = getattr(found, name)
            row |= {name: coefficient.value, f"{name}_p": coefficient.p_value}
            row |= {f"{name}_low": coefficient.low, f"{name}_high": coefficient.high}
        return row


def groups(rated: RatedScores, *, by: str | None = None, resamples: int = 2000, seed: int = 0) -> tuple[Group, ...]:
    """Split items by stem, model type or model, with ``all`` of them last.

    Parameters
    ----------
    by
        ``stem``, ``model_type``, ``model``, or None for ``all`` alone.
    resamples
        Bootstrap resamples of tracks; 0 for none. A group of one track has none either.
    seed
        Seed of the resamples; each group draws from the same seed.

    Raises
    ------
    InputError
        If `by` is none of these or `resamples` is negative.
    TableError
        If no item says its `by`.
    """
    if by is not None and by not in GROUPINGS:
        raise InputError(f"by={by!r}; expected one of {', '.join(GROUPINGS)}")
    if resamples < 0:
        raise InputError(f"resamples={resamples}; expected 0 or more")
    labels = np.array([getattr(item, by) if by else "" for item in rated.items])
    if by and not any(labels):
        raise TableError(f"neither scores nor ratings have a {by} column; add one, or leave --by out")
    tracks = np.array([item.track or item.id for item in rated.items])
    found = []
    for name in [*sorted(set(labels) - {""}), None]:
        indices = np.flatnonzero((labels == name) if name is not None else np.ones(len(labels), dtype=bool))
        distinct = len(set(tracks[indices]))
        drawn = resamples and distinct > 1
        weights = track_weights(list(tracks[indices]), resamples=resamples, seed=seed) if drawn else None
        found.append(Group(ALL if name is None else str(name), indices, weights, distinct))
    return tuple(found)


def correlate_groups(rated: RatedScores, split: Sequence[Group], *, levels: Sequence[str] = LEVELS) -> list[Result]:
    """Correlate every metric with the ratings of every group, by items and by models.

    System-level results are left out where a group has a single model.
    """
    models = np.array([item.model for item in rated.items])
    results = []
    for level in levels:
        for group in split:
            if level == "system" and len(set(models[group.indices])) < 2:
                continue
            ratings = rated.ratings[group.indices]
            for metric, values in rated.metrics.items():
                scores = values[group.indices]
                if level == "item":
                    found = correlate(scores, ratings, weights=group.weights)
                else:
                    found = correlate_systems(scores, ratings, list(models[group.indices]), weights=group.weights)
                results.append(Result(group.name, level, metric, group.tracks, found))
    return results


def compare_groups(rated: RatedScores, split: Sequence[Group], first: str, second: str) -> list[dict[str, object]]:
    """Compare two metrics in every group: one row a group and coefficient, or for a group one with a ``note`` why not.

    Raises
    ------
    InputError
        If a name is not among the metrics, or stands for several layers.
    """
    a, b = (_single(rated, name) for name in (first, second))
    rows: list[dict[str, object]] = []
    for group in split:
        index = group.indices
        of = {"group": group.name, "metric": first, "other": second}
        try:
            found = compare(a[index], b[index], rated.ratings[index], weights=group.weights)
            astray = [
                name
                for name, values in ((first, a[index]), (second, b[index]))
                if wrong_way(name.partition("@")[0], correlate(values, rated.ratings[index]).spearman.value or 0.0)
            ]
            note = f"{' and '.join(astray)}: the sign of the correlation is not that of a measure of quality"
            rows += [{**of, **asdict(comparison), "note": note if astray else None} for comparison in found]
        except InputError as error:
            rows.append({**of, **dict.fromkeys(field.name for field in fields(Comparison)), "note": str(error)})
    return rows


def agree_groups(
    rated: RatedScores, split: Sequence[Group], *, raters_known: bool, seed: int = 0
) -> list[dict[str, object]]:
    """Agreement among the raters of every group that has at least 3 items with two ratings."""
    rows: list[dict[str, object]] = []
    for group in split:
        chosen = [rated.by_rater[index] for index in group.indices]
        found: Agreement | None = agreement(chosen, raters_known=raters_known, seed=seed)
        if found is not None:
            rows.append({"group": group.name, **asdict(found)})
    return rows


def _single(rated: RatedScores, name: str) -> NDArray[np.float64]:
    found = list(rated.select([name]).metrics.items())
    if len(found) > 1:
        raise InputError(f"{name} stands for {len(found)} layers; name one, such as {found[-1][0]}")
    return found[0][1]
