"""`mertric score`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mertric.cli.options import (
    PATH,
    layers_option,
    model_options,
    progress_bar,
    protocol_option,
    table_options,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("reference", type=PATH)
@click.argument("estimates", type=PATH, nargs=-1, required=True, metavar="ESTIMATE...")
@layers_option("Hidden states to compare.  [default: the last]")
@model_options
@protocol_option
@table_options
def command(
    reference: Path,
    estimates: tuple[Path, ...],
    layers: tuple[int, ...] | None,
    model: str,
    provider: str,
    precision: str,
    threads: int | None,
    protocol: str,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Score estimates against a reference: files against a file, or folders against a folder.

    Files in folders pair by equal relative path, then by an identifier in the name such as fileid_12 that only
    one file of each folder has. A file that cannot be scored becomes a row that says why.

    The exit code is 0 if every row is ok, 1 if not, 2 if nothing could be scored.
    """
    from mertric.loading import load
    from mertric.pairing import pair
    from mertric.report import show_table, write_csv, write_json
    from mertric.scoring import score_pairs

    pairs = pair(reference, estimates)
    encoder = load(model, provider=provider, precision=precision, threads=threads)
    encoder.check_layers(layers)
    with progress_bar() as progress:
        task = progress.add_task("scoring", total=len(pairs))
        rows = score_pairs(pairs, encoder, layers=layers, protocol=protocol, advance=lambda: progress.advance(task))
    columns = list(rows[0])
    if csv_path:
        write_csv(csv_path, rows, columns)
    if json_path:
        write_json(json_path, rows)
    shown = [name for name in columns if any(row[name] is not None for row in rows)]
    show_table(rows, shown)
    if not encoder.bundle.trained:
        click.echo("The weights are untrained: the figures show the tool and not quality.")
    scored = sum(row["status"] in ("ok", "partial") for row in rows)
    if any(row["status"] != "ok" for row in rows):
        click.echo(f"{scored} of {len(rows)} rows scored; see status and reason for the others.", err=True)
        sys.exit(1 if scored else 2)
