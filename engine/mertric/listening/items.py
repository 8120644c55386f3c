"""What listeners rate, and their ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mertric.listening.tables import Problem

STEMS = ("vocals", "bass", "drums", "other", "accompaniment", "guitar", "piano")


@dataclass(frozen=True, order=True)
class Item:
    """What was rated: one estimate, by an id or by model, track and stem. Unknown parts are empty."""

    model: str = ""
    track: str = ""
    stem: str = ""
    id: str = ""
    model_type: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.model, self.track, self.stem))) or self.id


@dataclass(frozen=True)
class Rating:
    """The ratings of one item.

    Attributes
    ----------
    item
        What was rated.
    mean
        The item's rating: the mean (or the median, where asked) of its raters, on the file's own scale.
    by_rater
        Each rater's rating; empty if the file holds means only.
    """

    item: Item
    mean: float
    by_rater: Mapping[str, float]


@dataclass(frozen=True)
class Ratings:
    """All ratings of one file.

    Attributes
    ----------
    path, format
        The file, and which format it was read as: gensvs, bakeoff, webmushra, wide or long.
    items
        One `Rating` an item.
    raters_known
        Whether a rater's name means the same person on every item.
    problems
        Malformed rows and cells, with their line, each skipped.
    notes
        What was left out by rule (violations, hidden references and anchors), with counts.
    """

    path: Path
    format: str
    items: tuple[Rating, ...]
    raters_known: bool
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
