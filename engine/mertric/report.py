"""Tables on the terminal, and the same rows as CSV and JSON files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mertric.output import is_stream, replacing, writing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_ROWS = 1000
_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def show_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, title: str | None = None) -> None:
    """Print rows as a table on standard output; a terminal gets the first `MOST_ROWS`, and how many more there are.

    Parameters
    ----------
    rows
        One mapping a row; a missing key or ``None`` shows as an empty cell.
    columns
        The keys to show, in order.
    title
        A line above the table.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # of which the command makes its exit code, and Rich another

    console = _Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = _Console(markup=False, emoji=False, width=200)
    shown = rows[:MOST_ROWS] if console.is_terminal else rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = any(isinstance(row.get(column), (int, float)) for row in shown)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    if title:
        console.print(title, soft_wrap=True)
    console.print(table)
    if len(shown) < len(rows):
        console.print(f"… and {len(rows) - len(shown)} more rows, which --csv and --json write.", highlight=False)


def write_csv(path: Path | str, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write rows to a CSV file, whole or not at all; ``None`` becomes an empty field."""
    buffer = io.StringIO(newline="")
    usual = csv.writer(buffer, lineterminator="\n")
    quoting = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)  # for returns, which would end a row
    table: list[list[object]] = [list(columns)]
    table += [["" if row.get(key) is None else row[key] for key in columns] for row in rows]
    for cells in table:
        returns = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoting if returns else usual).writerow(cells)
    write_text(path, buffer.getvalue())


def write_json(path: Path | str, payload: object) -> None:
    """Write strict JSON, whole or not at all; NaN becomes ``null``, infinities ``"inf"`` and ``"-inf"``."""
    write_text(path, json.dumps(_strict(payload), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def report(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    csv_path: Path | None,
    json_path: Path | None,
    shown: Sequence[Mapping[str, object]] | None = None,
    title: str | None = None,
) -> None:
    """Write rows to the files that are asked for, and print them or, instead, `shown`: `write_rows` and `show_table`.

    What is printed comes last, as nobody may read it, and in any case: a full disk costs the files alone.
    """
    try:
        write_rows(rows, csv_path=csv_path, json_path=json_path)
    finally:
        show_table(rows if shown is None else shown, columns, title=title)


def write_rows(rows: Sequence[Mapping[str, object]], *, csv_path: Path | None, json_path: Path | None) -> None:
    """Write rows that all have the same keys to the files that are asked for."""
    if csv_path:
        write_csv(csv_path, rows, list(rows[0]))
    if json_path:
        write_json(json_path, rows)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 file through a temporary one beside it, so that a reader never sees half of it.

    What is there and is not a file, such as a pipe or ``/dev/stdout``, is written to as it is. Characters that UTF-8
    does not have, from names of files that are no text, are escaped with a backslash.

    Raises
    ------
    OutputError
        The file system refuses.
    """
    target, data = Path(path), text.encode("utf-8", "backslashreplace")
    if is_stream(target):
        with writing(target), _opened(target) as file:
            file.write(data)
    elif target.exists() and not target.is_file():
        with writing(target):
            target.write_bytes(data)
    else:
        with replacing(target) as partial:
            partial.write_bytes(data)


def _opened(path: Path) -> BinaryIO:
    """Open a stream of this process where it is, as one that is redirected to a file would begin again."""
    streams: tuple[Any, ...] = (sys.stdout, sys.__stdout__, sys.stderr)
    for stream in streams:
        same = False
        with suppress(OSError, ValueError, AttributeError):  # there may be none, or none that the system knows
            same = os.path.samestat(path.stat(), os.fstat(stream.fileno()))
        if same:
            stream.flush()
            return os.fdopen(os.dup(stream.fileno()), "wb")
    return path.open("wb")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))


def printable(text: str) -> str:
    """Escape what tells a terminal something, line ends too, or turns the order of others."""
    return "".join(ascii(mark)[1:-1] if _steers(mark) else mark for mark in text)


def _steers(mark: str) -> bool:
    return unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp") or mark in _BIDIRECTIONAL


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Path):
        return str(value)
    return value
