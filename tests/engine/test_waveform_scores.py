"""Waveform metrics of pairs of files, through `score_pairs`."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mertric.waveform_scores
from mertric.errors import InputError
from mertric.metrics.registry import score_track
from mertric.pairing import Pair
from mertric.scoring import score_pairs

RATE = 8000
OWN = ("sdr", "si_sdr", "spectrogram_mse", "waveform_mse")
WHOLE = ("si_sir", "si_sar", "sdr_v4", "sir_v4")


@pytest.fixture
def signals(sound):
    """Two references of a track and an estimate of each, stereo at 8 kHz: float32 [channels, samples]."""
    bass, drums = (np.stack([sound(2 * RATE, seed), sound(2 * RATE, seed + 10)]) for seed in (0, 1))
    return {"bass": bass, "drums": drums, "bass_out": 0.8 * bass + 0.2 * drums, "drums_out": drums + 0.1 * bass}


@pytest.fixture
def track(signals, write_wav):
    """Those as files, as 32-bit float."""
    return {name: write_wav(f"{name}.wav", signal, RATE) for name, signal in signals.items()}


@pytest.fixture
def reads(monkeypatch):
    """The name of each file that was read."""
    seen = []
    read = mertric.waveform_scores.read_audio

    def counted(path):
        seen.append(path.name)
        return read(path)

    monkeypatch.setattr(mertric.waveform_scores, "read_audio", counted)
    return seen


def stems(track, names=("bass", "drums"), model="m"):
    return [
        Pair(reference=track[name], estimate=track[f"{name}_out"], model=model, track="t", stem=name) for name in names
    ]


def scored(pairs, names=OWN, **options):
    return score_pairs(pairs, None, metrics=names, **options)


def values(row, names):
    return {name: row[name] for name in names}


def test_a_track_is_scored_as_a_whole(track, signals):
    names = (*OWN, *WHOLE)
    rows = scored(stems(track), names)
    expected = score_track(
        [signals["bass"], signals["drums"]], [signals["bass_out"], signals["drums_out"]], names=names, sample_rate=RATE
    )
    for row, direct in zip(rows, expected, strict=True):
        assert (row["status"], row["reason"], row["silent"], row["layer"]) == ("ok", None, None, None)
        assert values(row, names) == pytest.approx(direct, rel=1e-5)


def test_order_and_models_do_not_matter(track, signals, write_wav):
    other = {**track, "bass_out": write_wav("n/bass.wav", signals["drums"], RATE)}
    pairs = [*stems(track), *stems(other, model="n")]
    forwards, backwards = scored(pairs, (*OWN, *WHOLE)), scored(pairs[::-1], (*OWN, *WHOLE))[::-1]
    for row, same in zip(forwards, backwards, strict=True):
        assert values(row, OWN) == values(same, OWN)
        assert values(row, WHOLE) == pytest.approx(values(same, WHOLE), rel=1e-9)


def test_a_missing_stem_still_counts_as_interference(track):
    missing = Pair(reference=track["bass"], estimate=None, model="m", track="t", stem="bass", problem="no partner")
    whole, alone = scored(stems(track), ("si_sir",)), scored([missing, *stems(track, ["drums"])], ("si_sir",))
    assert alone[1] == whole[1]
    assert (alone[0]["status"], alone[0]["reason"], alone[0]["si_sir"]) == ("unmatched", "no partner", None)


def test_estimates_of_one_reference_do_not_touch_one_another(track, signals, write_wav):
    """Silent frames of one estimate are left out of its own BSSEval v4 only."""
    silent = signals["bass_out"].copy()
    silent[:, :RATE] = 0
    paths = (track["bass_out"], write_wav("silent.wav", silent, RATE))
    pairs = [Pair(reference=track["bass"], estimate=path, track="t") for path in paths]
    names = ("sdr_v4", "isr_v4", "sar_v4")
    together, alone = scored(pairs, names), [scored([pair], names)[0] for pair in pairs]
    assert together == alone


def test_silence_is_flagged_and_scored_where_defined(track, signals, write_wav):
    track["bass"] = write_wav("bass.wav", np.zeros((2, 2 * RATE)), RATE)
    track["drums_out"] = write_wav("drums_out.wav", np.zeros((2, 2 * RATE)), RATE)
    bass, drums = scored(stems(track), (*OWN, "si_sar"))
    assert (bass["silent"], drums["silent"]) == ("reference", "estimate")
    assert (bass["status"], drums["status"]) == ("partial", "partial")
    assert bass["waveform_mse"] == pytest.approx(np.mean(signals["bass_out"].astype(float) ** 2), rel=1e-6)
    assert bass["spectrogram_mse"] > 0
    assert [bass["sdr"], bass["si_sdr"], bass["si_sar"]] == [None] * 3
    assert bass["reason"] == "sdr, si_sdr, si_sar: the reference is silent"
    assert "the estimate is silent" in drums["reason"]


def test_a_silent_stem_leaves_the_others_their_metrics(track, write_wav):
    track["bass"] = write_wav("bass.wav", np.zeros((2, 2 * RATE)), RATE)
    drums = scored(stems(track), (*OWN, "si_sar", "si_sir", "sdr_v4"))[1]
    assert drums["silent"] is None
    assert drums["si_sar"] is not None
    assert "si_sir: there is no interference to measure" in drums["reason"]
    assert "sdr_v4: reference 0 is silent throughout" in drums["reason"]


def test_an_unreadable_reference_leaves_metrics_of_the_own_reference(track):
    track["drums"].write_bytes(b"RIFF")
    bass, drums = scored(stems(track), (*OWN, "si_sir"))
    assert bass["status"] == "partial"
    assert all(bass[name] is not None for name in OWN)
    assert bass["reason"].startswith("si_sir: the track's references cannot be used together: ")
    assert "drums.wav" in bass["reason"]
    assert (drums["status"], drums["sdr"]) == ("failed", None)
    assert "cannot be decoded" in drums["reason"]


@pytest.mark.parametrize(
    ("rate", "channels", "samples", "message"),
    [
        (16000, 2, 16000, "differ in sample rate: 8000 Hz and 16000 Hz; render them alike"),
        (8000, 1, 16000, "differ in channels: 2 and 1; render them alike"),
        (8000, 2, 15000, "differ in samples: 16000 and 15000; --trim compares the part that both have"),
    ],
)
def test_files_that_differ(track, signals, write_wav, rate, channels, samples, message):
    track["bass_out"] = write_wav("bass_out.wav", signals["bass_out"][:channels, :samples], rate)
    bass, drums = scored(stems(track), (*OWN, *WHOLE))
    assert (bass["status"], bass["sdr"]) == ("failed", None)
    assert bass["reason"] == f"{track['bass']} and {track['bass_out']} {message}"
    assert drums["status"] == "ok"


def test_references_that_differ_leave_metrics_of_the_own_reference(track, signals, write_wav):
    for name in ("drums", "drums_out"):
        track[name] = write_wav(f"{name}.wav", signals[name][:, :9000], RATE)
    for row in scored(stems(track), (*OWN, "si_sar")):
        assert (row["status"], row["si_sar"]) == ("partial", None)
        assert all(row[name] is not None for name in OWN)
        assert "cannot be used together" in row["reason"]
        assert "differ in samples: 16000 and 9000" in row["reason"]


def test_trim_cuts_a_track_to_its_shortest_file(track, signals, write_wav):
    track["bass_out"] = write_wav("bass_out.wav", signals["bass_out"][:, :12000], RATE)
    names = (*OWN, *WHOLE)
    rows = scored(stems(track), names, trim=True)
    cut = {name: signal[:, :12000] for name, signal in signals.items()}
    expected = score_track(
        [cut["bass"], cut["drums"]], [cut["bass_out"], cut["drums_out"]], names=names, sample_rate=RATE
    )
    for row, direct in zip(rows, expected, strict=True):
        assert values(row, names) == pytest.approx(direct, rel=1e-5)
        assert row["status"] == "ok"


def test_trim_goes_by_references_and_one_models_estimates(track, signals, write_wav):
    """Another model's shorter file changes nothing, and a reference may be the shortest."""
    alone = scored(stems(track), ("usdr",), trim=True)
    short = track | {"bass_out": write_wav("short.wav", signals["bass_out"][:, :9000], RATE)}
    both = scored([*stems(track), *stems(short, model="n")], ("usdr",), trim=True)
    assert [row["usdr"] for row in both[:2]] == [row["usdr"] for row in alone]
    track["drums"] = write_wav("drums.wav", signals["drums"][:, :9000], RATE)
    cut = {name: signal[:, :9000] for name, signal in signals.items()}
    expected = score_track(
        [cut["bass"], cut["drums"]], [cut["bass_out"], cut["drums_out"]], names=("usdr",), sample_rate=RATE
    )
    found = scored(stems(track), ("usdr",), trim=True)
    assert [row["usdr"] for row in found] == pytest.approx([one["usdr"] for one in expected], rel=1e-5)


