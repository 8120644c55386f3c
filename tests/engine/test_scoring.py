from __future__ import annotations

import math
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mertric
from mertric.clip_scores import Score
from mertric.encoder import Encoder
from mertric.errors import AudioError, InputError
from mertric.pairing import Pair, pair
from mertric.scoring import describe, score_pairs
from mertric.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]
    WriteWav = Callable[..., Path]


def by_hand(encoder: Encoder, x: Any, y: Any, layer: int, kind: Any) -> tuple[float, float]:
    """MSE and FAD by their definitions, the latter through eigenvalues of the covariances' product."""
    a, b = (
        encoder.embed(clip, sample_rate=24000, layers=[layer]).hidden[0].astype(kind).astype(np.float64)
        for clip in (x, y)
    )
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ covariances[1] @ root)
    cross = np.sqrt(np.maximum(inner, 0)).sum()
    fad = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1]) - 2 * cross
    return float(np.mean((a - b) ** 2)), float(fad)


@pytest.mark.parametrize("layer", [0, 3])
def test_a_score_by_hand(model: Any, sound: Sound, layer: int) -> None:
    encoder = Encoder(model.bundle)
    x, y = sound(40000, 1), sound(40000, 2)
    got = mertric.score(x, y, encoder=encoder, sample_rate=24000, layer=layer)
    mse, fad = by_hand(encoder, x, y, layer, np.float16)
    assert isinstance(got, Score)
    assert (got.layer, got.frames) == (layer, 124)
    assert got.mse == pytest.approx(mse, rel=1e-9)
    assert got.fad == pytest.approx(fad, rel=1e-4)


def test_protocols_differ_a_little(encoder: Encoder, sound: Sound) -> None:
    x, y = sound(seed=1), sound(seed=2)
    paper = mertric.score(x, y, encoder=encoder, sample_rate=24000)
    exact = mertric.score(x, y, encoder=encoder, sample_rate=24000, protocol="float")
    assert paper.mse == pytest.approx(exact.mse, rel=1e-2)
    assert paper.mse != exact.mse


def test_files_are_arrays(encoder: Encoder, write_wav: WriteWav, sound: Sound) -> None:
    x, y = sound(seed=1), sound(seed=2)
    paths = write_wav("x.wav", x), write_wav("y.wav", y)
    expected = mertric.score(x, y, encoder=encoder, sample_rate=24000)
    assert mertric.score(*paths, encoder=encoder) == expected
    assert mertric.score(str(paths[0]), y, encoder=encoder, sample_rate=24000) == expected
    assert expected.layer == 4


def test_a_clip_is_itself(encoder: Encoder, sound: Sound) -> None:
    for clip in (sound(), np.zeros(5000)):
        same = mertric.score(clip, clip, encoder=encoder, sample_rate=24000)
        assert same.mse == 0
        assert 0 <= same.fad < 1e-8


