"""Listeners' ratings from the files that listening tests leave behind."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mertric.errors import TableError
from mertric.listening.bakeoff import read_bakeoff
from mertric.listening.formats import read_long, read_webmushra, read_wide
from mertric.listening.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mertric.listening.items import Ratings
    from mertric.listening.tables import Table

_EXPECTED = """expected one of
  gensvs: file_id, model_name and DMOS or rating_0, rating_1, ...
  bakeoff: session_uuid, track, stem type, violation_total and one column per model
  webmushra: trial_id with rating_stimulus, rating_score (mushra.csv) or stimuli, stimuli_rating (lms.csv, lss.csv)
  wide: rating_0, rating_1, ... with id, or with model and track (and stem)
  long: rating with id, or with model and track (and stem); optionally rater"""


def read_ratings(path: Path | str, *, max_violations: int = 3, average: str = "mean") -> Ratings:
    """Read a ratings file; its format is told by its columns.

    Parameters
    ----------
    path
        CSV or JSON file.
    max_violations
        Bake-Off only: rows with a greater ``violation_total`` are dropped.
    average
        ``mean`` or ``median`` over raters.

    Raises
    ------
    InputError
        `average` is not known.
    TableError
        If the file cannot be read, fits no format, or holds no usable rating. The message lists the columns
        found and those expected.
    """
    table = read_table(path)
    kind = detect_format(table)
    if kind == "bakeoff":
        return read_bakeoff(table, max_violations=max_violations, average=average)
    readers: dict[str, Callable[..., Ratings]] = {
        "gensvs": partial(read_wide, kind="gensvs"),
        "wide": partial(read_wide, kind="wide"),
        "webmushra": read_webmushra,
        "long": read_long,
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
    raise TableError(f"{table.path} is no ratings file: found the columns {', '.join(table.columns)}; {_EXPECTED}")
