"""Score tables: which columns are metrics, which say what was scored."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from mertric.errors import TableError
from mertric.listening.direction import rises
from mertric.listening.items import STEMS, Item
from mertric.listening.tables import NAMING, Problem, number, read_table, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mertric.listening.tables import Cell, Table

_NOT_METRICS = re.compile(
    r"group_id|layer|frames|samples|seconds|duration|sample_rate|channels|(subject_)?rating(_.*)?|D?MOS|session.*"
    r"|violation_.*"
)
"""Columns of numbers that are none; those of `NAMING` too."""
_FILE_ID = re.compile(r"fileid_\d+", re.IGNORECASE)


class Metric(NamedTuple):
    """A metric, and the layer it was computed on where the table holds several; prints as ``mert_mse@12``."""

    name: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.name if self.layer is None else f"{self.name}@{self.layer}"


@dataclass
class ScoredItem:
    """One estimate with all its scores.

    Attributes
    ----------
    item
        What was scored.
    estimate
        The estimate's file name as the table has it, or empty.
    values
        Score by metric name and layer (None where the row names no layer); missing scores are absent,
        infinities are kept.
    """

    item: Item
    estimate: str
    values: dict[tuple[str, int | None], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """All scores of one file.

    Attributes
    ----------
    path
        The file.
    metrics
        Names of the metric columns, in the file's order.
    items
        The estimates, in the file's order.
    problems
        Malformed rows and cells.
    notes
        Counts of rows whose ``status`` is not ``ok``.
    """

    path: Path
    metrics: tuple[str, ...]
    items: tuple[ScoredItem, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def read_scores(path: Path | str) -> Scores:
    """Read what ``mertric score`` wrote, or any table with a numeric column a metric.

    Raises
    ------
    TableError
        If the file cannot be read, has no metric column, or scores one estimate twice on one layer.
    """
    table = read_table(path)
    metrics = tuple(column for column in table.columns if _is_metric(table, column))
    left_out = list(_left_out(table, metrics))
    if not metrics:
        raise TableError(
            f"{table.path} has no metric: found the columns {', '.join(table.columns)};"
            " expected at least one numeric column such as mert_mse, mert_fad or sdr"
            + "".join(f"; {problem.message}" for problem in left_out)
        )
    items: dict[tuple[str, Item], ScoredItem] = {}
    problems = [*table.problems, *left_out]
    statuses: dict[str, int] = {}
    for row, place in zip(table.rows, table.places, strict=True):
        status = text(row, ["status"]) or "ok"
        statuses[status] = statuses.get(status, 0) + 1
        try:
            estimate, layer = text(row, ["estimate", "filepath"]) or "", _layer(row)
        except ValueError:
            problems.append(Problem(place, f"layer {row.get('layer')!r} is not a whole number; row skipped"))
            continue
        item = identify(row)
        scored = items.setdefault((estimate, item), ScoredItem(item, estimate))
        for name, value in _row_values(row, metrics, place, problems).items():
            if scored.values.setdefault((name, layer), value) != value:
                where = f" on layer {layer}" if layer is not None else ""
                raise TableError(f"{place}: {estimate or item} has a second {name}{where}; keep one score an estimate")
    notes = tuple(f"{count} rows with status {status!r}" for status, count in statuses.items() if status != "ok")
    return Scores(table.path, metrics, tuple(items.values()), tuple(problems), notes)


def identify(row: Mapping[str, Cell]) -> Item:
    """Tell what a score row is about, from its columns and, for parts they lack, from the estimate's path.

    ``MODEL/NAME_fileid_N.wav`` gives model and track ``fileid_N``; ``MODEL/TRACK/STEM.wav`` with a usual
    stem's name gives all three; any other ``MODEL/TRACK.wav`` gives model and track.
    """
    path = PurePosixPath((text(row, ["estimate", "filepath"]) or "").replace("\\", "/"))
    track = text(row, ["track", "file_id"]) or ""
    numbered = file_id(track or path.name)
    parents = [part for part in path.parts[:-1] if part not in (".", "..", "/")]
    folder = parents[-1] if parents else ""
    if numbered:
        track, model, stem = numbered, folder, ""
    elif len(parents) > 1 and path.stem.lower() in STEMS:
        track, model, stem = track or folder, parents[-2], path.stem
    else:
        track, model, stem = track or path.stem, folder, ""
    return Item(
        model=text(row, ["model", "model_name"]) or model,
        track=track,
        stem=text(row, ["stem", "stem type"]) or stem,
        id=text(row, ["id"]) or "",
        model_type=text(row, ["model_type"]) or "",
    )


def file_id(name: str) -> str:
    """``fileid_N`` where a name has it, in lower case; otherwise nothing."""
    found = _FILE_ID.search(name)
    return found[0].lower() if found else ""


def _is_metric(table: Table, column: str) -> bool:
    if not _may_be_metric(column):
        return False
    numbers, others = _parted(table, column)
    return len(numbers) > len(others)


def _may_be_metric(column: str) -> bool:
    return column not in NAMING and not _NOT_METRICS.fullmatch(column)


def _left_out(table: Table, metrics: Sequence[str]) -> Iterator[Problem]:
    """What looks like a metric too, and is none."""
    for column in table.columns:
        numbers, others = _parted(table, column)
        if column in metrics or not _may_be_metric(column) or not others:
            continue
        if 3 * len(numbers) >= len(others) or rises(column) is not None:
            yield Problem(
                table.path.name,
                f"the column {column} is no metric, as {len(others)} of its {len(numbers) + len(others)} cells are no "
                f"numbers, such as {others[0]!r}; column left out",
            )


def _parted(table: Table, column: str) -> tuple[list[Cell], list[Cell]]:
    """The cells of a column that are numbers, and the others; empty ones are neither."""
    cells = [row.get(column) for row in table.rows if row.get(column) is not None]
    numbers = [cell for cell in cells if _parses(cell)]
    return numbers, [cell for cell in cells if not _parses(cell)]


def _parses(cell: Cell) -> bool:
    try:
        number(cell)
    except ValueError:
        return False
    return True


def _layer(row: Mapping[str, Cell]) -> int | None:
    layer = number(row.get("layer"))
    if layer is not None and not layer.is_integer():
        raise ValueError(layer)
    return None if layer is None else int(layer)


def _row_values(
    row: Mapping[str, Cell], metrics: tuple[str, ...], place: str, problems: list[Problem]
) -> dict[str, float]:
    values = {}
    for name in metrics:
        try:
            value = number(row.get(name))
        except ValueError:
            problems.append(Problem(place, f"{name} is {row.get(name)!r}, not a number; counted as missing"))
            continue
        if value is not None:
            values[name] = value
    return values
