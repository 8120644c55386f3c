"""How separated music is laid out on disk, from folders and manifests to rows."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest

from mertric.files import STEMS
from mertric.manifest import COLUMNS, read_manifest
from mertric.pairing import pair
from mertric.scoring import score_pairs

SONGS = ("AM Contra - Heart Peripheral", "Track 2")


@pytest.fixture
def fill(write_wav, sound):
    """Write short clips below the test's folder, all of the same length and each of another sound."""

    def write(*names):
        for name in names:
            write_wav(name, sound(1000, sum(map(ord, name)) % 97))

    return write


@pytest.fixture
def musdb(fill, tmp_path):
    """MUSDB18-HQ's references: the stems of each song, beside their mixture."""
    fill(*(f"test/{song}/{stem}.wav" for song in SONGS for stem in (*STEMS, "mixture")))
    return tmp_path / "test"


def scored(pairs):
    return score_pairs(pairs, None, metrics=["waveform_mse"])


def identity(row):
    return row["model"], row["track"], row["stem"]


def by_identity(rows):
    assert all(count == 1 for count in Counter(map(identity, rows)).values())
    return {identity(row): row for row in rows}


def test_flat_folders_of_gensvs(fill, tmp_path):
    fill(*(f"target/target_fileid_{n}.wav" for n in (1, 2, 12)))
    fill(*(f"separated/{m}/separated_vocals_mixture_fileid_{n}.wav" for m in ("sgmsvs", "mel") for n in (1, 2, 12)))
    rows = scored(pair(tmp_path / "target", [tmp_path / "separated"]))
    assert [identity(row) for row in rows] == [
        (model, f"fileid_{n}", None) for model in ("mel", "sgmsvs") for n in (1, 12, 2)
    ]
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert row["reference"].endswith(f"target_{row['track']}.wav")
        assert row["estimate"].endswith(f"_{row['track']}.wav")


@pytest.mark.parametrize("given", ["out", "models"])
def test_folders_of_models(fill, musdb, tmp_path, given):
    """MODEL/TRACK/STEM.wav, as the Bake-Off, SiSEC and museval have it; references with mixtures."""
    fill(*(f"out/{m}/{song}/{stem}.wav" for m in ("umx", "ideal") for song in SONGS for stem in STEMS))
    fill(*(f"out/umx/{song}/{name}.wav" for song in SONGS for name in ("accompaniment", "mixture")))
    folders = [tmp_path / "out"] if given == "out" else [tmp_path / "out/ideal", tmp_path / "out/umx"]
    rows = by_identity(scored(pair(musdb, folders)))
    assert set(rows) == {(model, song, stem) for model in ("ideal", "umx") for song in SONGS for stem in STEMS}
    for (model, song, stem), row in rows.items():
        assert row["reference"] == str(musdb / song / f"{stem}.wav")
        assert row["estimate"] == str(tmp_path / "out" / model / song / f"{stem}.wav")
        assert row["status"] == "ok"


def test_one_model_in_another_format(write_wav, sound, musdb, tmp_path):
    for song in SONGS:
        for stem in STEMS:
            write_wav(f"umx/{song}/{stem}.flac", sound(1000), subtype="PCM_16")
    rows = by_identity(scored(pair(musdb, [tmp_path / "umx"])))
    assert set(rows) == {("umx", song, stem) for song in SONGS for stem in STEMS}
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_what_is_missing_or_too_much_is_a_row(fill, musdb, tmp_path):
    fill(*(f"out/umx/{SONGS[0]}/{stem}.wav" for stem in ("bass", "vocals", "other", "guitar")))
    fill(*(f"out/umx/Another Song/{stem}.wav" for stem in STEMS))
    rows = by_identity(scored(pair(musdb, [tmp_path / "out/umx"])))
    ok = {key for key, row in rows.items() if row["status"] == "ok"}
    assert ok == {("umx", SONGS[0], stem) for stem in ("bass", "vocals", "other")}
    left = {key: row for key, row in rows.items() if key not in ok}
    assert {row["status"] for row in left.values()} == {"unmatched"}
    without_estimate = {key for key, row in left.items() if row["estimate"] is None}
    assert without_estimate == {("umx", SONGS[0], "drums")} | {("umx", SONGS[1], stem) for stem in STEMS}
    without_reference = {key for key, row in left.items() if row["reference"] is None}
    assert without_reference == {("umx", SONGS[0], "guitar")} | {("umx", "Another Song", stem) for stem in STEMS}
    assert left["umx", SONGS[0], "drums"]["reason"] == f"no partner in {tmp_path / 'out/umx'}"
    assert left["umx", SONGS[0], "guitar"]["reason"] == f"no partner in {musdb}"


def test_a_number_in_a_tracks_name_does_not_pair_other_stems(fill, tmp_path):
    fill("ref/Track01/bass.wav", "ref/Track01/drums.wav", "m/Track01/bass.wav", "m/Track01/guitar.wav")
    rows = by_identity(scored(pair(tmp_path / "ref", [tmp_path / "m"])))
    assert {key: row["status"] for key, row in rows.items()} == {
        ("m", "Track01", "bass"): "ok",
        ("m", "Track01", "drums"): "unmatched",
        ("m", "Track01", "guitar"): "unmatched",
    }
    assert rows["m", "Track01", "drums"]["reason"].startswith("no partner in ")


def test_a_number_in_a_tracks_name_pairs_the_same_stem(fill, tmp_path):
    fill("ref/song_1/bass.wav", "ref/song_2/bass.wav", "m/song_1_out/bass.wav", "m/song_2_out/bass.wav")
    rows = by_identity(scored(pair(tmp_path / "ref", [tmp_path / "m"])))
    assert {key: row["status"] for key, row in rows.items()} == {("m", f"song_{n}", "bass"): "ok" for n in (1, 2)}


ROWS = (
    ("ref/a.wav", "out/x.wav", "one", "song", "bass", "generative"),
    ("ref/b.wav", "out/y.wav", "one", "song", "drums", "generative"),
    ("ref/a.wav", "out/z.wav", "two", "song", "bass", "discriminative"),
    ("ref/absent.wav", "out/z.wav", "two", "song", "drums", "discriminative"),
    ("ref/a.wav", "", "three", "song", "bass", ""),
)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_manifest_with_relative_paths(fill, tmp_path, monkeypatch, kind):
    fill("data/ref/a.wav", "data/ref/b.wav", *(f"data/out/{name}.wav" for name in "xyz"))
    manifest = tmp_path / f"data/manifest.{kind}"
    with manifest.open("w", newline="") as file:
        if kind == "csv":
            csv.writer(file).writerows([COLUMNS, *ROWS])
        else:
            json.dump([dict(zip(COLUMNS, row, strict=True)) for row in ROWS], file)
    monkeypatch.chdir(tmp_path)
    rows = by_identity(score_pairs(read_manifest(manifest), None, metrics=["waveform_mse", "si_sir"]))
    assert [row["status"] for row in rows.values()] == ["partial", "partial", "partial", "failed", "unmatched"]
    assert all(row["waveform_mse"] > 0 for row in list(rows.values())[:3])
    assert [row["model_type"] for row in rows.values()] == ["generative"] * 2 + ["discriminative"] * 2 + [None]
    assert "absent.wav does not exist" in rows["two", "song", "drums"]["reason"]
    assert "absent.wav does not exist" in rows["one", "song", "bass"]["reason"], "si_sir needs all references"
    assert rows["three", "song", "bass"]["reason"].endswith(f"manifest.{kind} names no estimate")
