"""Pairs from a CSV or JSON file that names them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import TYPE_CHECKING

from mertric.errors import PairingError
from mertric.pairing import Pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

COLUMNS = ("reference", "estimate", "model", "track", "stem", "model_type")


def read_manifest(path: Path) -> list[Pair]:
    """Read pairs from a CSV file with a header, or from a JSON array of objects.

    Parameters
    ----------
    path
        Columns or keys are ``reference`` and ``estimate``, and where known ``model``, ``track``, ``stem`` and
        ``model_type``. Relative paths are relative to the manifest. A row that lacks one of the two files
        becomes a pair with a problem.

    Raises
    ------
    PairingError
        The file cannot be read, is empty, or has other columns or one twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PairingError(f"{path} cannot be read as a manifest ({error}). Expected CSV or JSON in UTF-8.") from error
    rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    if not rows:
        raise PairingError(f"{path} lists no pairs; expected rows with {', '.join(COLUMNS)}.")
    for number, row in enumerate(rows, 1):
        unknown = [str(name) for name in row if name not in COLUMNS]
        missing = [name for name in COLUMNS[:2] if name not in row]
        if unknown or missing:
            raise PairingError(
                f"row {number} of {path} has the columns {', '.join(map(str, row))}; expected reference and estimate, "
                f"and where known {', '.join(COLUMNS[2:])}."
            )
    return [_pair(path, number, row) for number, row in enumerate(rows, 1)]


def _csv_rows(path: Path, text: str) -> list[Mapping[str, str | None]]:
    reader = csv.DictReader(io.StringIO(text.lstrip("\r\n")))
    try:
        _require_once(path, reader.fieldnames or ())
        rows: list[Mapping[str, str | None]] = list(reader)
    except csv.Error as error:
        raise PairingError(f"{path} is not CSV ({error}). Check its quotation marks.") from error
    for number, row in enumerate(rows, 1):
        if None in row:  # what fields beyond the last column go by
            raise PairingError(
                f"row {number} of {path} has more fields than there are columns. Put what holds commas in quotation "
                "marks."
            )
    return rows


def _require_once(path: Path, names: Iterable[str]) -> None:
    repeated = [repr(name) for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise PairingError(f"{path} names {', '.join(repeated)} twice, as a column or in a row. Keep one of each.")


def _json_rows(path: Path, text: str) -> list[Mapping[str, str | None]]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _require_once(path, (name for name, _ in pairs))
        return dict(pairs)

    try:
        rows = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise PairingError(f"{path} is not JSON ({error}). Correct it, or write the manifest as CSV.") from error
    if (
        not isinstance(rows, list)
        or not all(isinstance(row, dict) for row in rows)
        or any(isinstance(value, (dict, list, bool)) for row in rows for value in row.values())
    ):
        raise PairingError(f"{path} holds other JSON than an array of objects with {', '.join(COLUMNS)}, all text.")
    return [{key: None if value is None else str(value) for key, value in row.items()} for row in rows]


def _pair(path: Path, number: int, row: Mapping[str, str | None]) -> Pair:
    fields = {name: (row.get(name) or "").strip() or None for name in COLUMNS}
    reference, estimate = (path.parent / file if (file := fields[name]) else None for name in COLUMNS[:2])
    lacking = [name for name in COLUMNS[:2] if not fields[name]]
    return Pair(
        reference=reference,
        estimate=estimate,
        model=fields["model"],
        track=fields["track"] or fields["reference"],
        stem=fields["stem"],
        model_type=fields["model_type"],
        problem=f"row {number} of {path} names no {' and no '.join(lacking)}" if lacking else None,
    )
