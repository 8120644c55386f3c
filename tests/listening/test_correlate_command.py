from __future__ import annotations

import csv
import errno
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mertric.cli.correlate import _best, command
from mertric.errors import DependencyError, InputError, OutputError, TableError
from mertric.listening.analysis import Result
from mertric.listening.correlation import Coefficient, Correlation
from mertric.listening.plots import _layers, rank_fit
from mertric.listening.scores import Metric

PUBLISHED = {
    ("emb_mse_mert_df", "spearman"): (-0.762, -0.713, -0.671),
    ("fad_song2song_mert_df", "spearman"): (-0.622, -0.645, -0.602),
    ("sdr", "spearman"): (0.672, 0.176, 0.233),
    ("emb_mse_mert_df", "pearson"): (-0.751, -0.773, -0.701),
}


def run(*arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def layered(write, tracks=12, layers=4):
    """Three models whose layer 2 follows ratings best; an unrated, a silent and an infinite estimate."""
    generator = np.random.default_rng(0)
    scores, ratings = [], ["model,track,stem,rater,rating"]
    for track in range(tracks):
        for model in range(3):
            quality = model + generator.normal()
            identity = {"model": f"m{model}", "track": f"t{track}", "stem": ("vocals", "bass")[track % 2]}
            silent = (track, model) == (5, 2)
            for layer in range(layers):
                noise = (0.2 + abs(layer - 2)) * generator.normal()
                scores.append(
                    {
                        "reference": f"ref/t{track}/x.wav",
                        "estimate": f"out/m{model}/t{track}/x.wav",
                        **identity,
                        "layer": layer,
                        "frames": 374,
                        "status": "silent estimate" if silent else "ok",
                        "mert_mse": None if silent else -quality + noise,
                        "sdr": "inf" if (track, model) == (0, 0) else quality,
                    }
                )
            if (track, model) != (3, 1):
                ratings += [
                    ",".join([*identity.values(), f"p{k}", f"{50 + 10 * quality + generator.normal():.3f}"])
                    for k in range(4)
                ]
    ratings += ["m0,unheard,vocals,p0,50", "m0,t0,vocals,p0,loud"]
    return write("scores.json", json.dumps(scores)), write("ratings.csv", "\n".join(ratings) + "\n")


@pytest.mark.parametrize(("metric", "sign", "noted"), [("mert_mse", 1, 1), ("mert_mse", -1, 0), ("mse", 1, 0)])
def test_a_metric_that_goes_the_wrong_way_is_noted(write, tmp_path, metric, sign, noted):
    """The strength of a correlation has no sign; of a distance, as of a ratio, the right one is known."""
    generator = np.random.default_rng(1)
    scores, ratings = [f"model,track,{metric},sdr"], ["model,track,rating"]
    for track in range(12):
        x = generator.normal()
        scores.append(f"a,t{track},{sign * x},{x + generator.normal()}")
        ratings.append(f"a,t{track},{x + 0.1 * generator.normal()}")
    files = write("s.csv", "\n".join(scores)), write("r.csv", "\n".join(ratings))
    out = tmp_path / "out.json"
    run(*files, "--compare", metric, "sdr", "--bootstrap", 50, "--json", out)
    notes = {row["note"] for row in json.loads(out.read_text()) if row["kind"] == "comparison"}
    note = f"{metric}: the sign of the correlation is not that of a measure of quality"
    assert notes == {note if noted else None}


@pytest.mark.parametrize(
    ("tracks", "bootstrap", "noted"), [(4, 50, True), (4, 0, False), (5, 50, False), (1, 50, False)]
)
def test_intervals_from_few_tracks_are_noted(write, tmp_path, tracks, bootstrap, noted):
    generator = np.random.default_rng(1)
    scores, ratings = ["model,track,sdr"], ["model,track,rating"]
    for model in "abc":
        for track in range(tracks):
            x = generator.normal()
            scores.append(f"{model},t{track},{x}")
            ratings.append(f"{model},t{track},{x + generator.normal()}")
    files = write("s.csv", "\n".join(scores)), write("r.csv", "\n".join(ratings))
    out = tmp_path / "out.csv"
    found = run(*files, "--bootstrap", bootstrap, "--csv", out)
    note = f"intervals are resampled from {tracks} tracks and say little"
    assert {row["note"] for row in rows_of(out)} == {note if noted else ""}
    assert ("say little" in " ".join(found.output.split())) == noted


def test_a_group_with_nothing_to_compare_says_so(write, tmp_path):
    generator = np.random.default_rng(1)
    scores, ratings = ["model,track,mse,sdr"], ["model,track,rating"]
    for model, count in (("a", 12), ("b", 12), ("few", 2)):
        for track in range(count):
            x = generator.normal()
            scores.append(f"{model},t{track},{-x + generator.normal()},{x}")
            ratings.append(f"{model},t{track},{x + generator.normal()}")
    files = write("s.csv", "\n".join(scores)), write("r.csv", "\n".join(ratings))
    out = tmp_path / "out.json"
    found = run(*files, "--by", "model", "--compare", "mse", "sdr", "--bootstrap", 50, "--json", out)
    rows = [row for row in json.loads(out.read_text()) if row["kind"] == "comparison"]
    assert [row["group"] for row in rows if row["note"] is None] == 3 * ["a"] + 3 * ["b"] + 3 * ["all"]
    (few,) = (row for row in rows if row["note"])
    assert (few["group"], few["difference"], few["coefficient"]) == ("few", None, None)
    assert "2 items have both scores for spearman" in few["note"]
    assert "nothing to compare" in " ".join(found.output.split())


def test_published_correlations(gensvs, tmp_path):
    metrics = "emb_mse_mert_df,fad_song2song_mert_df,sdr,isr"
    out = tmp_path / "c.csv"
    run(gensvs, gensvs, "--by", "model_type", "--bootstrap", 200, "--metrics", metrics, "--csv", out)
    found = {(row["group"], row["level"], row["metric"]): row for row in rows_of(out)}
    for (metric, coefficient), values in PUBLISHED.items():
        for group, value in zip(("discriminative", "generative", "all"), values, strict=True):
            row = found[group, "item", metric]
            assert round(float(row[coefficient]), 3) == value
            assert float(row[f"{coefficient}_low"]) < value < float(row[f"{coefficient}_high"])
    assert {row["n"] for key, row in found.items() if key[:2] == ("all", "item")} == {"250"}
    assert found["all", "system", "sdr"]["n"] == "5"


def test_every_numeric_column_but_ratings_and_names_is_a_metric(gensvs, tmp_path):
    out = tmp_path / "c.json"
    run(gensvs, gensvs, "--level", "item", "--bootstrap", 0, "--json", out)
    rows = json.loads(out.read_text())
    metrics = [row["metric"] for row in rows if row["kind"] == "correlation"]
    assert len(metrics) == 24
    assert not {"DMOS", "rating_0"} & set(metrics)
    (agreed,) = [row for row in rows if row["kind"] == "agreement"]
    assert (agreed["raters"], agreed["ratings"]) == (30, 3000)
    assert all(abs(row["spearman"]) < agreed["ceiling_spearman"] < 1 for row in rows if row["kind"] == "correlation")


def test_infinities_of_gensvs_leave_pearson_only(gensvs, tmp_path):
    """The infinite isr of a perfectly suppressed distortion, put into the published table."""
    rows = rows_of(gensvs)
    for row in rows[:7]:
        row["isr"] = "inf"
    changed, out = tmp_path / "g.csv", tmp_path / "c.csv"
    with changed.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    result = run(changed, changed, "--level", "item", "--bootstrap", 50, "--metrics", "isr,sdr", "--csv", out)
    isr, sdr = rows_of(out)
    assert (isr["n"], isr["n_pearson"], isr["infinite"]) == ("250", "243", "7")
    assert (sdr["n_pearson"], sdr["infinite"]) == ("250", "0")
    assert "infinite" in result.stdout


def test_layers_groups_and_everything_left_out(write, tmp_path):
    scores, ratings = layered(write)
    out, tex = tmp_path / "c.csv", tmp_path / "t.tex"
    result = run(scores, ratings, "--by", "stem", "--bootstrap", 100, "--csv", out, "--latex", tex)
    rows = [row for row in rows_of(out) if row["level"] == "item" and row["group"] == "all"]
    strength = {row["layer"]: abs(float(row["spearman"])) for row in rows if row["metric"] == "mert_mse"}
    assert max(strength, key=strength.get) == "2"
    assert list(strength) == ["0", "1", "2", "3"]
    assert "mert_mse, all: layer 2 follows listeners best" in result.stdout
    assert _best("mert_mse", {0: -0.5, 1: 0.8, 2: None}) == "layer 0 follows listeners best"
    assert _best("mert_mse", {0: 0.5, 1: None}) == "no layer follows listeners"
    assert _best("other", {0: 0.5, 1: -0.5, 2: 0.1}) == "layers 0, 1 are even"
    assert _best("other", {0: None}) == "no layer follows listeners"
    (sdr,) = [row for row in rows if row["metric"] == "sdr"]
    assert (sdr["layer"], sdr["n"], sdr["infinite"], sdr["n_pearson"]) == ("", "35", "1", "34")
    assert {row["missing"] for row in rows if row["metric"] == "mert_mse"} == {"1"}
    assert {row["group"] for row in rows_of(out)} == {"bass", "vocals", "all"}
    assert "1 scores without a rating, left out: out/m1/t3/x.wav" in result.stderr
    assert "1 ratings without a score, left out: m0/unheard/vocals" in result.stderr
    assert "ratings.csv, line 143: rating 'loud' is not a number; row skipped" in result.stderr
    assert "4 rows with status 'silent estimate'" in result.stdout
    assert "over items (bass 17, vocals 18, all 35)" in tex.read_text()


def test_comparison_level_and_latex(write, tmp_path):
    scores, ratings = layered(write)
    tex, out = tmp_path / "t.tex", tmp_path / "c.json"
    options = (
        "--level",
        "system",
        "--metrics",
        "sdr,mert_mse@2",
        "--bootstrap",
        100,
        "--latex",
        tex,
        "--json",
        out,
    )
    result = run(scores, ratings, *options, "--compare", "mert_mse@2", "mert_mse@0")
    compared = [row for row in json.loads(out.read_text()) if row["kind"] == "comparison"]
    assert [row["coefficient"] for row in compared] == ["spearman", "pearson", "kendall"]
    assert compared[0]["difference"] > 0
    assert compared[0]["steiger_p"] < 0.01
    assert "steiger_z" in result.stdout
    assert "item level" not in result.stdout
    text = tex.read_text()
    for piece in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\cmidrule(lr){2-4}",
        r"mert\_mse@2 & ",
        "over model means",
    ):
        assert piece in text
    assert text.count(r"\begin{table}") == 1


