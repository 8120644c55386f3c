"""`mertric score`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mertric.cli.messages import note_untrained, say
from mertric.cli.options import (
    FILE,
    PATH,
    layers_option,
    make_windows,
    memory_option,
    model_options,
    protocol_option,
    table_options,
    window_options,
)
from mertric.cli.progress import score_with_progress
from mertric.report import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mertric.pairing import Pair
    from mertric.scoring import Row


@click.command()
@click.argument("reference", type=PATH)
@click.argument("estimates", type=PATH, nargs=-1, metavar="[ESTIMATE]...")
@click.option(
    "--metrics",
    default="mert",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="Metrics by name: mert_mse, mert_fad (both: mert), sdr, usdr, si_sdr, si_sir, si_sar, sdr_v4, isr_v4, sir_v4, "
    "sar_v4, spectrogram_mse, waveform_mse (all of these: waveform), or all.",
)
@layers_option(
    "Hidden states to compare, from 0, before the first layer; the encoder runs once for all.  [default: the last]"
)
@click.option(
    "--trim",
    is_flag=True,
    help="Where lengths differ, compare the part that both files have, or for waveform metrics the references of a "
    "track and one model's estimates.",
)
@click.option("--journal", type=FILE, help="Keep what is computed in this file; the same call again goes on there.")
@model_options
@protocol_option
@window_options
@memory_option
@table_options
def command(
    reference: Path,
    estimates: tuple[Path, ...],
    metrics: str,
    layers: tuple[int, ...] | None,
    trim: bool,
    journal: Path | None,
    model: str,
    provider: str,
    precision: str,
    threads: int | None,
    protocol: str,
    window: float | None,
    overlap: float | None,
    memory: int,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Score estimates against a reference: files against a file, or folders against a folder.

    Files in folders pair by equal relative path (TRACK/STEM.wav), else by a name that begins with all of the
    reference's, where no number follows (song.wav and song_(Vocals).wav), else by a numbered identifier that exactly
    one file on each side has (fileid_12). A folder of model folders stands for all of them. A file that cannot be
    scored becomes a row that says why.

    REFERENCE alone can be a manifest: a CSV or JSON file with reference and estimate, and where known model, track,
    stem and model_type.

    The exit code is 0 if every row is ok, 1 if not, 2 if nothing could be scored.
    """
    from mertric.loading import load
    from mertric.report import report, show_table
    from mertric.scoring import split_metrics

    pairs = _pairs(reference, estimates)
    if estimates:
        _say_what_parts_of_names_paired(pairs)
    names = metric_names(metrics, pairs)
    mert, _ = split_metrics(names)
    windows = make_windows(window, overlap) if mert else None
    if not mert:
        _say_what_is_not_used()
    encoder = load(model, provider=provider, precision=precision, threads=threads) if mert else None
    rows = score_with_progress(
        pairs,
        encoder,
        metrics=names,
        layers=layers,
        protocol=protocol,
        trim=trim,
        windows=windows,
        journal=journal,
        memory=memory,
    )
    report(rows, _terminal_columns(rows), csv_path=csv_path, json_path=json_path)
    if means := mean_rows(rows, names):
        counted = [_with_counts(mean, names) for mean in means]
        show_table(counted, list(counted[0]), title="Means over the rows that have a finite value")
        several = len({mean.get("model") for mean in means}) > 1
        if several and any(count in mean for mean in means for count in map(_count, names)):
            say("Some rows lack a finite value: means of one metric may be over other files for each model.")
    if encoder is not None:
        note_untrained(encoder.bundle)
    code = exit_code(rows)
    if any(row["status"] == "unmatched" for row in rows):
        say("Files pair as `mertric score --help` says; a manifest pairs any others.")
    sys.exit(code)


