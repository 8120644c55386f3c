"""How far is each provider and precision from fp32 on the CPU: in hidden states, and in both metrics of pairs?

What `mertric export --verify` measures, for everything that works here, on made-up music and, where folders of
references and estimates are given, on these.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from environment import environment
from material import SIZES
from tables import markdown

from mertric.providers import COMPUTED
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.gate import compare_precisions
from mertric_export.material import made_up_music, read_material
from mertric_export.synthetic import write_checkpoint

COLUMNS = [
    {"key": "provider", "title": "provider", "format": ""},
    {"key": "precision", "title": "precision", "format": ""},
    {"key": "max_error_over_rms", "title": "largest error / rms", "format": ".1e"},
    {"key": "relative_error", "title": "relative error", "format": ".1e"},
    {"key": "mert_mse", "title": "largest change of `mert_mse`", "format": ".2%"},
    {"key": "mert_fad", "title": "of `mert_fad`", "format": ".2%"},
    {"key": "bound", "title": "bound", "format": ".1%"},
]


def table(title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A table of rows of `compare_precisions`."""
    shown = [{column["key"]: row[column["key"]] for column in COLUMNS} for row in map(named, rows)]
    return {"title": f"{title}, {max(row['pairs'] or 0 for row in rows)} pairs", "columns": COLUMNS, "rows": shown}


def named(row: dict[str, Any]) -> dict[str, Any]:
    """Say beside a provider that the CPU emulated it."""
    return row | {"provider": f"{row['provider']} (emulated)" if row["emulated"] else row["provider"]}


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's directory; by default a seeded one is made")
    parser.add_argument("--pairs", nargs=2, type=Path, metavar=("REFERENCES", "ESTIMATES"), help="real audio")
    parser.add_argument("--name", default="real audio", help="what to call that")
    parser.add_argument("--precisions", nargs="+", choices=COMPUTED, default=COMPUTED, help="what to compare with fp32")
    parser.add_argument("--title", default="Precisions", help="heading of the tables")
    options = parser.parse_args()
    given = read_material(*options.pairs) if options.pairs else None
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or write_checkpoint(Path(folder) / "checkpoint", SIZES[options.size])
        bundle = export_checkpoint(
            checkpoint,
            Path(folder) / "bundle",
            provenance=Provenance(model=options.size, trained=options.checkpoint is not None),
            precisions=options.precisions,
            material=made_up_music(),
            bounds=False,
            notify=print,
        )
        compared = {"made-up music": bundle.parity["precisions"]}
        if given is not None:
            compared[options.name] = compare_precisions(bundle.path, bundle.precisions, given, notify=print)
    tables = [table(f"MERT {options.size}, {name}", rows) for name, rows in compared.items()]
    result = {"title": options.title, "environment": environment(), "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
