"""`mertric correlate`: how well metrics follow listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mertric.cli.options import FILE, FOLDER, PATH, bootstrap_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mertric.listening.analysis import Result
    from mertric.listening.items import Ratings
    from mertric.listening.matching import RatedScores
    from mertric.listening.scores import Scores

_SHORT = {"spearman": "SRCC", "pearson": "PCC", "kendall": "KRCC"}


@click.command()
@click.argument("scores", type=PATH)
@click.argument("ratings", type=PATH)
@click.option("--by", type=click.Choice(["stem", "model_type", "model"]), help="Split items; 'all' is added.")
@click.option("--metrics", multiple=True, metavar="A,B,...", help="Metrics to show (default: all); repeatable.")
@click.option(
    "--level",
    type=click.Choice(["item", "system", "both"]),
    default="both",
    show_default=True,
    help="Correlate over rated estimates, or over the means of models.",
)
@bootstrap_options
@click.option("--compare", nargs=2, multiple=True, metavar="A B", help="Does A follow listeners better than B?")
@click.option(
    "--max-violations", type=click.IntRange(min=0), default=3, show_default=True, help="Bake-Off: drop rows above it."
)
@click.option(
    "--average", type=click.Choice(["mean", "median"]), default="mean", show_default=True, help="Over raters."
)
@click.option("--latex", type=FILE, metavar="F", help="Write booktabs tables.")
@click.option("--plots", type=FOLDER, metavar="DIR", help="Write scatters, bars and the curve over layers.")
@click.option("--csv", "csv_file", type=FILE, metavar="F", help="Write the correlations.")
@click.option("--json", "json_file", type=FILE, metavar="F", help="Write every finding and what was left out.")
def command(
    scores: Path,
    ratings: Path,
    by: str | None,
    metrics: tuple[str, ...],
    level: str,
    bootstrap: int,
    seed: int,
    compare: tuple[tuple[str, str], ...],
    max_violations: int,
    average: str,
    latex: Path | None,
    plots: Path | None,
    csv_file: Path | None,
    json_file: Path | None,
) -> None:
    """Correlate the metrics in SCORES with the listeners' RATINGS.

    SCORES is what `mertric score` wrote, or any CSV or JSON with a numeric column a metric. RATINGS is
    GenSVS's or the Bake-Off's CSV, a webMUSHRA export, or a CSV of `id, rating` or `model, track, stem,
    rating`, with `rating_0, rating_1, ...` for several raters. Both may be one file.
    """
    from mertric import report
    from mertric.listening import analysis
    from mertric.listening.latex import latex_tables
    from mertric.listening.matching import match
    from mertric.listening.plots import require_matplotlib, write_plots
    from mertric.listening.ratings import read_ratings
    from mertric.listening.scores import read_scores

    if plots:
        require_matplotlib()
    scored = read_scores(scores)
    rated = read_ratings(ratings, max_violations=max_violations, average=average)
    joined = match(scored, rated)
    _warn(scored, rated, joined)
    names = [name.strip() for entry in metrics for name in entry.split(",") if name.strip()]
    shown = joined.select(names) if names else joined
    split = analysis.groups(joined, by=by, resamples=bootstrap, seed=seed)
    levels = analysis.LEVELS if level == "both" else (level,)
    results = analysis.correlate_groups(shown, split, levels=levels)
    comparisons = [row for pair in compare for row in analysis.compare_groups(joined, split, *pair)]
    agreements = analysis.agree_groups(joined, split, raters_known=rated.raters_known, seed=seed)

    rows = [result.row() for result in results]
    try:
        if csv_file:
            report.write_csv(csv_file, rows, analysis.COLUMNS)
        if json_file:
            kinds = {
                "correlation": rows,
                "comparison": comparisons,
                "agreement": agreements,
                "unmatched": _unmatched(joined),
            }
            report.write_json(json_file, [{"kind": kind, **row} for kind, part in kinds.items() for row in part])
        if latex:
            report.write_text(latex, latex_tables(results))
        if plots:
            write_plots(plots, shown, split, results)
    finally:  # a full disk costs the files alone
        click.echo(f"{len(joined.items)} rated estimates; ratings read as {rated.format}: {rated.path}")
        for note in (*scored.notes, *rated.notes, *_without(by, joined)):
            click.echo(f"note: {note}")
        _show_results(results)
        _show_layers(results)
        _show_rows("Comparison: strength of correlation on the same items", comparisons)
        _show_rows("Agreement among listeners, and the ceiling that it sets", agreements)


def _unmatched(joined: RatedScores) -> list[dict[str, object]]:
    sides = {"scores": joined.unmatched_scores, "ratings": joined.unmatched_ratings}
    return [{"side": side, "item": name} for side, names in sides.items() for name in names]


def _without(by: str | None, joined: RatedScores) -> list[str]:
    """Say how many items are in no group of `--by`."""
    count = sum(not getattr(item, by) for item in joined.items) if by else 0
    return [f"{count} of {len(joined.items)} rated estimates have no {by}: they are in 'all' alone"] * bool(count)


def _warn(scores: Scores, ratings: Ratings, joined: RatedScores) -> None:
    seen = dict.fromkeys(map(str, (*scores.problems, *ratings.problems)))
    for problem in seen:
        click.echo(f"warning: {problem}", err=True)
    for what, names in (
        ("scores without a rating", joined.unmatched_scores),
        ("ratings without a score", joined.unmatched_ratings),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            click.echo(f"warning: {len(names)} {what}, left out: {', '.join(names[:5])}{more}", err=True)


def _show_results(results: Sequence[Result]) -> None:
    from mertric import report

    columns = ["metric", "n", "infinite", "missing"]
    columns += [part for name in _SHORT.values() for part in (name, f"{name} 95 %", f"{name} p")]
    for level, group in dict.fromkeys((result.level, result.group) for result in results):
        chosen = [result for result in results if (result.level, result.group) == (level, group)]
        rows = [_result_row(result) for result in chosen]
        noted = [*columns, "note"] if any(row["note"] for row in rows) else columns
        what = "items" if level == "item" else "models"
        largest = max(result.correlation.n for result in chosen)
        title = f"{group}, {level} level: {largest} {what}, {chosen[0].tracks} tracks"
        report.show_table(rows, noted, title=title)


def _result_row(result: Result) -> dict[str, object]:
    found = result.correlation
    row: dict[str, object] = {"metric": str(result.metric), "n": found.n, "note": result.note}
    row |= {"infinite": found.infinite, "missing": found.missing}
    for name, short in _SHORT.items():
        coefficient = getattr(found, name)
        row[short] = _decimal(coefficient.value)
        row[f"{short} p"] = None if coefficient.p_value is None else f"{coefficient.p_value:.2g}"
        if coefficient.low is not None:
            row[f"{short} 95 %"] = f"[{_decimal(coefficient.low)}, {_decimal(coefficient.high)}]"
    return row


def _show_layers(results: Sequence[Result]) -> None:
    from mertric import report

    layered = [result for result in results if result.metric.layer is not None and result.level == "item"]
    for group, name in dict.fromkeys((result.group, result.metric.name) for result in layered):
        curve = [result for result in layered if (result.group, result.metric.name) == (group, name)]
        values = {result.metric.layer: result.correlation.spearman.value for result in curve}
        rows = [
            {
                "layer": result.metric.layer,
                "SRCC": _decimal(result.correlation.spearman.value),
                "magnitude": "#" * round(40 * abs(values[result.metric.layer] or 0)),
            }
            for result in curve
        ]
        report.show_table(
            rows,
            ["layer", "SRCC", "magnitude"],
            title=f"{name}, {group}: {_best(name, values)}",
        )


def _best(name: str, values: Mapping[int | None, float | None]) -> str:
    """Say which layer follows listeners best, by its rank correlation, whose sign is known of some metrics."""
    from mertric.listening.direction import wrong_way

    strength = {
        layer: -abs(value) if wrong_way(name, value) else abs(value)
        for layer, value in values.items()
        if value is not None
    }
    most = max(strength.values(), default=0.0)
    best = [str(layer) for layer, value in strength.items() if value == most]
    if most <= 0:
        return "no layer follows listeners"
    return f"layer {best[0]} follows listeners best" if len(best) == 1 else f"layers {', '.join(best)} are even"


def _show_rows(title: str, rows: Sequence[dict[str, object]]) -> None:
    from mertric import report

    if rows:
        shown = [{key: _cell(key, value) for key, value in row.items()} for row in rows]
        report.show_table(shown, list(rows[0]), title=title)


def _cell(key: str, value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.2g}" if key.endswith("_p") else _decimal(value)


def _decimal(value: float | None) -> str | None:
    return None if value is None else f"{value: .3f}"