def test_a_second_run_reads_nothing(track, reads, tmp_path):
    first = scored(stems(track), journal=tmp_path / "j")
    assert sorted(reads) == sorted(path.name for path in track.values())
    assert scored(stems(track), journal=tmp_path / "j") == first
    assert len(reads) == 4


def test_references_are_read_once_for_all_models(track, reads):
    scored([*stems(track), *stems(track, model="n")], ("waveform_mse",))
    assert (reads.count("bass.wav"), reads.count("drums.wav")) == (1, 1)


def test_no_more_is_in_memory_than_metrics_need(track, reads):
    """A folder of many files may be one track."""
    pairs = [*stems(track), *stems(track, model="n")]
    for name in ("drums", "bass"):
        reads.clear()
        together = name == "bass"
        scored(pairs, [*OWN, *(WHOLE if together else ())])
        order = [name.removesuffix(".wav") for name in reads]
        expected = ["bass", "bass_out", "bass_out", "drums", "drums_out", "drums_out"]
        assert order == (["bass", "drums", *2 * ["bass_out", "drums_out"]] if together else expected)


def test_a_changed_file_of_the_track_or_setting_is_computed_anew(track, signals, reads, write_wav, tmp_path):
    journal = tmp_path / "j"
    before = scored(stems(track), ("si_sir",), journal=journal)
    write_wav("drums.wav", signals["drums"][::-1] + 0.5 * signals["bass"], RATE)
    after = scored(stems(track), ("si_sir",), journal=journal)
    assert after[0]["si_sir"] != before[0]["si_sir"]
    for options in ({"names": ("si_sar",)}, {"names": ("si_sir",), "trim": True}):
        reads.clear()
        scored(stems(track), journal=journal, **options)
        assert len(reads) == 4


