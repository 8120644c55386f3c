"""The Bake-Off's listening sessions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mertric.errors import TableError
from mertric.listening.collector import Collector, parse_rating
from mertric.listening.items import Item, Ratings
from mertric.listening.tables import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mertric.listening.tables import Cell, Table

_HIDDEN = ("reference", "lpf_anchor")
_NO_MODEL = re.compile(r"violation_.*|session.*|track|stem( type)?|rating_(time|std|comment)|num_.*|group.*")


def read_bakeoff(table: Table, *, max_violations: int = 3, average: str = "mean") -> Ratings:
    """Read the Bake-Off's ``raw_listener_responses_w_violations.csv``.

    One row a session, track and stem (``stem type``), one column a model with ratings from 0 to 100. Rows
    whose ``violation_total`` exceeds `max_violations` are dropped and counted; the rest is averaged per
    track, stem and model. The hidden ``reference`` and ``lpf_anchor`` are no models and are left out. Empty
    cells are missing ratings; a cell that is no number from 0 to 100 makes its row malformed: reported and
    skipped.

    Source: Jaffe & Burgoyne (2025), Musical Source Separation Bake-Off, WASPAA; data
    doi:10.5281/zenodo.15843081.
    """
    collector = Collector(table, average)
    models = [c for c in table.columns if c not in _HIDDEN and not _NO_MODEL.fullmatch(c)]
    if not models:
        raise TableError(f"{table.path} has no model column beside {', '.join(table.columns)}; expected one per model")
    dropped = empty = 0
    for row, place in zip(table.rows, table.places, strict=True):
        try:
            base, session, violations, values = _row(row, models)
        except ValueError as error:
            collector.reject(place, str(error))
            continue
        if violations > max_violations:
            dropped += 1
            continue
        for model, value in values.items():
            if value is None:
                empty += 1
            else:
                collector.add(Item(model=model, track=base.track, stem=base.stem), session, value)
    notes = [f"{dropped} of {len(table.rows)} rows have violation_total above {max_violations} and were dropped"]
    notes += [f"{empty} ratings are empty"] * bool(empty)
    hidden = [name for name in _HIDDEN if name in table.columns]
    notes += [f"hidden {' and '.join(hidden)} left out"] * bool(hidden)
    return collector.result("bakeoff", raters_known=True, notes=notes)


def _row(row: Mapping[str, Cell], models: Iterable[str]) -> tuple[Item, str, float, dict[str, float | None]]:
    track, stem, session = text(row, ["track"]), text(row, ["stem type", "stem"]), text(row, ["session_uuid"])
    if not (track and stem and session):
        raise ValueError("session_uuid, track or stem type is empty")
    violations = parse_rating(row.get("violation_total"))
    if violations is None or violations < 0 or violations != int(violations):
        raise ValueError(f"violation_total is {row.get('violation_total')!r}, expected a whole number")
    values = {model: parse_rating(row.get(model), low=0, high=100) for model in models}
    if all(value is None for value in values.values()):
        raise ValueError("no model has a rating")
    return Item(track=track, stem=stem), session, violations, values