def test_json_names_everything_left_out(write, tmp_path):
    """The terminal names five, the file all."""
    scores, ratings = layered(write)
    with ratings.open("a") as file:
        file.writelines(f"m1,unheard {number},bass,p0,50\n" for number in range(7))
    out = tmp_path / "c.json"
    result = run(scores, ratings, "--bootstrap", 0, "--json", out)
    left_out = [row for row in json.loads(out.read_text()) if row["kind"] == "unmatched"]
    items = {side: [row["item"] for row in left_out if row["side"] == side] for side in ("scores", "ratings")}
    assert items["scores"] == ["out/m1/t3/x.wav"]
    assert items["ratings"] == ["m0/unheard/vocals", *(f"m1/unheard {number}/bass" for number in range(7))]
    assert "warning: 8 ratings without a score, left out: m0/unheard/vocals" in result.stderr
    assert "m1/unheard 3/bass and 3 more" in result.stderr


def test_options_reach_the_ratings(write, monkeypatch):
    asked = {}

    def note(_, **options):
        asked.update(options)
        raise TableError("no")

    monkeypatch.setattr("mertric.listening.ratings.read_ratings", note)
    with pytest.raises(TableError, match="no"):
        run(*layered(write), "--max-violations", 1, "--average", "median")
    assert asked == {"max_violations": 1, "average": "median"}


