"""Single ratings gathered by item and rater, with what went wrong on the way."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mertric.errors import InputError, TableError
from mertric.listening.items import Item, Rating, Ratings
from mertric.listening.tables import Problem, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mertric.listening.tables import Cell, Table


_LARGEST = 1e30
"""Magnitude beyond which a rating is as good as infinite: sums of larger ones are."""


@dataclass
class Collector:
    """Gathers single ratings by item and rater, and what went wrong on the way."""

    table: Table
    average: str
    problems: list[Problem] = field(default_factory=list)
    values: dict[Item, dict[str, list[float]]] = field(default_factory=dict)
    given_means: dict[Item, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.average not in ("mean", "median"):
            raise InputError(f"average={self.average!r}; expected 'mean' or 'median'")
        self.problems.extend(self.table.problems)

    def reject(self, place: str, reason: str) -> None:
        self.problems.append(Problem(place, f"{reason}; row skipped"))

    def add(self, item: Item, rater: str, value: float) -> None:
        self.values.setdefault(item, {}).setdefault(rater, []).append(value)

    def result(self, kind: str, *, raters_known: bool, notes: Iterable[str] = ()) -> Ratings:
        centre = statistics.fmean if self.average == "mean" else statistics.median
        ratings = []
        for item in dict.fromkeys([*self.values, *self.given_means]):
            by_rater = {rater: statistics.fmean(values) for rater, values in self.values.get(item, {}).items()}
            mean = centre(by_rater.values() if by_rater else self.given_means[item])
            if not raters_known:
                by_rater = {f"#{index}": value for index, value in enumerate(by_rater.values(), start=1)}
            ratings.append(Rating(item, mean, by_rater))
        if not ratings:
            listed = "; ".join(map(str, [*notes, *self.problems[:5]])) or "no row has one"
            raise TableError(f"{self.table.path} ({kind} format) holds no usable rating: {listed}")
        return Ratings(self.table.path, kind, tuple(ratings), raters_known, tuple(self.problems), tuple(notes))


def row_item(row: Mapping[str, Cell], *, stem: str = "") -> Item:
    """What a ratings row is about; `ValueError` if it does not say."""
    model, track = text(row, ["model", "model_name"]), text(row, ["track", "file_id"])
    if model and track:
        stem = text(row, ["stem", "stem type"]) or stem
        return Item(model=model, track=track, stem=stem, model_type=text(row, ["model_type"]) or "")
    identifier = text(row, ["id"])
    if not identifier:
        raise ValueError("no id, and model or track is empty")
    return Item(
        id=identifier,
        model=model or "",
        stem=text(row, ["stem"]) or "",
        model_type=text(row, ["model_type"]) or "",
    )


def parse_rating(cell: Cell, *, low: float = -math.inf, high: float = math.inf) -> float | None:
    """Value of a rating cell, None if empty; `ValueError` if it is no finite number from low to high."""
    try:
        value = number(cell)
    except ValueError:
        raise ValueError(f"rating {cell!r} is not a number") from None
    if value is not None and not max(low, -_LARGEST) <= value <= min(high, _LARGEST):
        limits = f" from {low:g} to {high:g}" if high < math.inf else ""
        raise ValueError(f"rating {value:g} is not a finite number{limits}")
    return value
