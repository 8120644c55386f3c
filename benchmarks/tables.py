"""Markdown tables from the JSON that benchmarks write.

    python benchmarks/tables.py FILE.json...
    python benchmarks/tables.py benchmarks/results/*.json --into benchmarks/RESULTS.md

A benchmark writes `{"title", "environment", "tables": [{"title", "columns", "rows"}]}`. Columns are
`{"key", "title", "format"}`, where `format` is a Python format specification ("" for text), or "ms" or "s"
for seconds; rows are objects whose missing or null values show as a dash.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


NOT_RUN = "Not run"
"""Title of the table of sides that could not run, and why."""


def markdown(benchmark: Mapping[str, Any], *, leave_out: str | None = None) -> str:
    """All tables of one benchmark but those of one title, below a line that says where it ran."""
    where = benchmark["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    machine = f"{where['cpu']}, {where['cores']} cores"
    if rates := where.get("matrix_rates"):
        measured = ", ".join(f"{name} {rate / 1e12:.0f}" for name, rate in rates.items())
        machine += f"; {where['gpu']}, whose matrix products ran at (TFLOP/s) {measured}"
    head = f"## {benchmark['title']}\n\n{machine}; Python {where['python']}, {versions}."
    return "\n\n".join([head, *(table(t) for t in benchmark["tables"] if t["title"] != leave_out)]) + "\n"


def table(spec: Mapping[str, Any]) -> str:
    """One table with its title."""
    columns: Sequence[Mapping[str, str]] = spec["columns"]
    lines = [_line([column["title"] for column in columns])]
    lines.append(_line(["---" if column["format"] == "" else "---:" for column in columns]))
    lines += [_line([_cell(row.get(column["key"]), column["format"]) for column in columns]) for row in spec["rows"]]
    return f"{spec['title']}\n\n" + "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "–"
    if form == "ms":
        return f"{1e3 * value:.3g} ms" if value < 1.0 else f"{value:.2f} s"
    if form == "s":
        return f"{value:.3g} s"
    return format(value, form)


def fill(document: str, name: str, text: str) -> str:
    """Put a benchmark's tables between its two marks in a document.

    Raises
    ------
    ValueError
        The document has no such marks.
    """
    start, end = f"<!-- benchmark {name} -->", f"<!-- end of benchmark {name} -->"
    head, found, rest = document.partition(start)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no {start} ... {end}")
    return f"{head}{start}\n\n{text.strip()}\n\n{end}{tail}"


def filled(document: str, files: Iterable[Path]) -> str:
    """The document with the tables of benchmarks, between marks that are named like the files."""
    for file in files:
        benchmark = json.loads(file.read_text(encoding="utf-8"))
        document = fill(document, file.stem, markdown(benchmark, leave_out=NOT_RUN))
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="what benchmarks wrote with --json")
    parser.add_argument("--into", type=Path, help="a document with marks named like the files; its tables are replaced")
    arguments = parser.parse_args()
    if arguments.into is not None:
        document = arguments.into.read_text(encoding="utf-8")
        arguments.into.write_text(filled(document, arguments.files), encoding="utf-8")
        return
    for file in arguments.files:
        print(markdown(json.loads(file.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
