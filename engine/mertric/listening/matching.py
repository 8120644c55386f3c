"""Scores joined to ratings, each left-over named."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError, TableError
from mertric.listening.items import Item
from mertric.listening.resampling import settled
from mertric.listening.scores import Metric, file_id
from mertric.metrics.registry import WAVEFORM_METRICS
from mertric.names import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from mertric.listening.items import Rating, Ratings
    from mertric.listening.scores import ScoredItem, Scores


@dataclass(frozen=True)
class RatedScores:
    """Items that have both a rating and scores.

    Attributes
    ----------
    items
        The items, n of them.
    ratings
        Mean rating an item, float64 [n], on the ratings' own scale.
    by_rater
        Single ratings by rater, one mapping an item.
    metrics
        Scores by metric, each float64 [n]; NaN where missing, infinities kept.
    unmatched_scores, unmatched_ratings
        Names of the estimates without a rating, and of the rated items without a score.
    """

    items: tuple[Item, ...]
    ratings: NDArray[np.float64]
    by_rater: tuple[Mapping[str, float], ...]
    metrics: Mapping[Metric, NDArray[np.float64]]
    unmatched_scores: tuple[str, ...]
    unmatched_ratings: tuple[str, ...]

    def select(self, metrics: Sequence[str]) -> RatedScores:
        """Keep the named metrics only; a bare name keeps all its layers, ``name@layer`` one.

        Raises
        ------
        InputError
            If a name is not among the metrics.
        """
        known = {name for metric in self.metrics for name in (metric.name, str(metric))}
        unknown = [name for name in metrics if name not in known]
        if unknown:
            have = ", ".join(map(str, self.metrics))
            raise InputError(f"unknown metric {', '.join(map(repr, unknown))}; this table has {have}")
        order = {
            metric: values
            for name in metrics
            for metric, values in self.metrics.items()
            if name in (metric.name, str(metric))
        }
        return replace(self, metrics=order)


def match(scores: Scores, ratings: Ratings) -> RatedScores:
    """Join scores to ratings.

    Ratings with an ``id`` meet the score row with that ``id``, else the estimate whose path ends with it
    (with or without its extension). All others meet on model, track and stem, as far as both files know them;
    case, Unicode form and what surrounds ``fileid_N`` do not matter. What is one name to that has one spelling in
    what comes out.

    Raises
    ------
    TableError
        If nothing matches, two estimates claim one rating, or two ratings one estimate.
    """
    pairs = _match_ids(scores.items, ratings.items) + _match_fields(scores.items, ratings.items)
    if not pairs:
        raise TableError(
            f"no score of {scores.path} matches a rating of {ratings.path}: scores are named"
            f" {_some(_name(scored) for scored in scores.items)};"
            f" ratings {_some(str(rating.item) for rating in ratings.items)};"
            " give both the same id, or the same model, track and stem"
        )
    _require_one_rating(pairs)
    matched_scores, matched_ratings = {id(scored) for scored, _ in pairs}, {id(rating) for _, rating in pairs}
    scored_items = [scored for scored, _ in pairs]
    return RatedScores(
        items=_one_spelling([_merge(scored.item, rating.item) for scored, rating in pairs]),
        ratings=settled(np.array([rating.mean for _, rating in pairs])),
        by_rater=tuple(rating.by_rater for _, rating in pairs),
        metrics=_metric_arrays(scores.metrics, scored_items),
        unmatched_scores=tuple(_name(scored) for scored in scores.items if id(scored) not in matched_scores),
        unmatched_ratings=tuple(str(rating.item) for rating in ratings.items if id(rating) not in matched_ratings),
    )


def _match_ids(scored: Sequence[ScoredItem], ratings: Sequence[Rating]) -> list[tuple[ScoredItem, Rating]]:
    by_name: dict[str, list[ScoredItem]] = {}
    for entry in scored:
        for name in {_identifier(entry.item.id), *_path_endings(entry.estimate)} - {""}:
            by_name.setdefault(name, []).append(entry)
    pairs = []
    for rating in ratings:
        name = _identifier(rating.item.id)
        found = by_name.get(name, []) if name else []
        _require_single(rating, found)
        pairs += [(entry, rating) for entry in found]
    return pairs


def _match_fields(scored: Sequence[ScoredItem], ratings: Sequence[Rating]) -> list[tuple[ScoredItem, Rating]]:
    named = [rating for rating in ratings if not rating.item.id]
    known = [
        part
        for part in ("model", "track", "stem")
        if any(getattr(r.item, part) for r in named) and any(getattr(s.item, part) for s in scored)
    ]
    if "track" not in known:
        return []
    by_key: dict[tuple[str, ...], list[ScoredItem]] = {}
    for entry in scored:
        by_key.setdefault(_key(entry.item, known), []).append(entry)
    pairs = []
    for rating in named:
        found = by_key.get(_key(rating.item, known), [])
        _require_single(rating, found)
        pairs += [(entry, rating) for entry in found]
    return pairs


def _require_single(rating: Rating, found: Sequence[ScoredItem]) -> None:
    if len(found) > 1:
        raise TableError(
            f"the rating of {rating.item} fits {len(found)} estimates ({_some(_name(s) for s in found)});"
            " name items more fully: model, track and stem, or an id with its folders"
        )


def _require_one_rating(pairs: Sequence[tuple[ScoredItem, Rating]]) -> None:
    rated: dict[int, list[Rating]] = {}
    for scored, rating in pairs:
        rated.setdefault(id(scored), []).append(rating)
        if len(rated[id(scored)]) > 1:
            raise TableError(
                f"the estimate {_name(scored)} fits {len(rated[id(scored)])} ratings "
                f"({_some(str(one.item) for one in rated[id(scored)])}); name items more fully: model, track and stem, "
                "or an id with its folders"
            )


def _key(item: Item, parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(_normal(getattr(item, part)) for part in parts)


def _normal(name: str) -> str:
    return file_id(name) or folded(name).strip()


def _one_spelling(items: Sequence[Item]) -> tuple[Item, ...]:
    """Spell what `_key` takes for one name in one way: ``fileid_N``, or as it comes first."""
    parts = ("model", "track", "stem", "model_type")
    first: dict[tuple[str, str], str] = {}

    def spelled(part: str, name: str) -> str:
        return first.setdefault((part, _normal(name)), file_id(name) or name)

    return tuple(replace(item, **{part: spelled(part, getattr(item, part)) for part in parts}) for item in items)


def _identifier(name: str) -> str:
    """An id, which may be a path, spelled as `_path_endings` spells it."""
    first, *others = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    kept = [part for part in others if part not in ("", ".")]
    return "/".join(kept if first == "." else [first, *kept])


def _path_endings(estimate: str) -> set[str]:
    parts = _identifier(estimate).split("/")
    endings = {"/".join(parts[start:]) for start in range(len(parts))}
    return endings | {ending.removesuffix(PurePosixPath(ending).suffix) for ending in endings if ending}


def _merge(scored: Item, rated: Item) -> Item:
    return Item(
        model=rated.model or scored.model,
        track=rated.track or scored.track,
        stem=rated.stem or scored.stem,
        id=rated.id or scored.id,
        model_type=scored.model_type or rated.model_type,
    )


def _metric_arrays(names: Sequence[str], scored: Sequence[ScoredItem]) -> dict[Metric, NDArray[np.float64]]:
    arrays = {}
    for name in names:
        found = {layer for s in scored for n, layer in s.values if n == name}
        layers = [*sorted(layer for layer in found if layer is not None), *({None} & found)]
        per_layer = {
            Metric(name, layer): np.array([s.values.get((name, layer), np.nan) for s in scored]) for layer in layers
        }
        whole = np.array([next((v for (n, _), v in s.values.items() if n == name), np.nan) for s in scored])
        varies = any(((values != whole) & ~np.isnan(values)).any() for values in per_layer.values())
        if name not in WAVEFORM_METRICS:  # which have no layers: an item that lacks one is of another model
            varies |= any((np.isnan(values) & ~np.isnan(whole)).any() for values in per_layer.values())
        arrays.update(per_layer if varies else {Metric(name): whole})
    return arrays


def _name(scored: ScoredItem) -> str:
    return scored.estimate or str(scored.item)


def _some(names: Iterable[str], limit: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