def test_same_seed_same_intervals(write, tmp_path):
    scores, ratings = layered(write)
    outs = [tmp_path / f"{name}.csv" for name in "abc"]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        run(scores, ratings, "--bootstrap", 50, "--seed", seed, "--csv", out)
    a, b, c = (out.read_text() for out in outs)
    assert a == b != c


def test_plots(write, tmp_path):
    pytest.importorskip("matplotlib")
    scores, ratings = layered(write)
    run(scores, ratings, "--by", "stem", "--bootstrap", 50, "--plots", tmp_path / "plots")
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"layers.png", "bars_item.png", "bars_system.png", "scatter_sdr.png"} | {
        f"scatter_mert_mse@{layer}.png" for layer in range(4)
    }


def test_metrics_of_like_names_have_a_plot_each(write, tmp_path):
    pytest.importorskip("matplotlib")
    table = ["model,track,SDR (dB),SDR_dB_,sdr_db_,rating", *(f"a,t{n},{n},{-n},{n},{n}" for n in range(5))]
    both = write("both.csv", "\n".join(table))
    run(both, both, "--level", "item", "--bootstrap", 0, "--plots", tmp_path / "plots")
    scatters = {path.name for path in (tmp_path / "plots").glob("scatter*")}
    assert scatters == {"scatter_SDR_dB_.png", "scatter_SDR_dB__2.png", "scatter_sdr_db__3.png"}


