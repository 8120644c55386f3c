"""CSV and JSON files as rows of named cells, with the place of each row for messages."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mertric.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Cell = str | float | None


_INDEX = re.compile(r"(Unnamed: [\d.]+)?")
"""What the columns are called in which pandas writes the numbers of rows."""
_HEADER = 1 << 16
"""Characters in which a header ends, or shows its delimiter."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)
NAMING = frozenset(
    (
        *("id", "file_id", "trial_id", "model", "model_name", "model_type", "track", "stem", "stem type"),
        *("estimate", "filepath", "reference", "status", "reason", "rater", "subject", "listener", "session_uuid"),
    )
)
"""Columns that say what a row is about: text, whatever it looks like."""
_MEANT = {name.lower(): name for name in (*NAMING, "layer", "rating", "violation_total", "DMOS")}
"""Columns that are found whatever the case of their letters, and how they are spelled here; `_RATER` too."""
_RATER = re.compile(r"(subject_)?rating_\d+")


@dataclass(frozen=True)
class Problem:
    """One thing in a file that was not taken as it stands.

    Attributes
    ----------
    place
        Where: the file's name, with ``line 7`` of a CSV or ``row 7`` of a JSON array.
    message
        What was found there and what was done about it.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Table:
    """Rows of one file.

    Attributes
    ----------
    path
        The file.
    columns
        Column names, in the file's order.
    rows
        One mapping of column to cell a row: text for CSV; text, number or None for JSON. Empty cells are
        None.
    places
        Per row, its place in the file.
    problems
        Rows that could not be read, each skipped.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Cell], ...]
    places: tuple[str, ...]
    problems: tuple[Problem, ...]


def read_table(path: Path | str) -> Table:
    """Read a CSV file (comma, semicolon or tab) or a JSON array of objects.

    Between semicolons and tabs, numbers may have a decimal comma. Columns that have a meaning, such as ``model``, may
    be spelled in any case.

    Parameters
    ----------
    path
        File name; ``.json`` is read as JSON, anything else as CSV with a header line, in UTF-8.

    Raises
    ------
    TableError
        If the file is absent, not UTF-8, not such a table, or empty. A CSV row whose number of fields differs
        from the header's is skipped and stands in `Table.problems`. A column without a name, or with the one that
        pandas gives it, is an index and left out.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}; give an existing file") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 CSV or JSON") from error
    table = _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)
    if not table.rows:
        found = "; ".join(map(str, table.problems)) or "a header and nothing below it"
        raise TableError(f"{path} has no rows ({found}); expected at least one row of scores or ratings")
    return table


def number(cell: Cell) -> float | None:
    """Value of a cell: None if it is empty or NaN; infinities are kept.

    Raises
    ------
    ValueError
        If the cell holds something other than a number.
    """
    if cell is None:
        return None
    if isinstance(cell, str) and "_" in cell:  # which Python takes for a mark between digits
        raise ValueError(cell)
    value = float(cell)
    return None if math.isnan(value) else value


def text(row: Mapping[str, Cell], columns: Sequence[str]) -> str | None:
    """First non-empty cell among the named columns, as text."""
    for column in columns:
        cell = row.get(column)
        if cell is not None:
            return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
    return None


def _from_csv(path: Path, content: str) -> Table:
    delimiter = _delimiter(content)
    reader = _csv_lines(path, csv.reader(io.StringIO(content, newline=""), delimiter=delimiter))
    line, header = next(reader, (0, []))
    columns = tuple(_spelled(name) for name in header)
    if not any(columns):
        raise TableError(f"{path} is empty; expected a CSV file with a header line")
    named = tuple(name for name in columns if not _INDEX.fullmatch(name))
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise TableError(f"{path} names columns twice: {', '.join(map(repr, repeated))}; rename or remove one")
    rows: list[Mapping[str, Cell]] = []
    places: list[str] = []
    problems: list[Problem] = []
    for line, fields in reader:
        place = f"{path.name}, line {line}"
        if len(fields) != len(columns):
            problems.append(Problem(place, f"{len(fields)} fields, expected {len(columns)}; row skipped"))
            continue
        cells = zip(columns, fields, strict=True)
        rows.append({name: _csv_cell(name, field, delimiter) for name, field in cells if name in named})
        places.append(place)
    return Table(path, named, tuple(rows), tuple(places), tuple(problems))


def _delimiter(content: str) -> str:
    """The mark that stands most often in the header, outside of quotes."""
    header = re.sub(r'"[^"]*"', "", content[:_HEADER]).lstrip("\r\n").split("\n", 1)[0]
    return max(",;\t", key=header.count)


def _csv_cell(column: str, field: str, delimiter: str) -> str | None:
    """A cell's text, or None; a number with a decimal comma, which delimits nothing then, with a point."""
    cell = field.strip()
    if delimiter != "," and column not in NAMING and _DECIMAL_COMMA.fullmatch(cell):
        return cell.replace(",", ".")
    return cell or None


def _spelled(name: str) -> str:
    """A column's name; one that has a meaning here in lower case."""
    lower = name.strip().lower()
    return lower if _RATER.fullmatch(lower) else _MEANT.get(lower, name.strip())


def _csv_lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV reader that are not blank, each with the line that it begins on."""
    try:
        line = 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{path} is not CSV (line {line}: {error}); check its quotation marks") from error


def _from_json(path: Path, content: str) -> Table:
    try:
        payload = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path} is not JSON ({error}); expected an array of rows") from error
    if not isinstance(payload, list):
        raise TableError(f"{path} holds a JSON {type(payload).__name__}; expected an array of row objects")
    rows: list[Mapping[str, Cell]] = []
    places: list[str] = []
    problems: list[Problem] = []
    columns: dict[str, None] = {}
    for index, item in enumerate(payload, start=1):
        place = f"{path.name}, row {index}"
        if not isinstance(item, dict):
            problems.append(Problem(place, f"a {type(item).__name__}, expected an object; row skipped"))
            continue
        row = {_spelled(name): _json_cell(value) for name, value in item.items()}
        if len(row) < len(item):
            problems.append(Problem(place, "columns whose names differ in case only; row skipped"))
            continue
        columns.update(dict.fromkeys(row))
        rows.append(row)
        places.append(place)
    return Table(path, tuple(columns), tuple(rows), tuple(places), tuple(problems))


def _json_cell(value: object) -> Cell:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):  # an integer of hundreds of digits
            if float(value) == value or value != value:  # one that a float does not hold may be an identifier
                return float(value)
    return None if value is None or value == "" else str(value)
