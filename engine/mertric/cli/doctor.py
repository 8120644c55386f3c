"""`mertric doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mertric.cli.options import table_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@table_options
def command(csv_path: Path | None, json_path: Path | None) -> None:
    """Show versions and providers, what works here and why the rest does not.

    Each provider is tried by running a small model on it. The exit code is 1 where something is broken.
    """
    from mertric.diagnosis import diagnose
    from mertric.report import show_table, write_csv, write_json

    rows = diagnose()
    columns = list(rows[0])
    if csv_path:
        write_csv(csv_path, rows, columns)
    if json_path:
        write_json(json_path, rows)
    show_table(rows, columns)
    if any(row["state"] == "problem" for row in rows):
        raise SystemExit(1)