def test_plots_without_matplotlib(write, tmp_path, monkeypatch):
    scores, ratings = layered(write)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DependencyError, match=r'pip install "mertric\[plots\]"'):
        run(scores, ratings, "--plots", tmp_path / "plots")


def test_rank_fit_goes_through_monotone_data():
    x = np.array([4.0, 1.0, 3.0, 2.0])
    np.testing.assert_allclose(rank_fit(x, np.exp(-x)), (np.sort(x), np.exp(-np.sort(x))))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--metrics", "pesq"], InputError, "unknown metric 'pesq'"),
        (
            ["--compare", "mert_mse", "sdr"],
            InputError,
            "mert_mse stands for 2 layers; name one, such as mert_mse@1",
        ),
        (["--by", "model_type"], TableError, "neither scores nor ratings have a model_type column"),
    ],
)
def test_refusals(write, options, error, message):
    scores, ratings = layered(write, layers=2)
    with pytest.raises(error, match=message):
        run(scores, ratings, *options)


def test_files_are_written_whatever_becomes_of_what_is_printed(write, tmp_path, monkeypatch):
    def closed(*_, **__):
        raise BrokenPipeError

    scores, ratings = layered(write)
    expected, out = tmp_path / "expected", tmp_path / "out"
    for folder in (expected, out):
        with monkeypatch.context() as patch, nullcontext() if folder == expected else pytest.raises(BrokenPipeError):
            if folder == out:
                patch.setattr("mertric.report.show_table", closed)
            run(scores, ratings, "--bootstrap", 0, *(f"--{kind}={folder / kind}" for kind in ("csv", "json", "latex")))
    for kind in ("csv", "json", "latex"):
        assert (out / kind).read_bytes() == (expected / kind).read_bytes()