def _say_what_is_not_used() -> None:
    """Name the options that were given and are the model's, where no metric needs a model."""
    context = click.get_current_context()
    own = ("layers", "model", "provider", "precision", "threads", "protocol", "window", "overlap", "memory")
    given = [
        param.opts[0]
        for param in context.command.params
        if param.name in own and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        say(f"{', '.join(given)}: not used, as no MERT metric is asked for.")


def exit_code(rows: Sequence[Row]) -> int:
    """Say on standard error what is wrong with rows that are not ok, and return 0, 1 or 2 as `command` says."""
    faults: dict[tuple[object, object], list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            faults.setdefault((row["status"], row["reason"]), []).append(str(row["estimate"] or row["reference"] or ""))
    for (status, reason), files in faults.items():
        files = list(dict.fromkeys(filter(None, files))) or [""]
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        where = "" if str(reason).startswith(files[0]) else f"{', '.join(files[:3])}{more}: "
        say(printable(f"{status}: {where}{reason}"))
    if not faults:
        return 0
    say(f"{sum(row['status'] == 'ok' for row in rows)} of {len(rows)} rows are ok.")
    return 1 if any(row["status"] in ("ok", "partial") for row in rows) else 2


def metric_names(metrics: str, pairs: Sequence[Pair]) -> list[str]:
    """Spell out groups of metrics; of those, ratios to interference are left out where no track has any."""
    from mertric.mert_scores import MERT_METRICS
    from mertric.metrics.registry import WAVEFORM_METRICS

    waveform = tuple(WAVEFORM_METRICS)
    references = {(pair.track, pair.reference) for pair in pairs if pair.reference is not None}
    if len(references) == len({track for track, _ in references}):
        waveform = tuple(name for name in waveform if name not in ("si_sir", "sir_v4"))
    groups = {"mert": MERT_METRICS, "waveform": waveform, "all": (*MERT_METRICS, *waveform)}
    named = [name.strip() for name in metrics.split(",") if name.strip()]
    if len(waveform) < len(WAVEFORM_METRICS) and not {"waveform", "all"}.isdisjoint(named):
        click.echo("si_sir and sir_v4 are left out: no track has several references.", err=True)
    return list(dict.fromkeys(metric for name in named for metric in groups.get(name, (name,))))


def _pairs(reference: Path, estimates: tuple[Path, ...]) -> list[Pair]:
    from mertric.errors import PairingError
    from mertric.manifest import read_manifest
    from mertric.pairing import pair

    if estimates or not reference.exists():
        return pair(reference, estimates)
    if reference.is_file() and reference.suffix.lower() in (".csv", ".json"):
        return read_manifest(reference)
    raise PairingError(
        f"no estimates were given for {reference}; expected files or folders to score against it, or a manifest "
        "(.csv or .json) alone."
    )


def _say_what_parts_of_names_paired(pairs: Sequence[Pair]) -> None:
    """Name the files that were paired though they are called otherwise."""
    from mertric.names import folded

    unlike = [
        pair
        for pair in pairs
        if pair.model is not None
        and pair.reference
        and pair.estimate
        and folded(pair.reference.stem) != folded(pair.estimate.stem)
    ]
    if unlike:
        say(
            f"{len(unlike)} of {len(pairs)} pairs go by a part of the files' names, such as "
            f"{unlike[0].reference} with {unlike[0].estimate}."
        )


def _terminal_columns(rows: Sequence[Row]) -> list[str]:
    """Choose what fits a terminal: names instead of paths where model and track tell rows apart."""
    named = all(row["model"] is not None and row["track"] is not None for row in rows)
    left_out = {"reason", "settings"} | ({"reference", "estimate"} if named else {"model", "track"})
    return [name for name in rows[0] if name not in left_out and any(row[name] is not None for row in rows)]


def _count(metric: str) -> str:
    """The column that says how many rows a metric's mean is over."""
    return f"{metric} over"


def _with_counts(mean: Row, metrics: Sequence[str]) -> Row:
    """Put how many rows a mean is over in its cell, where not all have one: a column each would not fit a terminal."""
    row = {key: value for key, value in mean.items() if key not in map(_count, metrics)}
    for name in metrics:
        if (count := mean.get(_count(name))) and isinstance(value := row[name], float):
            row[name] = f"{value:.4g} over {count}"
    return row


def mean_rows(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """Average each metric over a model's rows, for each layer and stem, and say of how many where not all have one."""
    import math

    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row["status"] != "unmatched":
            groups.setdefault((row["model"], row["stem"], row["layer"]), []).append(row)
    if all(len(group) == 1 for group in groups.values()):
        return []
    means: list[Row] = []
    for (model, stem, layer), group in groups.items():
        mean: Row = {"model": model, "stem": stem, "layer": layer, "rows": len(group)}
        for name in metrics:
            values = [v for row in group if isinstance(v := row[name], float) and math.isfinite(v)]
            mean[name] = sum(values) / len(values) if values else None
            mean[_count(name)] = None if len(values) == len(group) else len(values)
        means.append(mean)
    return [{key: mean[key] for key in mean if any(m[key] is not None for m in means)} for mean in means]
