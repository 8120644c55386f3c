"""`mertric bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mertric.cli.options import model_options, table_options
from mertric.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option(
    "--seconds",
    multiple=True,
    type=click.FloatRange(min=0.02),
    default=(1.0, 5.0, 30.0),
    show_default=True,
    help="Length of a clip; can be given several times.",
)
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, help="Clips at once.")
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True, help="Timed runs of each length.")
@model_options
@table_options
def command(
    seconds: tuple[float, ...],
    batch: int,
    runs: int,
    model: str,
    provider: str,
    precision: str,
    threads: int | None,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Measure how long it takes to embed clips here, decoded and warm: latency and real-time factor.

    The scripts in benchmarks/ compare with PyTorch and with the pipelines of others.
    """
    from mertric.latency import measure_latency
    from mertric.loading import load
    from mertric.report import report

    encoder = load(model, provider=provider, precision=precision, threads=threads)
    with progress("measuring", len(seconds) * runs) as advance:
        rows = measure_latency(encoder, seconds=seconds, batch=batch, runs=runs, advance=advance)
    where = {"model": encoder.bundle.model, "provider": encoder.provider, "precision": encoder.precision}
    rows = [{**where, **row} for row in rows]
    report(rows, list(rows[0]), csv_path=csv_path, json_path=json_path)