def test_a_file_that_cannot_be_written_costs_the_files_alone(write, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = CliRunner().invoke(command, [*map(str, layered(write)), "--bootstrap", "0", "--csv", str(tmp_path / "c")])
    assert isinstance(result.exception, OutputError)
    assert "SRCC" in result.output


def test_errors_of_magnitudes_are_those_of_the_interval(tmp_path):
    pytest.importorskip("matplotlib")
    import matplotlib.axes

    drawn = {}

    def errorbar(_, layers, values, *, yerr, **__):
        drawn.update({layer: (v - low, v + high) for layer, v, low, high in zip(layers, values, *yerr, strict=True)})

    def result(layer, value, low, high):
        none = Coefficient()
        found = Correlation(Coefficient(value, 0.1, low, high), none, none, 9, 9, 0, 0, "")
        return Result("all", "item", Metric("mert_mse", layer), 9, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.axes.Axes, "errorbar", errorbar)
        _layers(tmp_path, [result(1, -0.8, -0.9, -0.6), result(2, 0.5, 0.4, 0.7)])
    assert drawn[1] == pytest.approx((0.6, 0.9))
    assert drawn[2] == pytest.approx((0.4, 0.7))


def test_items_outside_all_groups_are_counted(write):
    rows = "".join(f"m{n % 3},t{n},{'bass' if n % 2 else ''},{n},{n}\n" for n in range(9))
    path = write("both.csv", "model,track,stem,rating,sdr\n" + rows)
    result = run(path, path, "--by", "stem", "--bootstrap", 0)
    assert "note: 5 of 9 rated estimates have no stem: they are in 'all' alone" in result.stdout
    assert "have no" not in run(path, path, "--by", "model", "--bootstrap", 0).stdout


def test_one_layer_that_goes_the_wrong_way_is_noted(write, tmp_path):
    """What a metric is to do is known by its name without the layer."""
    generator = np.random.default_rng(1)
    scores, ratings = ["model,track,layer,mert_mse,sdr"], ["model,track,rating"]
    for track in range(12):
        x, noise = generator.normal(size=2)
        scores += [f"a,t{track},{layer},{sign * x},{x + noise}" for layer, sign in ((0, 1), (1, -1))]
        ratings.append(f"a,t{track},{x + 0.1 * generator.normal()}")
    files = write("s.csv", "\n".join(scores)), write("r.csv", "\n".join(ratings))
    out = tmp_path / "out.json"
    for layer in (0, 1):
        run(*files, "--compare", f"mert_mse@{layer}", "sdr", "--bootstrap", 0, "--json", out)
        notes = {row["note"] for row in json.loads(out.read_text()) if row["kind"] == "comparison"}
        note = f"mert_mse@{layer}: the sign of the correlation is not that of a measure of quality"
        assert notes == {None if layer else note}


def test_items_that_have_an_id_alone_are_tracks_of_their_own(write, tmp_path):
    values = np.random.default_rng(1).normal(size=(2, 8))
    scores = write("s.csv", "\n".join(["id,sdr", *(f"item{n},{value}" for n, value in enumerate(values[0]))]))
    ratings = write("r.csv", "\n".join(["id,rating", *(f"item{n},{value}" for n, value in enumerate(values[1]))]))
    out = tmp_path / "out.csv"
    run(scores, ratings, "--bootstrap", 50, "--csv", out)
    (row,) = rows_of(out)
    assert (row["level"], row["n"], row["tracks"]) == ("item", "8", "8")
    assert float(row["spearman_low"]) < float(row["spearman_high"])


def test_two_models_have_a_row_that_says_they_are_few(write, tmp_path):
    generator = np.random.default_rng(1)
    names = [(model, track) for model in "ab" for track in range(6)]
    table = ["model,track,sdr,rating", *(f"{m},t{t},{generator.normal()},{generator.normal()}" for m, t in names)]
    both, out = write("both.csv", "\n".join(table)), tmp_path / "out.csv"
    run(both, both, "--bootstrap", 0, "--csv", out)
    notes = {row["level"]: row["note"] for row in rows_of(out)}
    assert notes == {"item": "", "system": "n = 2, at least 3 are needed"}


def test_a_note_on_few_tracks_stands_behind_what_else_is_noted(write, tmp_path):
    """Ranks hold infinities, of which Pearson's coefficient has too few finite values."""
    table = ["model,track,sdr,rating"]
    for number, (value, rating) in enumerate([("inf", 4), ("inf", 5), (1, 1), (2, 3)]):
        table.append(f"a,t{number},{value},{rating}")
    both, out = write("both.csv", "\n".join(table)), tmp_path / "out.csv"
    run(both, both, "--bootstrap", 50, "--csv", out)
    (row,) = rows_of(out)
    assert row["note"] == (
        "Pearson: n = 2, at least 3 are needed; intervals are resampled from 4 tracks and say little"
    )


def test_the_seed_is_that_of_the_halvings_too(write, tmp_path):
    generator = np.random.default_rng(1)
    table = ["model,track,rater,rating"]
    table += [f"a,t{track},p{rater},{generator.normal()}" for track in range(9) for rater in range(5)]
    scores = write("s.csv", "\n".join(["model,track,sdr", *(f"a,t{n},{generator.normal()}" for n in range(9))]))
    ratings, out = write("r.csv", "\n".join(table)), tmp_path / "out.json"
    found = []
    for seed in (1, 1, 2):
        run(scores, ratings, "--bootstrap", 0, "--seed", seed, "--json", out)
        (agreed,) = (row for row in json.loads(out.read_text()) if row["kind"] == "agreement")
        found.append(agreed["split_half_pearson"])
    assert found[0] == found[1] != found[2]


def test_the_greatest_magnitude_is_bold_whatever_its_sign(write, tmp_path):
    generator = np.random.default_rng(1)
    table = ["model,track,mert_mse,sdr,rating"]
    for number in range(30):
        quality, noise = generator.normal(size=2)
        table.append(f"a,t{number},{-quality},{quality + noise},{quality}")
    both, tex = write("both.csv", "\n".join(table)), tmp_path / "t.tex"
    run(both, both, "--level", "item", "--bootstrap", 0, "--latex", tex)
    better, worse = (line for line in tex.read_text().splitlines() if line.startswith(("sdr", r"mert\_mse")))
    assert better == r"mert\_mse & " + " & ".join([r"\textbf{\boldmath$-1.00$}"] * 3) + r" \\"
    assert "textbf" not in worse


def test_names_of_groups_are_escaped_for_latex(write, tmp_path):
    name = r"a\b_50%&#~^{}$"
    table = ["model\ttrack\tsdr\trating", *(f"{name}\tt{n}\t{n}\t{n * n}" for n in range(5))]
    both, tex = write("both.csv", "\n".join(table)), tmp_path / "t.tex"
    run(both, both, "--by", "model", "--bootstrap", 0, "--latex", tex)
    shown = r"a\textbackslash{}b\_50\%\&\#\textasciitilde{}\textasciicircum{}\{\}\$"
    assert rf"\multicolumn{{3}}{{c}}{{{shown}}}" in tex.read_text()
    assert rf"over items ({shown} 5, all 5)" in tex.read_text()


def test_a_value_outside_of_its_interval_has_no_error_on_that_side():
    """As percentiles of resamples can leave it."""
    from mertric.listening.plots import _with_errors

    def result(value, low, high):
        none = Coefficient()
        found = Correlation(Coefficient(value, 0.1, low, high), none, none, 9, 9, 0, 0)
        return Result("all", "item", Metric("sdr"), 9, found)

    values, errors = _with_errors([result(0.9, 0.5, 0.8), result(0.4, 0.5, 0.8), result(0.4, None, None)])
    np.testing.assert_array_equal(values, [0.9, 0.4, 0.4])
    np.testing.assert_allclose(errors, [[0.4, 0, 0], [0, 0.4, 0]])


def test_infinite_and_missing_scores_leave_the_line_through_the_others(write, tmp_path):
    pytest.importorskip("matplotlib")
    import matplotlib.axes

    drawn = []
    table = ["model,track,sdr,rating", *(f"a,t{n},{value},{n}" for n, value in enumerate(["inf", "", 1, 2, 4, 3]))]
    both = write("both.csv", "\n".join(table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.axes.Axes, "plot", lambda _, x, y, **__: drawn.append((x, y)))
        run(both, both, "--bootstrap", 0, "--plots", tmp_path / "plots")
    ((x, y),) = drawn
    np.testing.assert_array_equal(x, [1, 2, 3, 4])
    assert np.isfinite(y).all()


def test_five_of_those_left_out_are_named_and_the_rest_counted(write):
    for count, end in ((5, "a/t8/bass"), (6, "a/t8/bass and 1 more")):
        scores = ["model,track,stem,sdr", *(f"a,t{n},bass,{n}" for n in range(4 + count))]
        ratings = ["model,track,stem,rating", *(f"a,t{n},bass,{n}" for n in range(4))]
        files = write("s.csv", "\n".join(scores)), write("r.csv", "\n".join(ratings))
        message = f"{count} scores without a rating, left out: a/t4/bass, a/t5/bass, a/t6/bass, a/t7/bass, {end}\n"
        assert message in run(*files, "--bootstrap", 0).stderr


def test_rows_of_the_bakeoff_with_three_violations_are_kept_unless_told(write):
    header = "session_uuid,track,stem type,a,b,c,violation_total\n"
    ratings = write("r.csv", header + "".join(f"s{n},t{n},bass,{10 * n},{n},{5 * n},{n + 1}\n" for n in range(5)))
    scores = write("s.csv", "model,track,stem,sdr\n" + "".join(f"{m},t{n},bass,{n}\n" for m in "abc" for n in range(5)))
    assert "2 of 5 rows have violation_total above 3" in run(scores, ratings, "--bootstrap", 0).stdout
    found = run(scores, ratings, "--bootstrap", 0, "--max-violations", 2)
    assert "3 of 5 rows have violation_total above 2" in found.stdout


def test_small_p_values_are_not_shown_as_zero():
    from mertric.cli.correlate import _cell

    assert (_cell("steiger_p", 1.23e-7), _cell("bootstrap_p", 0.5), _cell("difference", 1.23e-7)) == (
        "1.2e-07",
        "0.5",
        " 0.000",
    )