def test_estimates_that_swap_references_are_computed_anew(track, tmp_path):
    def pairs(*references):
        files = zip(references, ("bass_out", "drums_out"), strict=True)
        swapped = [Pair(reference=track[r], estimate=track[e], model="m", track="t") for r, e in files]
        return stems(track, model="fixed") + swapped

    before = scored(pairs("drums", "bass"), ("waveform_mse",), journal=tmp_path / "j")
    after = scored(pairs("bass", "drums"), ("waveform_mse",), journal=tmp_path / "j")
    assert after[2]["waveform_mse"] == before[0]["waveform_mse"] != before[2]["waveform_mse"]


def test_failures_are_tried_again(track, tmp_path):
    track["drums_out"].write_bytes(b"RIFF")
    scored([*stems(track), *stems({**track, "drums_out": track["drums"]}, model="n")], journal=tmp_path / "j")
    lines = (tmp_path / "j").read_text().splitlines()
    assert len(lines) == 3  # all but that of the damaged file
    assert all(json.loads(line)["outcomes"][0]["reasons"] == [] for line in lines)


def test_a_track_with_an_unreadable_reference_is_tried_again(track, tmp_path):
    track["drums"].write_bytes(b"RIFF")
    assert scored(stems(track), ("waveform_mse", "si_sir"), journal=tmp_path / "j")[0]["status"] == "partial"
    assert not (tmp_path / "j").exists()


def test_what_a_metric_refuses_is_a_row_and_not_the_end(track, monkeypatch):
    def refuse(*args, **options):
        raise InputError("not like this")

    monkeypatch.setattr(mertric.waveform_scores, "score_track", refuse)
    rows = scored(stems(track))
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "not like this" in rows[0]["reason"]


@pytest.mark.parametrize("where", ["read_audio", "score_track"])
def test_a_track_for_which_there_is_no_memory_is_tried_again(track, monkeypatch, tmp_path, where):
    expected = scored(stems(track))

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(mertric.waveform_scores, where, fail)
        rows = scored(stems(track), journal=tmp_path / "run.jsonl")
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "memory ran out. Use shorter clips" in rows[0]["reason"]
    assert scored(stems(track), journal=tmp_path / "run.jsonl") == expected
