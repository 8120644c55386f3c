"""`mertric passages`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mertric.cli.messages import note_untrained
from mertric.cli.options import PATH, model_options, protocol_option, table_options

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("reference", type=PATH)
@click.argument("estimate", type=PATH)
@click.option("--seconds", type=_LENGTH, default=5.0, show_default=True, help="Length of a passage.")
@click.option("--hop", type=_LENGTH, help="Seconds from one passage's start to the next one's.  [default: the length]")
@click.option("--layer", type=int, help="Hidden state to compare.  [default: the last]")
@model_options
@protocol_option
@table_options
def command(
    reference: Path,
    estimate: Path,
    seconds: float,
    hop: float | None,
    layer: int | None,
    model: str,
    provider: str,
    precision: str,
    threads: int | None,
    protocol: str,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Show where in an ESTIMATE it sounds worse: both metrics of passages along it, against its REFERENCE.

    Both files are embedded whole. A passage's mert_fad is of its own means and covariances: compare it with that of
    other passages as long, not with a whole clip's.
    """
    from mertric.loading import load
    from mertric.passages import score_passages
    from mertric.report import report
    from mertric.scoring import describe

    encoder = load(model, provider=provider, precision=precision, threads=threads)
    found = score_passages(
        reference, estimate, seconds=seconds, hop=hop, encoder=encoder, layer=layer, protocol=protocol
    )
    settings = describe(encoder, protocol=protocol)
    rows = [
        {
            "reference": str(reference),
            "estimate": str(estimate),
            "layer": one.layer,
            "start": one.start,
            "end": one.end,
            "silent": " and ".join(one.silent) or None,
            "mert_mse": one.mse,
            "mert_fad": one.fad,
            "settings": settings,
        }
        for one in found
    ]
    report(rows, ["start", "end", "mert_mse", "mert_fad"], csv_path=csv_path, json_path=json_path)
    if len(found) > 1:
        for name, worst in (
            ("mert_mse", max(found, key=lambda one: one.mse)),
            ("mert_fad", max(found, key=lambda one: one.fad)),
        ):
            click.echo(f"Worst by {name}: {_clock(worst.start)} to {_clock(worst.end)}.")
    if found[0].silent:
        click.echo(f"All of the {' and the '.join(found[0].silent)} is silence.")
    note_untrained(encoder.bundle)


def _clock(seconds: float) -> str:
    """Minutes and seconds, as players show them."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"
