"""One reader a ratings format: wide (GenSVS and its like), webMUSHRA exports, long."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from typing import TYPE_CHECKING

from mertric.listening.collector import Collector, parse_rating, row_item
from mertric.listening.items import STEMS, Item, Ratings
from mertric.listening.tables import Problem, text

if TYPE_CHECKING:
    from mertric.listening.tables import Table

_HIDDEN_STIMULUS = re.compile(r"reference|.*anchor.*", re.IGNORECASE)


def read_wide(table: Table, *, kind: str, average: str = "mean") -> Ratings:
    """Read one row an item with a column a rater: ``rating_0``, ``rating_1``, ... (and ``DMOS``, their mean).

    Raters are named by ``subject_rating_k`` where the file has it, as GenSVS's does, else by their column. A
    mean that differs from the given ``DMOS`` by more than 0.001 is reported; the mean of the single ratings
    is used. Rows of one item are averaged.
    """
    collector = Collector(table, average)
    raters = [name for name in table.columns if re.fullmatch(r"rating_\d+", name)]
    for row, place in zip(table.rows, table.places, strict=True):
        try:
            item = row_item(row, stem="vocals" if kind == "gensvs" else "")
            given = parse_rating(row.get("DMOS"))
            values = {rater: parse_rating(row.get(rater)) for rater in raters}
        except ValueError as error:
            collector.reject(place, str(error))
            continue
        present = {rater: value for rater, value in values.items() if value is not None}
        if not present and given is None:
            collector.reject(place, "no rating")
            continue
        for rater, value in present.items():
            collector.add(item, text(row, [f"subject_{rater}"]) or rater, value)
        if given is not None:
            collector.given_means.setdefault(item, []).append(given)
            if present and abs(statistics.fmean(present.values()) - given) > 1e-3:
                message = f"DMOS {given:g} is not the mean {statistics.fmean(present.values()):g} of its ratings"
                collector.problems.append(Problem(place, f"{message}; the single ratings are used"))
    return collector.result(kind, raters_known=bool(raters))


def read_webmushra(table: Table, *, average: str = "mean") -> Ratings:
    """Read webMUSHRA's ``mushra.csv``, ``lms.csv`` or ``lss.csv``.

    A row is one rating of a stimulus (taken as the model) in a trial (taken as the track; an ending such as
    ``_vocals`` or ``/drums`` is taken as the stem). A rater is a ``session_uuid``, or in exports without one
    a combination of the participant's answers; if these rate one stimulus again, they are another participant's, which
    is noted. Hidden references and anchors are left out and counted. Trials whose name starts with ``training`` are
    left out and counted.
    """
    collector = Collector(table, average)
    mushra = "rating_stimulus" in table.columns
    stimulus_column, score_column = ("rating_stimulus", "rating_score") if mushra else ("stimuli", "stimuli_rating")
    before = table.columns[: table.columns.index("trial_id")]
    named = "session_uuid" in before
    rater_columns = ["session_uuid"] if named else [c for c in before if c != "session_test_id"]
    hidden = training = 0
    seen: Counter[tuple[Item, str]] = Counter()
    for position, (row, place) in enumerate(zip(table.rows, table.places, strict=True)):
        trial, stimulus = text(row, ["trial_id"]), text(row, [stimulus_column])
        if not (trial and stimulus):
            collector.reject(place, f"trial_id or {stimulus_column} is empty")
            continue
        if trial.lower().startswith("training"):
            training += 1
            continue
        if _HIDDEN_STIMULUS.fullmatch(stimulus):
            hidden += 1
            continue
        try:
            value = parse_rating(
                row.get(score_column), low=0 if mushra else -math.inf, high=100 if mushra else math.inf
            )
        except ValueError as error:
            collector.reject(place, str(error))
            continue
        if value is None:
            collector.reject(place, f"{score_column} is empty")
            continue
        track, stem = _split_trial(trial)
        rater = " ".join(text(row, [c]) or "" for c in rater_columns) or f"row {position}"
        item = Item(model=stimulus, track=track, stem=stem)
        seen[item, rater] += 1
        if seen[item, rater] > 1 and not named:
            rater += f" ({seen[item, rater]})"
        collector.add(item, rater, value)
    again = 0 if named else sum(count > 1 for count in seen.values())
    notes = [f"{hidden} ratings of hidden references and anchors left out"] * bool(hidden)
    notes += [f"{training} ratings of training trials left out"] * bool(training)
    notes += [f"{again} stimuli rated again under the same answers: taken as other participants' ratings"] * bool(again)
    return collector.result("webmushra", raters_known=bool(rater_columns), notes=notes)


def read_long(table: Table, *, average: str = "mean") -> Ratings:
    """Read one row a rating: ``id, rating`` or ``model, track, stem, rating``, optionally with ``rater``.

    Rows of one item are averaged. Without a rater column each row counts as another, unknown rater.
    """
    collector = Collector(table, average)
    rater_column = next((c for c in ("rater", "subject", "listener", "session_uuid") if c in table.columns), None)
    for position, (row, place) in enumerate(zip(table.rows, table.places, strict=True)):
        try:
            item, value = row_item(row), parse_rating(row.get("rating"))
            rater = text(row, [rater_column]) if rater_column else f"row {position}"
        except ValueError as error:
            collector.reject(place, str(error))
            continue
        if value is None or rater is None:
            collector.reject(place, "rating is empty" if value is None else f"{rater_column} is empty")
            continue
        collector.add(item, rater, value)
    return collector.result("long", raters_known=rater_column is not None)


def _split_trial(trial: str) -> tuple[str, str]:
    match = re.fullmatch(rf"(.+?)[/_]({'|'.join(STEMS)})", trial, re.IGNORECASE)
    return (match[1], match[2].lower()) if match else (trial, "")