def test_without_an_encoder_the_default_is_loaded(
    encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mertric.clip_scores.load", lambda: encoder)
    assert mertric.score(sound(), sound(), sample_rate=24000).mse == 0


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (np.zeros(5000), np.zeros(9000), {}, InputError, "the reference has 15 frames and the estimate 27.*Cut both"),
        (np.zeros(500), np.zeros(500), {}, InputError, "has 1 frame, of which no covariance can be taken"),
        (np.zeros(5000), np.zeros(100), {}, AudioError, "array is too short"),
        (np.zeros(5000), np.zeros(5000), {"sample_rate": None}, AudioError, "pass sample_rate="),
        (np.zeros(5000), np.zeros(5000), {"layer": 5}, InputError, r"layers is \(5,\)"),
        (np.zeros(5000), np.zeros(5000), {"layer": "all"}, InputError, "layer is 'all'; expected a number from 0 to 4"),
        (np.zeros(5000), np.zeros(5000), {"protocol": "x"}, InputError, "protocol 'x' is not known"),
        (np.zeros(5000), "gone.wav", {}, AudioError, "gone.wav does not exist"),
    ],
)
def test_what_cannot_be_scored(
    encoder: Encoder, x: Any, y: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mertric.score(x, y, encoder=encoder, **({"sample_rate": 24000} | options))


@pytest.fixture
def folders(tmp_path: Path, write_wav: WriteWav, sound: Sound) -> tuple[Path, list[Path]]:
    """Two models' folders against a reference folder, with a fault of every kind in the second."""
    for name, samples in {
        "ref/good.wav": sound(seed=1),
        "ref/other.wav": sound(seed=2),
        "ref/text.wav": sound(seed=3),
        "ref/nan.wav": sound(seed=4),
        "ref/short.wav": sound(seed=5),
        "ref/empty.wav": sound(seed=6),
        "ref/longer.wav": sound(seed=7),
        "ref/alone.wav": sound(seed=8),
        "ref/silent.wav": sound(seed=9),
        "ref/frame.wav": sound(seed=9)[:450],
        "ref/last.wav": sound(seed=10),
        "bad/good.wav": sound(seed=11),
        "bad/other.wav": sound(seed=12),
        "bad/nan.wav": np.r_[sound(seed=4)[:-1], np.float32(np.nan)],
        "bad/short.wav": sound(seed=5)[:399],
        "bad/longer.wav": sound(15000, 7),
        "bad/stranger.wav": sound(seed=8),
        "bad/silent.wav": np.zeros(12000),
        "bad/frame.wav": sound(450, 3),
        "bad/last.wav": sound(seed=13),
    }.items():
        write_wav(name, samples)
    (tmp_path / "bad" / "text.wav").write_text("not audio")
    (tmp_path / "bad" / "empty.wav").touch()
    write_wav("fine/good.wav", sound(seed=14))
    return tmp_path / "ref", [tmp_path / "bad", tmp_path / "fine"]


def test_faults_become_rows_and_the_others_are_scored(encoder: Encoder, folders: tuple[Path, list[Path]]) -> None:
    rows = score_pairs(pair(*folders), encoder)
    mine = {Path(str(row["reference"] or row["estimate"])).stem: row for row in rows if row["model"] == "bad"}
    assert {name: row["status"] for name, row in mine.items()} == {
        "good": "ok",
        "other": "ok",
        "last": "ok",
        "silent": "ok",
        "text": "failed",
        "nan": "failed",
        "short": "failed",
        "empty": "failed",
        "longer": "partial",
        "frame": "partial",
        "alone": "unmatched",
        "stranger": "unmatched",
    }
    for name, message in {
        "text": "cannot be decoded as audio",
        "nan": "NaN, infinite",
        "short": "too short: 16.6 ms, 399 samples",
        "empty": "(0 bytes) cannot be decoded",
        "longer": "37 frames",
        "frame": "1 frame",
        "alone": "no partner in",
        "stranger": "no partner in",
    }.items():
        assert message in str(mine[name]["reason"]), mine[name]["reason"]
    for name, row in mine.items():
        values = [row["mert_mse"], row["mert_fad"]]
        defined = {"ok": 2, "partial": 1}.get(str(row["status"]), 0)
        assert sum(isinstance(value, float) and math.isfinite(value) and value > 0 for value in values) == defined, name
        assert sum(value is None for value in values) == 2 - defined
        assert (row["reason"] is None) == (row["status"] == "ok")
    assert mine["longer"]["mert_mse"] is None
    assert mine["frame"]["mert_fad"] is None
    assert mine["silent"]["silent"] == "estimate"
    assert mine["good"]["silent"] is None
    others = [row for row in rows if row["model"] == "fine"]
    assert sorted(str(row["status"]) for row in others) == ["ok"] + ["unmatched"] * 10


def test_rows_say_what_they_were_computed_with(
    encoder: Encoder, folders: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, estimates = folders
    pairs = pair(reference, estimates)[:1]
    release = f"mertric {version('mertric')}"
    (row,) = score_pairs(pairs, None, metrics=["waveform_mse"])
    assert row["settings"] == release
    windows = Windows(seconds=2, overlap=0.25)
    (row,) = score_pairs(pairs, encoder, protocol="float", windows=windows, trim=True)
    untrained = f"{encoder.bundle.model}, untrained weights; fp32 on {encoder.provider}"
    assert row["settings"] == f"{release}; {untrained}; protocol float; windows of 2 s, overlap 0.25; trimmed"
    monkeypatch.setattr(encoder, "bundle", replace(encoder.bundle, trained=True))
    assert f"weights {encoder.bundle.weights_sha256[:12]}; fp32" in describe(encoder, protocol="paper")


def test_rows_keep_the_order_of_pairs(encoder: Encoder, folders: tuple[Path, list[Path]]) -> None:
    pairs = pair(*folders)
    rows = score_pairs(pairs, encoder)
    as_text = [(p.reference and str(p.reference), p.estimate and str(p.estimate)) for p in pairs]
    assert [(row["reference"], row["estimate"]) for row in rows] == as_text


def test_rows_equal_single_scores(encoder: Encoder, folders: tuple[Path, list[Path]]) -> None:
    reference, (bad, _) = folders
    pairs = [Pair(reference=reference / name, estimate=bad / name) for name in ("good.wav", "other.wav")]
    rows = score_pairs(pairs, encoder, layers=[1, 4], protocol="float")
    assert [(Path(str(row["reference"])).stem, row["layer"]) for row in rows] == [
        ("good", 1),
        ("good", 4),
        ("other", 1),
        ("other", 4),
    ]
    for row in rows:
        paths = str(row["reference"]), str(row["estimate"])
        single = mertric.score(*paths, encoder=encoder, layer=row["layer"], protocol="float")  # type: ignore[arg-type]
        assert row["mert_mse"] == pytest.approx(single.mse, rel=1e-6)
        assert row["mert_fad"] == pytest.approx(single.fad, rel=1e-6)
        assert row["frames"] == single.frames == 37


def test_a_pair_given_twice_is_two_rows(encoder: Encoder, folders: tuple[Path, list[Path]]) -> None:
    reference, (bad, _) = folders
    one = Pair(reference=reference / "good.wav", estimate=bad / "good.wav")
    rows = score_pairs([one, one], encoder)
    assert len(rows) == 2
    assert rows[0] == rows[1]


def test_each_reference_is_embedded_once(
    bundle: Path, folders: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(bundle)
    reference, (bad, fine) = folders
    calls: list[int] = []
    embed = encoder.embed_samples

    def counted(samples: Any, **options: Any) -> Any:
        calls.append(len(samples))
        return embed(samples, **options)

    monkeypatch.setattr(encoder, "embed_samples", counted)
    estimates = [bad / "good.wav", fine / "good.wav", bad / "other.wav"]
    pairs = [Pair(reference=reference / "good.wav", estimate=path) for path in estimates]
    assert [row["status"] for row in score_pairs(pairs, encoder, layers="all")] == ["ok"] * 15
    assert len(calls) == 4


def test_a_broken_reference_fails_all_its_pairs(
    encoder: Encoder, tmp_path: Path, write_wav: WriteWav, sound: Sound
) -> None:
    (tmp_path / "ref.wav").write_text("x")
    (tmp_path / "also.wav").write_text("x")
    estimates = [write_wav("a.wav", sound()), tmp_path / "also.wav"]
    rows = score_pairs([Pair(reference=tmp_path / "ref.wav", estimate=path) for path in estimates], encoder)
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "ref.wav" in str(rows[0]["reason"])
    assert "ref.wav" in str(rows[1]["reason"])
    assert "also.wav" in str(rows[1]["reason"])


def test_what_metrics_of_both_kinds_find_is_said_once(
    encoder: Encoder, tmp_path: Path, write_wav: WriteWav, sound: Sound
) -> None:
    (tmp_path / "text.wav").write_text("x")
    good, silent = write_wav("good.wav", sound()), write_wav("silent.wav", np.zeros(12000))
    pairs = [Pair(reference=good, estimate=tmp_path / "text.wav"), Pair(reference=silent, estimate=silent)]
    failed, quiet = score_pairs(pairs, encoder, metrics=("mert_mse", "waveform_mse"))
    assert str(failed["reason"]).count("text.wav") == 1
    assert (quiet["silent"], quiet["status"]) == ("reference and estimate", "ok")


def test_a_missing_file_is_a_row(encoder: Encoder, tmp_path: Path, write_wav: WriteWav, sound: Sound) -> None:
    rows = score_pairs([Pair(reference=write_wav("a.wav", sound()), estimate=tmp_path / "gone.wav")], encoder)
    assert rows[0]["status"] == "failed"
    assert "gone.wav does not exist" in str(rows[0]["reason"])


def test_layers_and_protocol_are_checked_before_work(encoder: Encoder) -> None:
    nothing = [Pair(reference=Path("gone"), estimate=Path("gone"))]
    with pytest.raises(InputError, match=r"layers is \(9,\)"):
        score_pairs(nothing, encoder, layers=[9])
    with pytest.raises(InputError, match="protocol 'x' is not known"):
        score_pairs(nothing, encoder, protocol="x")


def test_stereo_at_another_rate(encoder: Encoder, write_wav: WriteWav, sound: Sound) -> None:
    left, right = sound(22050, 1), sound(22050, 2)
    stereo = write_wav("stereo.flac", np.stack([left, right]), 44100, subtype="PCM_24")
    mono = write_wav("mono.wav", (left + right) / 2, 44100)
    same = mertric.score(mono, stereo, encoder=encoder)
    assert same.frames == 37
    assert same.mse < 1e-4
    assert mertric.score(mono, write_wav("left.wav", left, 44100), encoder=encoder).mse > 100 * same.mse


def test_a_score_says_what_is_silent(encoder: Encoder, sound: Sound) -> None:
    """Too quiet for 16 bits is silent under the paper's protocol."""
    loud, quiet = sound(), sound() * np.float32(1e-6)
    for reference, estimate, silent in ((loud, loud, ()), (quiet, loud, ("reference",)), (loud, quiet, ("estimate",))):
        assert mertric.score(reference, estimate, encoder=encoder, sample_rate=24000).silent == silent
        assert mertric.score(reference, estimate, encoder=encoder, sample_rate=24000, protocol="float").silent == ()


@pytest.mark.parametrize("metrics", [["mert_mse"], ["sdr"]])
def test_a_path_that_cannot_be_is_a_row(
    encoder: Encoder, write_wav: Callable[..., Path], sound: Sound, tmp_path: Path, metrics: list[str]
) -> None:
    reference, good = write_wav("r.wav", sound()), write_wav("e.wav", sound(seed=1))
    estimates = [tmp_path / ("x" * 300 + ".wav"), tmp_path / "a\0.wav", good]
    pairs = [Pair(reference=reference, estimate=estimate) for estimate in estimates]
    rows = score_pairs(pairs, encoder, metrics=metrics, journal=tmp_path / "journal.jsonl")
    assert [row["status"] for row in rows] == ["failed", "failed", "ok"]
    assert all(str(estimate) in str(row["reason"]) for estimate, row in zip(estimates[:2], rows, strict=False))


def test_pairs_and_metrics_that_come_one_by_one(encoder: Encoder, sound: Sound, write_wav: WriteWav) -> None:
    files = [write_wav(f"{seed}.wav", sound(seed=seed)) for seed in range(3)]
    pairs = [Pair(reference=files[0], estimate=file) for file in files[1:]]
    expected = score_pairs(pairs, encoder, metrics=["mert_mse"])
    assert score_pairs(iter(pairs), encoder, metrics=iter(["mert_mse"])) == expected
    assert [row["status"] for row in expected] == ["ok", "ok"]


def test_a_journal_by_its_name(encoder: Encoder, sound: Sound, write_wav: WriteWav, tmp_path: Path) -> None:
    file = write_wav("a.wav", sound())
    score_pairs([Pair(reference=file, estimate=file)], encoder, journal=str(tmp_path / "j"))
    assert (tmp_path / "j").is_file()


def test_a_name_of_a_metric_is_no_sequence_of_them(encoder: Encoder) -> None:
    with pytest.raises(
        InputError, match=r"metrics is 'mert_mse'; expected a sequence of names, such as \['mert_mse'\]"
    ):
        list(mertric.score_pairs([], encoder, metrics="mert_mse"))
