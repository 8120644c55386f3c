"""Listeners' ratings from the files that listening tests leave behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mertric.errors import TableError
from mertric.listening.tables import Problem, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mertric.listening.tables import Table

STEMS = ("vocals", "bass", "drums", "other", "accompaniment", "guitar", "piano")
_EXPECTED = """expected one of
  gensvs: file_id, model_name and DMOS or rating_0, rating_1, ...
  bakeoff: session_uuid, track, stem type, violation_total and one column per model
  webmushra: trial_id with rating_stimulus, rating_score (mushra.csv) or stimuli, stimuli_rating (lms.csv,
  lss.csv) wide: rating_0, rating_1, ... with id, or with model and track (and stem)
  long: rating with id, or with model and track (and stem); optionally rater"""


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


def read_ratings(path: Path | str, *, max_violations: int = 3, average: str = "mean") -> Ratings:
    """Read a ratings file; its format is told by its columns.

    Parameters
    ----------
    path
        CSV or JSON file.
    max_violations
        Bake-Off only: rows with a greater ``violation_total`` are dropped. Integer, 0 to 4.
    average
        ``mean`` or ``median`` over raters.

    Raises
    ------
    TableError
        If the file cannot be read, fits no format, or holds no usable rating. The message lists the columns
        found and those expected.
    """
    from mertric.listening import bakeoff, formats

    table = read_table(path)
    kind = detect_format(table)
    if kind == "bakeoff":
        return bakeoff.read_bakeoff(table, max_violations=max_violations, average=average)
    readers: dict[str, Callable[..., Ratings]] = {
        "gensvs": formats.read_wide,
        "wide": formats.read_wide,
        "webmushra": formats.read_webmushra,
        "long": formats.read_long,
    }
    return readers[kind](table, average=average)


def detect_format(table: Table) -> str:
    """Tell a ratings format by its columns: gensvs, bakeoff, webmushra, wide or long.

    Raises
    ------
    TableError
        If no format fits.
    """
    columns = set(table.columns)
    identified = "id" in columns or bool({"model", "model_name"} & columns and {"track", "file_id"} & columns)
    wide = any(re.fullmatch(r"rating_\d+", name) for name in columns)
    if "violation_total" in columns and "track" in columns and {"stem type", "stem"} & columns:
        return "bakeoff"
    if {"file_id", "model_name"} <= columns and (wide or "DMOS" in columns):
        return "gensvs"
    if {"trial_id", "rating_stimulus", "rating_score"} <= columns or {
        "trial_id",
        "stimuli",
        "stimuli_rating",
    } <= columns:
        return "webmushra"
    if wide and identified:
        return "wide"
    if "rating" in columns and identified:
        return "long"
    raise TableError(
        f"{table.path} is no ratings file: found the columns {', '.join(table.columns)}; {_EXPECTED}"
    )
