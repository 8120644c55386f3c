"""`mertric study`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mertric.cli.messages import note_untrained
from mertric.cli.options import FOLDER, PATH, bootstrap_options, layers_option, model_options, protocol_option
from mertric.cli.progress import score_with_progress

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("name", type=click.Choice(["gensvs", "bakeoff"]))
@click.argument("directory", type=PATH)
@click.option("-o", "--output", type=FOLDER, help="Folder for the results.  [default: DIRECTORY/mertric-study]")
@click.option("--references", type=PATH, help="Folder of references.  [default: found by its name]")
@click.option("--estimates", type=PATH, help="Folder of model folders.  [default: DIRECTORY]")
@click.option("--ratings", type=PATH, help="The listeners' ratings.  [default: found by its columns]")
@click.option("--metrics", help="Metrics, as for `mertric score`.  [default: those of the paper's table]")
@layers_option("Hidden states to score; several show which follows listeners best.  [default: the last]")
@click.option("--trim", is_flag=True, help="Where lengths differ, compare the part that both files have.")
@bootstrap_options
@model_options
@protocol_option
@click.pass_context
def command(
    context: click.Context,
    name: str,
    directory: Path,
    output: Path | None,
    references: Path | None,
    estimates: Path | None,
    ratings: Path | None,
    metrics: str | None,
    layers: tuple[int, ...] | None,
    trim: bool,
    bootstrap: int,
    seed: int,
    model: str,
    provider: str,
    precision: str,
    threads: int | None,
    protocol: str,
) -> None:
    """From the unpacked data of a published listening test to the paper's table.

    gensvs: folders target/ and MODEL/ with files paired by fileid_N, and gensvs_eval_data.csv. bakeoff:
    MODEL/TRACK/STEM.wav, references TRACK/STEM.wav, and the CSV of listeners' sessions.

    The output folder gets scores.csv and .json, correlations.csv, .json and .tex, and plots where matplotlib is
    installed. Interrupted, the same call goes on where it stopped.
    """
    from mertric.cli.correlate import command as correlate
    from mertric.cli.score import exit_code, metric_names
    from mertric.listening.ratings import read_ratings
    from mertric.loading import load
    from mertric.report import write_rows
    from mertric.scoring import split_metrics
    from mertric.study import STUDIES, find_pairs, find_ratings

    study = STUDIES[name]
    pairs = find_pairs(study, directory, references=references, estimates=estimates)
    ratings = ratings or find_ratings(study, directory)
    read_ratings(ratings)  # what is wrong with them is said before hours of scoring
    output = output or FOLDER.convert(directory / "mertric-study", None, context)
    names = metric_names(metrics, pairs) if metrics else list(study.metrics)
    mert, _ = split_metrics(names)
    encoder = load(model, provider=provider, precision=precision, threads=threads) if mert else None
    rows = score_with_progress(
        pairs,
        encoder,
        metrics=names,
        layers=layers,
        protocol=protocol,
        trim=trim,
        journal=output / "journal.jsonl",
    )
    scores = output / "scores.csv"
    write_rows(rows, csv_path=scores, json_path=output / "scores.json")
    code = exit_code(rows)
    context.invoke(
        correlate,
        scores=scores,
        ratings=ratings,
        by=study.by,
        metrics=(),
        level="both",
        bootstrap=bootstrap,
        seed=seed,
        compare=(),
        max_violations=3,
        average="mean",
        latex=output / "correlations.tex",
        plots=output / "plots" if _has_matplotlib() else None,
        csv_file=output / "correlations.csv",
        json_file=output / "correlations.json",
    )
    if encoder is not None:
        note_untrained(encoder.bundle)
    click.echo(f"Everything is in {output}.")
    context.exit(code)


def _has_matplotlib() -> bool:
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None
