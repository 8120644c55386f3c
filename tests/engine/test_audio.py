from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from mertric.audio import from_array, mix, read_audio, to_mono
from mertric.errors import AudioError, InputError
from mertric.protocol import PROTOCOLS, get_protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]


def test_a_file_is_its_samples(write_wav: Callable[..., Path], sound: Sound) -> None:
    channels = np.stack([sound(1000, 1), sound(1000, 2)])
    audio = read_audio(write_wav("a.wav", channels, 44100))
    np.testing.assert_array_equal(audio.samples, channels)
    assert audio.samples.dtype == np.float32
    assert audio.sample_rate == 44100
    assert audio.seconds == pytest.approx(1000 / 44100)
    assert audio.name.endswith("a.wav")


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_of_any_kind(write_wav: Callable[..., Path], sound: Sound, channels: int, subtype: str) -> None:
    samples = np.stack([sound(500, seed) for seed in range(channels)])
    audio = read_audio(write_wav("a.wav", samples, subtype=subtype))
    np.testing.assert_allclose(audio.samples, samples, atol=2**-15)


@pytest.mark.parametrize(
    ("name", "kind", "subtype", "rate", "within"),
    [
        ("a.flac", "FLAC", "PCM_16", 44100, 2**-15),
        ("a.aiff", "AIFF", "PCM_16", 44100, 2**-15),
        ("a.au", "AU", "PCM_16", 44100, 2**-15),
        ("a.caf", "CAF", "PCM_24", 44100, 2**-15),
        ("a.w64", "W64", "PCM_16", 44100, 2**-15),
        ("a.rf64", "RF64", "PCM_16", 44100, 2**-15),
        ("a.ogg", "OGG", "VORBIS", 44100, 0.1),
        ("a.opus", "OGG", "OPUS", 48000, 0.1),
        ("a.mp3", "MP3", "MPEG_LAYER_III", 44100, 0.1),
    ],
)
def test_formats(tmp_path: Path, name: str, kind: str, subtype: str, rate: int, within: float) -> None:
    if kind not in soundfile.available_formats() or subtype not in soundfile.available_subtypes(kind):
        pytest.skip(f"libsndfile here cannot write {kind} {subtype}")
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(tmp_path / name, tone, rate, format=kind, subtype=subtype)
    audio = read_audio(tmp_path / name)
    assert audio.sample_rate == rate
    middle = slice(rate // 4, rate // 2)
    assert np.sqrt(np.mean((audio.samples[0, middle] - tone[middle]) ** 2)) < within


def test_reading_stops_at_max_seconds(write_wav: Callable[..., Path], sound: Sound) -> None:
    samples = sound(3000)
    path = write_wav("a.wav", samples, 1000)
    np.testing.assert_array_equal(read_audio(path, max_seconds=2).samples[0], samples[:2000])
    np.testing.assert_array_equal(read_audio(path, max_seconds=9).samples[0], samples)
    np.testing.assert_array_equal(from_array(samples, 1000, max_seconds=2).samples[0], samples[:2000])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_integers_have_full_scale_one(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    audio = from_array(np.array([limits.min, 0, limits.max // 2 + 1], dtype), 24000)
    np.testing.assert_array_equal(audio.samples, [[-1, 0, 0.5]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_is_taken_as_it_is(dtype: Any) -> None:
    samples = np.array([[-1.5, 0.25], [1, 0]], dtype)
    audio = from_array(samples, 24000.0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(audio.samples, samples)
    assert audio.samples.dtype == np.float32
    assert isinstance(audio.sample_rate, int)


def test_a_list_is_an_array() -> None:
    assert from_array([0.0, 0.5], 8000).samples.shape == (1, 2)


def test_an_array_is_not_changed(sound: Sound) -> None:
    samples = sound(2000)
    before = samples.copy()
    to_mono(from_array(samples, 24000), 24000, get_protocol("paper"))
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("channels", [1, 2, 9, 40])
def test_a_mix_is_the_same_in_pieces(channels: int) -> None:
    samples = np.random.default_rng(channels).standard_normal((channels, 999)).astype(np.float32)
    whole = mix(samples)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, samples.mean(axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([mix(piece) for piece in np.split(samples, 999, axis=1)]), whole)
    np.testing.assert_array_equal(mix(np.asfortranarray(samples)), whole)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(10), None, "pass sample_rate="),
        (np.zeros(10), 0, "sample_rate is 0; expected a positive whole number"),
        (np.zeros(10), -8000, "expected a positive whole number"),
        (np.zeros(10), 44100.5, "sample_rate is 44100.5; expected a positive whole number"),
        (np.zeros((1, 2, 3)), 8000, r"shape \(1, 2, 3\); expected \[samples\] or \[channels, samples\]"),
        (np.float32(1), 8000, r"shape \(\)"),
        (np.zeros((100, 2)), 8000, "more channels than samples.*Transpose it"),
        (np.zeros(10, np.uint8), 8000, "dtype uint8; expected floating point or signed integers"),
        (np.zeros(10, complex), 8000, "dtype complex128"),
        (np.zeros(10, bool), 8000, "dtype bool"),
        (np.array(["a", "b"]), 8000, "dtype <U1"),
        (np.zeros(0), 8000, "array holds no samples"),
        (np.zeros((2, 0)), 8000, "array holds no samples"),
        ([0.0, np.nan, np.inf, 1.0], 8000, "array holds 2 samples that are NaN or infinite"),
    ],
)
def test_what_is_no_audio_is_refused(samples: Any, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        from_array(samples, rate)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav does not exist; expected an audio file\. Check the path"):
        read_audio(tmp_path / "gone.wav")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder; expected an audio file"):
        read_audio(tmp_path)


@pytest.mark.parametrize(
    "name", ["notes.wav", "notes.flac", "notes.mp3", "notes.ogg", "notes.txt", "notes.raw", "notes"]
)
def test_a_text_file_is_not_decoded(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("These are notes, and no audio.\n" * 9)
    with pytest.raises(AudioError, match=r"notes.* \(279 bytes\) cannot be decoded.*re-encode it or leave it out"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.wav", "empty.flac", "empty.mp3", "empty.ogg"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(AudioError, match=r"empty.* \(0 bytes\) cannot be decoded"):
        read_audio(tmp_path / name)


def test_a_file_without_samples(write_wav: Callable[..., Path]) -> None:
    with pytest.raises(AudioError, match=r"none\.wav holds no samples\. Leave it out, or render it again"):
        read_audio(write_wav("none.wav", np.zeros(0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(write_wav: Callable[..., Path], bad: float) -> None:
    with pytest.raises(AudioError, match=r"bad\.wav holds 1 samples that are NaN or infinite.*Render it again"):
        read_audio(write_wav("bad.wav", [0, bad, 0.5]))


def test_mono_is_the_mean_of_the_channels() -> None:
    audio = from_array([[0.5, -0.5, 1.0], [0.25, 0.5, -1.0]], 24000)
    np.testing.assert_array_equal(to_mono(audio, 24000, get_protocol("float")), [0.375, 0.0, 0.0])


def test_sixteen_bits_hold_what_pcm_holds() -> None:
    samples = np.array([0.4 / 32768, 0.6 / 32768, -0.6 / 32768, 0.25, 1.0, 2.0, -1.0, -2.0], np.float32)
    expected = np.array([0, 1, -1, 8192, 32767, 32767, -32768, -32768]) / 32768
    np.testing.assert_array_equal(PROTOCOLS["paper"].prepare(samples), expected)
    assert PROTOCOLS["float"].prepare(samples) is samples


def test_protocols_round_embeddings() -> None:
    hidden = np.array([[1 / 3]], np.float32)
    assert PROTOCOLS["paper"].finish(hidden).dtype == np.float16
    assert PROTOCOLS["float"].finish(hidden) is hidden
    assert (PROTOCOLS["paper"].max_seconds, PROTOCOLS["float"].max_seconds) == (360, None)


def test_an_unknown_protocol() -> None:
    with pytest.raises(InputError, match="protocol 'Paper' is not known; expected one of paper, float"):
        get_protocol("Paper")
