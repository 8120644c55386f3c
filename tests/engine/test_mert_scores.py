"""MERT metrics of pairs of files, through `score_pairs`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mertric import mert_scores
from mertric.clip_scores import score
from mertric.errors import InputError
from mertric.pairing import Pair
from mertric.scoring import score_pairs
from mertric.windows import Windows


@pytest.fixture
def runs(encoder, monkeypatch):
    """The number of samples of each clip that the encoder has run over."""
    seen = []
    embed = encoder.embed_samples

    def counted(samples, **options):
        seen.append(samples.size)
        return embed(samples, **options)

    monkeypatch.setattr(encoder, "embed_samples", counted)
    return seen


@pytest.fixture
def clips(write_wav, sound):
    """A reference and two estimates, by name."""
    return {name: write_wav(f"{name}.wav", sound(12000, seed)) for seed, name in enumerate(("r", "a", "b"))}


def pairs_of(clips, *estimates, reference="r"):
    return [Pair(reference=clips[reference], estimate=clips[name], model=name, track="t") for name in estimates]


def test_each_reference_is_embedded_once(encoder, clips, runs):
    rows = score_pairs(pairs_of(clips, "a", "b"), encoder)
    assert len(runs) == 3
    for row in rows:
        one = score(row["reference"], row["estimate"], encoder=encoder)
        assert (row["mert_mse"], row["mert_fad"]) == (one.mse, one.fad)
        assert (row["layer"], row["frames"], row["status"]) == (encoder.layers, 37, "ok")


def test_pairs_of_several_references_keep_their_order(encoder, clips):
    pairs = [*pairs_of(clips, "a"), *pairs_of(clips, "a", reference="b"), *pairs_of(clips, "b")]
    rows = score_pairs(pairs, encoder)
    assert [(row["reference"], row["estimate"]) for row in rows] == [(str(p.reference), str(p.estimate)) for p in pairs]
    assert len({row["mert_mse"] for row in rows}) == 3


def test_batches_compared_ahead_give_what_pairs_give_alone(encoder, clips, monkeypatch, tmp_path):
    """In the order given, with the reason of what cannot be read in its place, and each kept in the journal once."""
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    clips["broken"] = tmp_path / "broken.wav"
    pairs = [*pairs_of(clips, "a", "broken", "b", "a", "r"), *pairs_of(clips, "a", "r", reference="b")]
    expected = score_pairs(pairs, encoder)
    monkeypatch.setattr(type(encoder), "batch", 3)
    journal = tmp_path / "run.jsonl"
    rows = score_pairs(pairs, encoder, layers="all", journal=journal)
    assert len(rows) == len(pairs) * (encoder.layers + 1)
    assert score_pairs(pairs, encoder, layers="all", journal=journal) == rows
    last = [row for row in rows if row["layer"] in (None, encoder.layers)]
    for row, one in zip(last, expected, strict=True):
        assert (row["estimate"], row["status"], row["reason"]) == (one["estimate"], one["status"], one["reason"])
        for metric in ("mert_mse", "mert_fad"):
            assert (row[metric] is None) == (one[metric] is None) == (row["status"] == "failed")
            assert row[metric] is None or row[metric] == pytest.approx(one[metric], rel=1e-4, abs=1e-9)


def test_every_layer_in_one_pass(encoder, clips, runs):
    rows = score_pairs(pairs_of(clips, "a"), encoder, layers="all")
    assert len(runs) == 2
    assert [row["layer"] for row in rows] == list(range(encoder.layers + 1))
    assert len({row["mert_mse"] for row in rows}) == len(rows)
    (last,) = score_pairs(pairs_of(clips, "a"), encoder)
    assert rows[-1] == last


def test_different_lengths_leave_what_is_defined(encoder, clips, write_wav, sound):
    clips["long"] = write_wav("long.wav", np.concatenate([sound(12000, 1), sound(3200, 5)]))
    (row,) = score_pairs(pairs_of(clips, "long"), encoder)
    assert (row["status"], row["mert_mse"]) == ("partial", None)
    assert row["mert_fad"] > 0
    message = "the reference has 37 frames and the estimate 47; --trim compares the part that both have"
    assert row["reason"] == f"mert_mse: {message}"


def test_trim_compares_what_both_have(encoder, clips, write_wav, sound):
    clips["long"] = write_wav("long.wav", np.concatenate([sound(12000, 1), sound(3200, 5)]))
    whole, trimmed, reverse = (
        score_pairs([pair], encoder, trim=trim)[0]
        for pair, trim in (
            (pairs_of(clips, "a")[0], False),
            (pairs_of(clips, "long")[0], True),
            (pairs_of(clips, "r", reference="long")[0], True),
        )
    )
    assert (trimmed["status"], trimmed["reason"]) == ("ok", None)
    assert trimmed["mert_mse"] == whole["mert_mse"]
    assert trimmed["mert_fad"] == whole["mert_fad"]
    assert reverse["mert_mse"] == pytest.approx(whole["mert_mse"], rel=1e-6)
    assert reverse["frames"] == 37


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_trim_blames_the_clip_that_is_too_short(encoder, clips, write_wav, sound, samples):
    clips["none"] = write_wav("none.wav", sound(samples))
    (row,) = score_pairs(pairs_of(clips, "none"), encoder, trim=True)
    assert row["status"] == "failed"
    assert "none.wav" in row["reason"]
    assert "r.wav" not in row["reason"]


def test_trim_at_two_rates(encoder, clips, write_wav, sound):
    """The shorter length is a sample more at one rate than at the other, and here a frame."""
    clips["cut"] = write_wav("cut.wav", sound(176546, 1), 44100)
    clips["long"] = write_wav("long.wav", sound(99000, 2))
    (row,) = score_pairs(pairs_of(clips, "cut", reference="long"), encoder, trim=True)
    assert (row["status"], row["reason"]) == ("ok", None)
    assert row["frames"] == encoder.bundle.frames(96079)


@pytest.mark.parametrize(("samples", "frames"), [(12000 - 640, 35), (12000 - 960, 34)])
def test_trim_forgives_one_frame_and_no_more(encoder, clips, write_wav, sound, monkeypatch, samples, frames):
    clips["cut"] = write_wav("cut.wav", sound(samples, 1))
    monkeypatch.setattr("mertric.mert_scores._duration", lambda path: 0.5)
    (row,) = score_pairs(pairs_of(clips, "cut"), encoder, trim=True)
    assert row["mert_mse"] is None
    assert f"37 frames and the estimate {frames}; --trim went by their headers" in row["reason"]


def test_trim_says_when_a_header_is_wrong(encoder, clips, write_wav, sound, monkeypatch):
    """As that of an MP3 file that was cut off is."""
    clips["cut"] = write_wav("cut.wav", sound(9000, 1))
    monkeypatch.setattr("mertric.mert_scores._duration", lambda path: 0.5)
    (row,) = score_pairs(pairs_of(clips, "cut"), encoder, trim=True)
    assert row["status"] == "partial"
    assert "37 frames and the estimate 27; --trim went by their headers, of which one is wrong" in row["reason"]


def test_one_frame_has_no_covariance(encoder, clips, write_wav, sound):
    clips |= {"short": write_wav("short.wav", sound(500, 1)), "brief": write_wav("brief.wav", sound(500, 2))}
    (row,) = score_pairs(pairs_of(clips, "brief", reference="short"), encoder)
    assert (row["frames"], row["status"], row["mert_fad"]) == (1, "partial", None)
    assert row["mert_mse"] > 0
    assert row["reason"].startswith("mert_fad: the reference has 1 frame, of which no covariance can be taken")


def test_silence_is_scored_and_flagged(encoder, clips, write_wav):
    clips["none"] = write_wav("none.wav", np.zeros(12000))
    rows = score_pairs(
        [*pairs_of(clips, "a", "none"), *pairs_of(clips, "none", "a", reference="none")], encoder, layers=(0, 4)
    )
    silent = [row["silent"] for row in rows]
    assert silent == [None] * 2 + ["estimate"] * 2 + ["reference and estimate"] * 2 + ["reference"] * 2
    assert {row["status"] for row in rows} == {"ok"}
    assert [row["mert_mse"] for row in rows[4:6]] == [0, 0]
    assert all(np.isfinite(row["mert_mse"]) and row["mert_mse"] > 0 for row in rows[2:4])


def test_what_cannot_be_read_is_a_row_with_its_reason(encoder, clips, write_wav, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    clips |= {"broken": tmp_path / "broken.wav", "short": write_wav("short.wav", np.ones(100))}
    clips["absent"] = tmp_path / "absent.wav"
    rows = score_pairs(
        [*pairs_of(clips, "broken", "short", "a", "absent"), *pairs_of(clips, "b", reference="absent")], encoder
    )
    assert [row["status"] for row in rows] == ["failed", "failed", "ok", "failed", "failed"]
    for row, text in zip(
        rows, ("cannot be decoded", "too short", None, "does not exist", "does not exist"), strict=True
    ):
        assert (row["reason"] is None) if text is None else (text in row["reason"])
        assert (row["mert_mse"] is None) == (text is not None)


def test_a_pair_without_a_partner_is_a_row(encoder, clips):
    lonely = Pair(reference=None, estimate=clips["a"], model="m", problem="no partner in there")
    rows = score_pairs([lonely, *pairs_of(clips, "b")], encoder, layers="all")
    assert (rows[0]["status"], rows[0]["reason"], rows[0]["layer"]) == ("unmatched", "no partner in there", None)
    assert len(rows) == 1 + encoder.layers + 1


def test_a_second_run_computes_nothing(encoder, clips, runs, tmp_path):
    pairs = pairs_of(clips, "a", "b")
    done = []
    first = score_pairs(pairs, encoder, layers=(0, 4), journal=tmp_path / "j")
    assert len(runs) == 3
    second = score_pairs(pairs, encoder, layers=(0, 4), journal=tmp_path / "j", advance=lambda: done.append(1))
    assert len(runs) == 3
    assert second == first
    assert len(done) == 2


def test_an_interrupted_run_goes_on(encoder, clips, runs, tmp_path):
    journal = tmp_path / "j"
    pairs = pairs_of(clips, "a", "b")
    whole = score_pairs(pairs, encoder, journal=journal)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + lines[1][:60])
    runs.clear()
    assert score_pairs(pairs, encoder, journal=journal) == whole
    assert len(runs) == 2
    assert score_pairs(pairs, encoder, journal=journal) == whole
    assert len(runs) == 2


@pytest.mark.parametrize("options", [{"layers": (3,)}, {"protocol": "float"}, {"trim": True}])
def test_other_settings_are_computed_anew(encoder, clips, runs, tmp_path, options):
    score_pairs(pairs_of(clips, "a"), encoder, journal=tmp_path / "j")
    score_pairs(pairs_of(clips, "a"), encoder, journal=tmp_path / "j", **options)
    assert len(runs) == 4


def test_another_overlap_of_windows_is_computed_anew(encoder, clips, runs, tmp_path):
    for overlap in (0.5, 0.25):
        windows = Windows(seconds=0.2, overlap=overlap)
        score_pairs(pairs_of(clips, "a"), encoder, windows=windows, journal=tmp_path / "j")
    assert len(runs) == 4


@pytest.mark.parametrize("name", ["provider", "precision", "weights"])
def test_what_another_encoder_computed_is_computed_anew(encoder, clips, runs, tmp_path, monkeypatch, name):
    score_pairs(pairs_of(clips, "a"), encoder, journal=tmp_path / "j")
    if name == "weights":
        monkeypatch.setattr(encoder, "bundle", replace(encoder.bundle, weights_sha256="0" * 64))
    else:
        monkeypatch.setattr(encoder, name, "another")
    score_pairs(pairs_of(clips, "a"), encoder, journal=tmp_path / "j")
    assert len(runs) == 4


def test_a_changed_file_is_computed_anew(encoder, clips, runs, write_wav, sound, tmp_path):
    before = score_pairs(pairs_of(clips, "a", "b"), encoder, journal=tmp_path / "j")
    write_wav("a.wav", sound(12001, 9))
    after = score_pairs(pairs_of(clips, "a", "b"), encoder, journal=tmp_path / "j")
    assert len(runs) == 5
    assert after[0]["mert_mse"] != before[0]["mert_mse"]
    assert after[1] == before[1]


def test_failures_are_tried_again(encoder, clips, runs, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    clips["broken"] = tmp_path / "broken.wav"
    for _ in range(2):
        assert score_pairs(pairs_of(clips, "broken", "a"), encoder, journal=tmp_path / "j")[0]["status"] == "failed"
    assert len(runs) == 3, "the reference and one estimate, then the reference for what failed"
    lines = (tmp_path / "j").read_text().splitlines()
    assert [json.loads(line)["outcomes"][0]["reasons"] for line in lines] == [[]]


def test_an_encoder_is_needed():
    with pytest.raises(InputError, match=r"MERT metrics need an encoder: pass one from mertric.load\(\)"):
        score_pairs([], None)


def test_the_memory_of_batches_is_the_one_given(encoder, clips):
    with pytest.raises(InputError, match="memory for batches is 0 bytes"):
        score_pairs(pairs_of(clips, "a"), encoder, memory=0)


def test_states_and_roots_count_as_memory(encoder, clips, monkeypatch):
    sizes, ahead = [], mert_scores.map_ahead

    def watched(function, items, *, size, **options):
        return ahead(function, items, size=lambda item: sizes.append(size(item)) or sizes[-1], **options)

    monkeypatch.setattr(mert_scores, "map_ahead", watched)
    monkeypatch.setattr(type(encoder), "batch", 2)
    score_pairs(pairs_of(clips, "a", "b"), encoder)
    assert sizes == [2 * 37 * 64 * 2 + 37 * 64 * 8] * 2


@pytest.mark.parametrize("where", ["frechet_distance", "prepare"])
def test_a_pair_for_which_there_is_no_memory_is_tried_again(encoder, clips, monkeypatch, tmp_path, where):
    pairs, journal = pairs_of(clips, "a", "b"), tmp_path / "run.jsonl"
    expected = score_pairs(pairs, encoder)
    real, calls = getattr(mert_scores, where), []

    def fail(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return real(*arguments, **options)

    monkeypatch.setattr(mert_scores, where, fail)
    rows = score_pairs(pairs, encoder, journal=journal)
    failed = 1 if where == "frechet_distance" else 2  # the reference is prepared once, for both
    assert [row["status"] for row in rows] == ["failed"] * failed + ["ok"] * (2 - failed)
    assert rows[0]["reason"] == "memory ran out. Use shorter clips or smaller batches."
    assert score_pairs(pairs, encoder, journal=journal) == expected


def test_trim_looks_up_a_files_length_once(encoder, clips, monkeypatch):
    asked = []
    real = mert_scores._duration
    monkeypatch.setattr(mert_scores, "_duration", lambda path: asked.append(path) or real(path))
    rows = score_pairs(pairs_of(clips, "a", "b"), encoder, trim=True)
    assert len(rows) == 2
    assert len(asked) == len({*asked}) == 3
