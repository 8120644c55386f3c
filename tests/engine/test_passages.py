"""Passages of a clip: `mertric.score_passages` and the command."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mertric
from mertric.cli.passages import _clock
from mertric.errors import InputError
from mertric.scoring import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from mertric.encoder import Encoder

    Sound = Callable[..., NDArray[np.float32]]
    WriteWav = Callable[..., Path]
    Run = Callable[..., tuple[int, str, str]]
    Clips = tuple[NDArray[np.float32], NDArray[np.float32]]

RATE = 24000


@pytest.fixture
def clips(sound: Sound) -> Clips:
    """A clip of 2 s, and one that is noisy from 1.2 to 1.5 s."""
    reference = sound(2 * RATE, 1)
    estimate = reference.copy()
    estimate[28800:36000] += 0.3 * sound(7200, 2)
    return reference, estimate


def test_the_noisy_passage_is_the_worst(encoder: Encoder, clips: Clips) -> None:
    found = mertric.score_passages(*clips, encoder=encoder, sample_rate=RATE, seconds=0.3)
    assert all(isinstance(one, mertric.Passage) for one in found)
    for worst in (max(found, key=lambda one: one.mse), max(found, key=lambda one: one.fad)):
        assert worst.start < 1.5
        assert worst.end > 1.2


@pytest.mark.parametrize("protocol", ["paper", "float"])
@pytest.mark.parametrize("layer", [None, 1])
def test_values_are_the_metrics_of_ranges_of_frames(
    encoder: Encoder, clips: Clips, protocol: str, layer: int | None
) -> None:
    found = mertric.score_passages(
        *clips, encoder=encoder, sample_rate=RATE, seconds=0.4, hop=0.2, protocol=protocol, layer=layer
    )
    layers = None if layer is None else [layer]
    x, y = (
        encoder.embed(clip, sample_rate=RATE, layers=layers, protocol=protocol)
        .hidden[0]
        .astype(np.float16 if protocol == "paper" else np.float32)
        for clip in clips
    )
    assert len(x) == 149
    starts = [0, 15, 30, 45, 60, 75, 90, 105, 119]  # the last one ends with frame 148
    assert len(found) == len(starts)
    for one, start in zip(found, starts, strict=True):
        assert one.start == pytest.approx(start * 320 / RATE)
        assert one.end == pytest.approx(((start + 29) * 320 + 400) / RATE)
        assert one.mse == pytest.approx(mertric.embedding_mse(x[start : start + 30], y[start : start + 30]), rel=1e-12)
        assert one.fad == pytest.approx(mertric.frechet_distance(x[start : start + 30], y[start : start + 30]))


def test_passages_that_fit_exactly_come_once(encoder: Encoder, sound: Sound) -> None:
    clip = sound(400 + 59 * 320)
    found = mertric.score_passages(clip, clip, encoder=encoder, sample_rate=RATE, seconds=30 / 75)
    assert [one.start for one in found] == [0, 0.4]
    assert found[-1].end == pytest.approx(clip.size / RATE)


def test_a_clip_shorter_than_a_passage_is_one(encoder: Encoder, clips: Clips) -> None:
    (one,) = mertric.score_passages(*clips, encoder=encoder, sample_rate=RATE)
    score = mertric.score(*clips, encoder=encoder, sample_rate=RATE)
    assert one.start == 0
    assert one.mse == pytest.approx(score.mse, rel=1e-12)
    assert one.fad == pytest.approx(score.fad, rel=1e-6)


def test_a_passage_has_two_frames_and_a_hop_one(encoder: Encoder, sound: Sound) -> None:
    clip = sound(400 + 4 * 320)
    found = mertric.score_passages(clip, clip, encoder=encoder, sample_rate=RATE, seconds=1e-6, hop=1e-6)
    assert [round(one.start * 75) for one in found] == [0, 1, 2, 3]
    assert all(one.mse == one.fad == 0 for one in found)


def test_lengths_far_beyond_the_clip(encoder: Encoder, clips: Clips) -> None:
    (one,) = mertric.score_passages(*clips, encoder=encoder, sample_rate=RATE, seconds=1e308)
    assert one.mse == mertric.score_passages(*clips, encoder=encoder, sample_rate=RATE, hop=1e308)[0].mse


def test_silence_is_said(encoder: Encoder, sound: Sound) -> None:
    silence = np.zeros(RATE, np.float32)
    for pair, silent in (((silence, sound(RATE)), ("reference",)), ((silence, silence), ("reference", "estimate"))):
        found = mertric.score_passages(*pair, encoder=encoder, sample_rate=RATE, seconds=0.5)
        assert {(one.silent, one.layer) for one in found} == {(silent, encoder.layers)}


def test_references_are_found_again(encoder: Encoder, clips: Clips) -> None:
    kept = mertric.References(encoder)
    first = mertric.score_passages(*clips, references=kept, sample_rate=RATE)
    assert mertric.score_passages(*clips, references=kept, sample_rate=RATE) == first


@pytest.mark.parametrize("name", ["seconds", "hop"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", np.array([5.0])])
def test_lengths_that_cannot_be(encoder: Encoder, sound: Sound, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name} is {re.escape(repr(value))}; expected a finite number above 0"):
        mertric.score_passages(sound(), sound(), encoder=encoder, sample_rate=RATE, **{name: value})


def test_the_command(
    run: Run,
    bundle: Path,
    encoder: Encoder,
    clips: Clips,
    write_wav: WriteWav,
    tmp_path: Path,
) -> None:
    files = [write_wav(f"{name}.wav", clip) for name, clip in zip("xy", clips, strict=True)]
    options = ("--seconds", "0.5", "--hop", "0.25", "--layer", "2", "--model", bundle)
    code, out, _ = run("passages", *files, *options, "--csv", tmp_path / "rows.csv", "--json", tmp_path / "rows.json")
    assert code == 0
    expected = mertric.score_passages(*files, encoder=encoder, seconds=0.5, hop=0.25, layer=2)
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert [(row["start"], row["end"], row["mert_mse"], row["mert_fad"]) for row in rows] == [
        (one.start, one.end, one.mse, one.fad) for one in expected
    ]
    assert {row["settings"] for row in rows} == {describe(encoder, protocol="paper")}
    assert {(row["reference"], row["estimate"], row["layer"]) for row in rows} == {(*map(str, files), 2)}
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        assert [float(row["mert_fad"]) for row in csv.DictReader(file)] == [one.fad for one in expected]
    worst = max(expected, key=lambda one: one.mse)
    assert f"Worst by mert_mse: {_clock(worst.start)} to {_clock(worst.end)}." in out
    assert "The weights are untrained" in out


@pytest.mark.parametrize(("options", "said"), [(("--seconds", "0"), "--seconds"), (("--layer", "99"), "from 0 to")])
def test_the_command_refuses(
    run: Run, bundle: Path, sound: Sound, write_wav: WriteWav, options: tuple[str, str], said: str
) -> None:
    file = write_wav("x.wav", sound())
    code, _, err = run("passages", file, file, *options, "--model", bundle)
    assert code == 2
    assert said in err


def test_the_command_says_silence(run: Run, bundle: Path, sound: Sound, write_wav: WriteWav) -> None:
    files = write_wav("x.wav", sound(9000)), write_wav("y.wav", np.zeros(9000, np.float32))
    code, out, _ = run("passages", *files, "--model", bundle)
    assert code == 0
    assert "All of the estimate is silence." in out


def test_files_of_other_lengths_are_refused(run: Run, bundle: Path, sound: Sound, write_wav: WriteWav) -> None:
    code, _, err = run("passages", write_wav("x.wav", sound(9000)), write_wav("y.wav", sound(8000)), "--model", bundle)
    assert code == 2
    assert "the reference has 27 frames and the estimate 24" in err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (59.94, "0:59.9"), (59.96, "1:00.0"), (125.25, "2:05.2"), (3600, "60:00.0")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert _clock(seconds) == shown


def test_the_command_names_the_worst_by_each_metric(
    run: Run, bundle: Path, sound: Sound, write_wav: WriteWav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        mertric.Passage(start=0, end=5, mse=0.5, fad=1, layer=4, silent=("reference", "estimate")),
        mertric.Passage(start=60, end=65, mse=0.25, fad=2, layer=4, silent=("reference", "estimate")),
    ]
    monkeypatch.setattr("mertric.passages.score_passages", lambda *_, **__: found)
    file = write_wav("x.wav", sound())
    code, out, _ = run("passages", file, file, "--model", bundle, "--json", tmp_path / "rows.json")
    assert code == 0
    assert "Worst by mert_mse: 0:00.0 to 0:05.0." in out
    assert "Worst by mert_fad: 1:00.0 to 1:05.0." in out
    assert "All of the reference and the estimate is silence." in out
    assert {row["silent"] for row in json.loads((tmp_path / "rows.json").read_text())} == {"reference and estimate"}


def test_what_the_command_is_told_is_what_is_computed(
    run: Run, bundle: Path, clips: Clips, write_wav: WriteWav, tmp_path: Path
) -> None:
    files = [write_wav(f"{name}.wav", clip) for name, clip in zip("xy", clips, strict=True)]
    options = ("--protocol", "float", "--provider", "cpu", "--threads", 1)
    code, _, _ = run("passages", *files, *options, "--model", bundle, "--json", tmp_path / "rows.json")
    assert code == 0
    encoder = mertric.load(bundle, provider="cpu", threads=1)
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    for protocol in ("float", "paper"):
        expected = mertric.score_passages(*files, encoder=encoder, protocol=protocol)
        same = [row["mert_mse"] for row in rows] == [one.mse for one in expected]
        assert same == (protocol == "float")
    assert {row["settings"] for row in rows} == {describe(encoder, protocol="float")}


def test_lengths_are_rounded_to_whole_frames(encoder: Encoder, sound: Sound) -> None:
    """0.25 s are 18.75 frames, and 0.09 s are 6.75."""
    clip = sound(RATE)
    first, second, *_ = mertric.score_passages(clip, clip, encoder=encoder, sample_rate=RATE, seconds=0.25, hop=0.09)
    assert first.end == pytest.approx((18 * 320 + 400) / RATE)
    assert second.start == pytest.approx(7 * 320 / RATE)
