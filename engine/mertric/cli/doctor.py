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
    from mertric.report import report

    rows = diagnose()
    report(rows, list(rows[0]), csv_path=csv_path, json_path=json_path)
    if any(row["state"] == "problem" for row in rows):
        raise SystemExit(1)
