"""Plots of a correlation analysis, as PNG files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import DependencyError
from mertric.listening.analysis import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mertric.listening.analysis import Group, Result
    from mertric.listening.matching import RatedScores
    from mertric.listening.scores import Metric

    Array = NDArray[np.float64]


def write_plots(
    folder: Path, rated: RatedScores, split: Sequence[Group], results: Sequence[Result]
) -> tuple[Path, ...]:
    """Write a scatter a metric, bars with intervals a level, and the curve over layers if there are several.

    Parameters
    ----------
    folder
        Where to; made if absent. Files: ``scatter_METRIC.png``, ``bars_LEVEL.png``, ``layers.png``.
    rated, split, results
        What `analysis.groups` and `analysis.correlate_groups` took and gave.

    Returns
    -------
    paths
        The files written.

    Raises
    ------
    DependencyError
        If matplotlib is not installed.
    """
    require_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    names = _file_names(rated.metrics)
    paths = [_scatter(folder / names[metric], metric, values, rated, split) for metric, values in rated.metrics.items()]
    for level in dict.fromkeys(result.level for result in results):
        of_level = [result for result in results if result.level == level]
        paths.append(_bars(folder, level, of_level))
    layered = [result for result in results if result.metric.layer is not None and result.level == "item"]
    return (*paths, _layers(folder, layered)) if layered else tuple(paths)


def rank_fit(scores: Array, ratings: Array) -> tuple[Array, Array]:
    """Monotone curve that Spearman's coefficient speaks of.

    The least-squares line through the average ranks, carried back to the values by their quantiles.

    Parameters
    ----------
    scores, ratings
        Finite float64 [n], n at least 2 and scores not all equal.

    Returns
    -------
    scores, ratings
        The curve, both float64 [n], scores ascending.
    """
    from scipy.stats import rankdata

    x, y = rankdata(scores), rankdata(ratings)
    order = np.argsort(x)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    fitted = y.mean() + slope * (x - x.mean())
    values = np.interp(fitted, np.arange(1, len(y) + 1), np.sort(ratings))
    return scores[order], values[order]


def require_matplotlib() -> None:
    """Raise `DependencyError` if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise DependencyError('plots need matplotlib, which is not installed: pip install "mertric[plots]"') from error


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=160)
    return path


def _file_names(metrics: Iterable[Metric]) -> dict[Metric, str]:
    """One each, numbered where what cannot stand in names of files is all that tells them apart."""
    names: dict[Metric, str] = {}
    for metric in metrics:
        stem = f"scatter_{re.sub(r'[^A-Za-z0-9.@-]+', '_', str(metric))}"
        names[metric], number = f"{stem}.png", 1
        taken = {name.lower() for other, name in names.items() if other != metric}
        while names[metric].lower() in taken:
            number += 1
            names[metric] = f"{stem}_{number}.png"
    return names


def _scatter(path: Path, metric: Metric, values: Array, rated: RatedScores, split: Sequence[Group]) -> Path:
    figure, axes = _figure(5, 4)
    named = [group for group in split if group.name != ALL] or list(split)
    infinite = int(np.isinf(values).sum())
    for group in named:
        index = group.indices[np.isfinite(values[group.indices])]
        points = axes.scatter(values[index], rated.ratings[index], s=12, alpha=0.6, label=group.name)
        if len(index) > 2 and np.ptp(values[index]) > 0:
            axes.plot(*rank_fit(values[index], rated.ratings[index]), color=points.get_facecolor()[0], alpha=1.0)
    axes.set_xlabel(f"{metric} ({infinite} infinite not shown)" if infinite else str(metric))
    axes.set_ylabel("mean rating")
    if len(named) > 1:
        axes.legend()
    return _save(figure, path)


def _bars(folder: Path, level: str, results: Sequence[Result]) -> Path:
    metrics = list(dict.fromkeys(result.metric for result in results))
    groups = list(dict.fromkeys(result.group for result in results))
    figure, axes = _figure(6, 1 + 0.16 * len(metrics) * (len(groups) + 1))
    height = 0.8 / len(groups)
    for place, group in enumerate(groups):
        chosen = [
            result for result in results if result.group == group and result.correlation.spearman.value is not None
        ]
        values, errors = _with_errors(chosen)
        where = [metrics.index(result.metric) + (place - (len(groups) - 1) / 2) * height for result in chosen]
        axes.barh(where, values, height, xerr=errors, label=group, error_kw={"elinewidth": 0.8})
    axes.set_yticks(range(len(metrics)), [str(metric) for metric in metrics])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xlim(-1, 1)
    axes.set_xlabel(f"Spearman, {level} level, 95 % interval")
    axes.margins(y=0.01)
    axes.legend()
    return _save(figure, folder / f"bars_{level}.png")


def _layers(folder: Path, results: Sequence[Result]) -> Path:
    figure, axes = _figure(6, 4)
    for name in dict.fromkeys(result.metric.name for result in results):
        for group in dict.fromkeys(result.group for result in results):
            chosen = [
                result
                for result in results
                if (result.metric.name, result.group) == (name, group) and result.correlation.spearman.value is not None
            ]
            values, errors = _with_errors(chosen)
            layers = [result.metric.layer for result in chosen]
            errors = np.where(values < 0, errors[::-1], errors)  # of magnitudes, bounds change places
            axes.errorbar(layers, np.abs(values), yerr=errors, marker="o", capsize=2, label=f"{name}, {group}")
    axes.set_xlabel("layer")
    axes.set_ylabel("magnitude of Spearman correlation, 95 % interval")
    axes.legend()
    return _save(figure, folder / "layers.png")


def _with_errors(results: Sequence[Result]) -> tuple[Array, Array]:
    """Spearman values [n] and their distances to the interval's bounds [2, n], zero where there is none."""
    found = [result.correlation.spearman for result in results]
    values = np.array([c.value for c in found], dtype=np.float64)
    low = np.array([c.value if c.low is None else c.low for c in found], dtype=np.float64)
    high = np.array([c.value if c.high is None else c.high for c in found], dtype=np.float64)
    return values, np.maximum(np.array([values - low, high - values]), 0)
