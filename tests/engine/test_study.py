"""From unpacked data of a listening test to the paper's table, on data that the tests make up."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from mertric.cli import cli
from mertric.errors import PairingError, TableError
from mertric.files import STEMS
from mertric.study import STUDIES, find_pairs, find_ratings

RATE = 24000
pytestmark = pytest.mark.filterwarnings("ignore:.* times full scale")  # as some of the material is
SAMPLES = 36000
NOISE = {"IRM1": 0.02, "Open-UMix": 0.3, "htdemucs_ft": 0.1}
TRACKS = ("AM Contra - Heart Peripheral", "BKS - Too Much", "Zeno - Signs")
COLUMNS = (
    *("session_uuid", "track", "stem type", *NOISE, "lpf_anchor", "reference", "rating_time", "rating_std"),
    *("violation_reference_anchor_spread", "violation_total"),
)


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def encoded(monkeypatch):
    """The number of samples of each clip that any encoder has run over."""
    from mertric.encoder import Encoder

    seen = []
    embed = Encoder.embed_samples

    def counted(self, samples, **options):
        seen.append(samples.size)
        return embed(self, samples, **options)

    monkeypatch.setattr(Encoder, "embed_samples", counted)
    return seen


@pytest.fixture
def bakeoff(tmp_path, write_wav, sound):
    """A Bake-Off with one missing stem, one silent stem, one unmatched track and one malformed ratings row."""
    rng = np.random.default_rng(0)
    for number, track in enumerate(TRACKS):
        stems = {stem: sound(SAMPLES, 4 * number + index) for index, stem in enumerate(STEMS)}
        stems["mixture"] = np.sum(list(stems.values()), axis=0) / 4
        for stem, signal in stems.items():
            write_wav(f"data/musdb18_test_10s/{track}/{stem}.wav", signal)
            for model, noise in NOISE.items() if stem != "mixture" else ():
                estimate = signal + noise * rng.standard_normal(SAMPLES)
                write_wav(f"data/separated_audio/{model}/{track}/{stem}.wav", estimate)
    separated = tmp_path / "data/separated_audio"
    (separated / "IRM1" / TRACKS[0] / "drums.wav").unlink()
    write_wav(f"data/separated_audio/Open-UMix/{TRACKS[1]}/vocals.wav", np.zeros(SAMPLES))
    for stem in STEMS:
        write_wav(f"data/separated_audio/htdemucs_ft/Unheard/{stem}.wav", sound(SAMPLES, 50))
    rows = [
        [f"s{session}", track, stem, *(_rating(rng, noise) for noise in NOISE.values()), 20, 98, 60, 30, 0, 0]
        for session in range(3)
        for track in TRACKS
        for stem in STEMS
    ]
    rows[5][-1] = 4
    rows[7][3] = "very good"
    write_rows(tmp_path / "data/raw_listener_responses_w_violations.csv", [COLUMNS, *rows])
    return tmp_path / "data"


def _rating(rng, noise):
    return round(float(np.clip(90 - 200 * noise + 6 * rng.standard_normal(), 0, 100)), 1)


@pytest.fixture
def gensvs(tmp_path, write_wav, sound):
    """GenSVS's flat folders, with mixtures and other stems beside."""
    rng = np.random.default_rng(1)
    models = {"sgmsvs": ("generative", 0.1), "melroformer_small": ("discriminative", 0.02)}
    rows = [["filepath", "file_id", "model_type", "model_name", "rating_0", "rating_1", "DMOS", "sdr"]]
    for number in range(1, 5):
        vocals = sound(SAMPLES // 2, number)
        for folder in ("target", "mixture", "bass"):
            write_wav(f"data/{folder}/{folder}_fileid_{number}.wav", vocals)
        for model, (model_type, noise) in models.items():
            estimate = vocals + (1 + number) * noise * rng.standard_normal(len(vocals))
            write_wav(f"data/separated/{model}/separated_vocals_mixture_fileid_{number}.wav", estimate)
            rating = 5 - number - noise
            rows.append(["", f"fileid_{number}", model_type, model, rating, rating, rating, 1.0])
    write_rows(tmp_path / "data/gensvs_eval_data.csv", rows)
    return tmp_path / "data"


def test_bakeoff_whole(bakeoff, bundle, tmp_path, encoded, monkeypatch):
    out = tmp_path / "out"
    arguments = ("study", "bakeoff", bakeoff, "-o", out, "--model", bundle, "--bootstrap", 50)
    result = run(*arguments)
    assert result.exit_code == 1

    rows = {(row["model"], row["track"], row["stem"]): row for row in read_csv(out / "scores.csv")}
    missing, silent = ("IRM1", TRACKS[0], "drums"), ("Open-UMix", TRACKS[1], "vocals")
    unmatched = {("htdemucs_ft", "Unheard", stem) for stem in STEMS}
    assert set(rows) == {(m, t, s) for m in NOISE for t in TRACKS for s in STEMS} | unmatched
    assert {key for key, row in rows.items() if row["status"] != "ok"} == {missing, silent} | unmatched
    assert (rows[missing]["status"], rows[missing]["estimate"]) == ("unmatched", "")
    assert rows[missing]["reason"] == f"no partner in {bakeoff / 'separated_audio/IRM1'}"
    assert (rows[silent]["status"], rows[silent]["silent"], rows[silent]["sdr"]) == ("partial", "estimate", "")
    assert "the estimate is silent" in rows[silent]["reason"]
    assert float(rows[silent]["mert_mse"]) > 0
    assert {(rows[key]["status"], rows[key]["reference"]) for key in unmatched} == {("unmatched", "")}
    written = json.loads((out / "scores.json").read_text())
    assert [row["status"] for row in written] == [row["status"] for row in read_csv(out / "scores.csv")]
    assert set(STUDIES["bakeoff"].metrics) <= set(written[0])

    for text in (
        f"unmatched: {bakeoff / 'musdb18_test_10s' / TRACKS[0] / 'drums.wav'}: no partner in",
        "Unheard/bass.wav",
        "the estimate is silent",
        f"{len(rows) - 6} of {len(rows)} rows are ok.",
        "line 9: rating 'very good' is not a number; row skipped",
    ):
        assert text in result.stderr
    assert "1 of 36 rows have violation_total above 3 and were dropped" in result.stdout
    assert "The weights are untrained" in result.stdout
    assert f"Everything is in {out}." in result.stdout

    correlations = read_csv(out / "correlations.csv")
    assert {row["group"] for row in correlations} == {*STEMS, "all"}
    assert {row["metric"] for row in correlations} == set(STUDIES["bakeoff"].metrics)
    (sdr,) = [r for r in correlations if (r["group"], r["level"], r["metric"]) == ("all", "item", "sdr")]
    assert (sdr["n"], sdr["missing"]) == ("34", "2")
    assert float(sdr["spearman"]) > 0.7
    left_out = [row for row in json.loads((out / "correlations.json").read_text()) if row["kind"] == "unmatched"]
    assert {row["side"] for row in left_out} == {"scores"}
    assert [row["item"].split("/")[-2:] for row in left_out] == [["Unheard", f"{stem}.wav"] for stem in sorted(STEMS)]
    assert r"\toprule" in (out / "correlations.tex").read_text()
    assert (out / "plots").is_dir() == (importlib.util.find_spec("matplotlib") is not None)

    assert len(encoded) == 3 * 4 + 3 * 3 * 4 - 1
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    encoded.clear()
    monkeypatch.setattr("mertric.cli.study._has_matplotlib", lambda: False)
    assert run(*arguments).exit_code == 1
    assert encoded == []
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_gensvs_whole_beside_its_data(gensvs, bundle, monkeypatch):
    monkeypatch.setattr("mertric.cli.study._has_matplotlib", lambda: False)
    result = run("study", "gensvs", gensvs, "--model", bundle, "--bootstrap", 0, "--layers", "1,4")
    assert (result.exit_code, result.stderr.strip()) == (0, "")
    out = gensvs / "mertric-study"
    rows = read_csv(out / "scores.csv")
    assert {row["model"] for row in rows} == {"sgmsvs", "melroformer_small"}
    assert len(rows) == 2 * 4 * 2
    correlations = read_csv(out / "correlations.csv")
    assert {row["group"] for row in correlations} == {"generative", "discriminative", "all"}
    metrics = {(row["metric"], row["layer"]) for row in correlations}
    layered = {(name, layer) for name in ("mert_mse", "mert_fad") for layer in "14"}
    assert metrics == layered | {(name, "") for name in ("sdr", "si_sdr", "spectrogram_mse", "waveform_mse")}
    (sdr,) = [r for r in correlations if (r["group"], r["level"], r["metric"]) == ("generative", "item", "sdr")]
    assert float(sdr["spearman"]) == pytest.approx(1)
    assert run("study", "gensvs", gensvs, "--model", bundle, "--bootstrap", 0).exit_code == 0


def test_options_choose_metrics_and_length(gensvs, bundle, write_wav, sound, monkeypatch):
    monkeypatch.setattr("mertric.cli.study._has_matplotlib", lambda: False)
    write_wav("data/separated/sgmsvs/separated_vocals_mixture_fileid_1.wav", sound(SAMPLES // 2 - 400, 1))
    options = ("study", "gensvs", gensvs, "--metrics", "mert,waveform_mse", "--model", bundle, "--bootstrap", 0)
    different = run(*options)
    assert different.exit_code == 1
    assert "the reference has 56 frames and the estimate 54; --trim compares" in different.stderr
    assert "differ in samples: 18000 and 17600; --trim compares" in different.stderr
    trimmed = run(*options, "--trim")
    assert (trimmed.exit_code, trimmed.stderr.strip()) == (0, "")
    row = read_csv(gensvs / "mertric-study/scores.csv")[0]
    assert list(row)[-4:] == ["mert_mse", "mert_fad", "waveform_mse", "settings"]


def test_what_would_fail_at_the_end_is_said_before(gensvs, tmp_path):
    """No model is there to score with, which would be said next."""
    (tmp_path / "file").write_text("")
    options = ("study", "gensvs", gensvs, "--model", tmp_path / "none")
    assert "no folder that takes new" in run(*options, "-o", tmp_path / "file").stderr
    with pytest.raises(TableError, match=r"cannot read .*bad\.csv"):
        run(*options, "--ratings", tmp_path / "bad.csv")


def models_of(study, directory, **places):
    places = {"references": None, "estimates": None} | places
    return {pair.model for pair in find_pairs(STUDIES[study], directory, **places)}


def test_stray_files_and_folders_of_parts_are_no_models(gensvs, bakeoff, write_wav, sound):
    """Both studies lie in one folder here. A file above the others' level makes no model of the folders above it."""
    for name in ("stray.wav", "separated_audio/stray.wav", "separated_audio/IRM1/stray.wav", "separated/stray.wav"):
        write_wav(f"data/{name}", sound(1000))
    write_wav(f"data/separated_audio/IRM1/{TRACKS[0]}/deeper/take.wav", sound(1000))
    assert models_of("gensvs", gensvs, estimates=gensvs / "separated") == {"sgmsvs", "melroformer_small"}
    for folder in ("separated", "target", "mixture", "bass"):
        shutil.rmtree(gensvs / folder)
    assert models_of("bakeoff", bakeoff / ".") == set(NOISE)
    write_wav("test/inner/stray.wav", sound(1000))
    with pytest.raises(PairingError, match="got none by name"):
        models_of("bakeoff", bakeoff.parent / "test/inner")


def test_places_can_be_given(bakeoff):
    moved = (bakeoff / "musdb18_test_10s").rename(bakeoff.parent / "originals")
    with pytest.raises(
        PairingError, match=r"expected one folder of references in .*, got none by name. Say which with"
    ):
        models_of("bakeoff", bakeoff)
    assert models_of("bakeoff", bakeoff, references=moved) == set(NOISE)
    assert models_of("bakeoff", bakeoff, references=moved, estimates=bakeoff / "separated_audio") == set(NOISE)


def test_what_is_ambiguous_or_absent_is_said(bakeoff, gensvs, tmp_path, write_wav, sound):
    write_wav("data/reference/song/bass.wav", sound(1000))
    with pytest.raises(PairingError, match=r"got .*/musdb18_test_10s, .*/reference. Say which with --references, and"):
        models_of("bakeoff", bakeoff)
    only = tmp_path / "only"
    write_wav("only/target/target_fileid_1.wav", sound(1000))
    with pytest.raises(PairingError, match=r"only holds no folders of estimates; expected MODEL/FILE.wav. Say where"):
        models_of("gensvs", only)
    with pytest.raises(PairingError, match=r"holds no folders of estimates; expected MODEL/TRACK/FILE.wav"):
        models_of("bakeoff", bakeoff, references=bakeoff / "reference", estimates=only)
    with pytest.raises(PairingError, match=r"absent is not a folder; expected the unpacked data of gensvs"):
        models_of("gensvs", tmp_path / "absent")
    with pytest.raises(PairingError, match=r"absent is not a folder"):
        models_of("gensvs", gensvs, references=tmp_path / "absent")


def test_ratings_are_found_by_their_columns(bakeoff, gensvs):
    (bakeoff / "notes.csv").write_text("a,b\n1,2\n")
    (bakeoff / "latin.csv").write_bytes(b"\xe9,b\n")
    assert find_ratings(STUDIES["bakeoff"], bakeoff).name == "raw_listener_responses_w_violations.csv"
    assert find_ratings(STUDIES["gensvs"], gensvs).name == "gensvs_eval_data.csv"
    second = bakeoff / "more/copy.csv"
    second.parent.mkdir()
    second.write_text(find_ratings(STUDIES["bakeoff"], bakeoff).read_text())
    with pytest.raises(
        PairingError, match=r"one CSV file with the ratings of bakeoff .*copy.csv, .*\. Say which with --r"
    ):
        find_ratings(STUDIES["bakeoff"], bakeoff)
    for path in (bakeoff / "raw_listener_responses_w_violations.csv", second):
        path.unlink()
    with pytest.raises(PairingError, match=r"expected one CSV file with the ratings of bakeoff in .*, got none"):
        find_ratings(STUDIES["bakeoff"], bakeoff)


def test_the_layer_that_follows_listeners_best(gensvs, bundle, encoder, tmp_path, encoded):
    """`score --layers all` and then `correlate`: one pass of the encoder, and a curve over layers."""
    scores, out = tmp_path / "scores.json", tmp_path / "correlations.csv"
    folders = (gensvs / "target", gensvs / "separated")
    run("score", *folders, "--model", bundle, "--layers", "all", "--metrics", "mert,sdr", "--json", scores)
    assert len(encoded) == 4 + 2 * 4
    ratings = gensvs / "gensvs_eval_data.csv"
    result = run("correlate", scores, ratings, "--bootstrap", 0, "--csv", out, "--latex", tmp_path / "t.tex")
    rows = [row for row in read_csv(out) if (row["group"], row["level"]) == ("all", "item")]
    for name in ("mert_mse", "mert_fad"):
        curve = [row for row in rows if row["metric"] == name]
        assert [row["layer"] for row in curve] == [str(layer) for layer in range(encoder.layers + 1)]
        strength = [abs(float(row["spearman"])) for row in curve]
        best = strength.index(max(strength))
        assert f"{name}, all: layer {best} follows listeners best" in " ".join(result.stdout.split())
    assert [row["layer"] for row in rows if row["metric"] == "sdr"] == [""]
    assert r"mert\_mse@4 & " in (tmp_path / "t.tex").read_text()


def test_a_folder_within_the_references_is_no_model(tmp_path):
    """Though it is the fuller one of both."""
    for name in ("refs/fileid_1.wav", "refs/more/fileid_2.wav", "refs/more/fileid_3.wav", "m/fileid_1.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pairs = find_pairs(STUDIES["gensvs"], tmp_path, references=tmp_path / "refs", estimates=None)
    assert {pair.model for pair in pairs} == {"m"}


def test_the_metrics_are_those_of_the_papers_tables():
    common = ("mert_mse", "mert_fad", "sdr", "si_sdr")
    errors = ("spectrogram_mse", "waveform_mse")
    assert STUDIES["gensvs"].metrics == (*common, *errors)
    assert STUDIES["bakeoff"].metrics == (*common, "si_sir", "si_sar", *errors)
    assert {name: study.by for name, study in STUDIES.items()} == {"gensvs": "model_type", "bakeoff": "stem"}
