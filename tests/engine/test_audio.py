from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric import audio as audio_module
from mertric.audio import from_array, mix, to_mono
from mertric.errors import AudioError, InputError
from mertric.protocol import PROTOCOLS, get_protocol
from mertric.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]


@pytest.mark.parametrize(("scale", "protocol", "warned"), [(5, "paper", 1), (1.5, "paper", 0), (5, "float", 0)])
def test_audio_of_another_scale_is_warned_of(sound: Sound, scale: float, protocol: str, warned: int) -> None:
    """A little over full scale is usual."""
    samples = sound(9000)
    audio = from_array(scale * samples / np.abs(samples).max(), 24000, name="loud.wav")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_mono(audio, 24000, PROTOCOLS[protocol])
    assert len(caught) == warned
    assert all("loud.wav peaks at 5 times full scale, and protocol paper cuts" in str(one.message) for one in caught)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, ">i2"])
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


def test_an_array_is_cut(sound: Sound) -> None:
    samples = sound(3000)
    np.testing.assert_array_equal(from_array(samples, 1000, max_seconds=2).samples[0], samples[:2000])


def test_a_cut_at_the_end_of_a_sample_keeps_it() -> None:
    audio = from_array(np.zeros(2000), 44100)
    for samples in range(2000):
        assert audio.cut(samples / 44100).samples.shape == (1, samples)


def test_a_list_is_an_array() -> None:
    assert from_array([0.0, 0.5], 8000).samples.shape == (1, 2)
    channels = [np.array([16384, 0], np.int16), np.array([0, -32768], np.int16)]
    np.testing.assert_array_equal(from_array(channels, 8000).samples, [[0.5, 0], [0, -1]])


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
        (np.zeros(10), "8000", "sample_rate is '8000'; expected a positive whole number"),
        (np.zeros(10), -8000, "expected a positive whole number"),
        (np.zeros(10), 44100.5, "sample_rate is 44100.5; expected a positive whole number"),
        (np.zeros((1, 2, 3)), 8000, r"shape \(1, 2, 3\); expected \[samples\] or \[channels, samples\]"),
        (np.float32(1), 8000, r"shape \(\)"),
        (np.zeros((100, 2)), 8000, "more channels than samples.*Transpose it"),
        (np.zeros(10, np.uint8), 8000, "dtype uint8; expected floating point at full scale 1"),
        (
            np.arange(10, dtype=np.int64),
            8000,
            "dtype int64; .* int8, int16 or int32. Convert it to one of these, or divide by",
        ),
        ([3000, -3000], 8000, "dtype int, Python's; expected"),
        (np.zeros(10, complex), 8000, "dtype complex128"),
        (np.zeros(10, bool), 8000, "dtype bool"),
        (np.array(["a", "b"]), 8000, "dtype <U1"),
        (np.zeros(0), 8000, "array holds no samples"),
        (np.zeros((2, 0)), 8000, "array holds no samples"),
        ([0.0, np.nan, np.inf, 1.0], 8000, "array holds 2 samples that are NaN, infinite"),
        ([3e38, 0.0], 8000, r"array holds 1 samples that are NaN, infinite or beyond 1e\+30; expected none"),
        (np.ma.masked_equal([0.5, 0.25], 0.25), 8000, "array has masked samples; expected all of them"),
    ],
)
def test_what_is_no_audio_is_refused(samples: Any, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        from_array(samples, rate)


def test_mono_is_the_mean_of_the_channels() -> None:
    audio = from_array([[0.5, -0.5, 1.0], [0.25, 0.5, -1.0]], 24000)
    np.testing.assert_array_equal(to_mono(audio, 24000, get_protocol("float")), [0.375, 0.0, 0.0])


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
@pytest.mark.parametrize("protocol", ["paper", "float"])
def test_mono_is_to_the_bit_what_it_is_in_a_whole(
    monkeypatch: pytest.MonkeyPatch, sound: Sound, rate: int, protocol: str
) -> None:
    channels = np.stack([sound(30000, 1), sound(30000, 2)])
    expected = PROTOCOLS[protocol].prepare(resample(mix(channels), rate, 24000))
    monkeypatch.setattr(audio_module, "_BLOCK", 777)
    np.testing.assert_array_equal(to_mono(from_array(channels, rate), 24000, PROTOCOLS[protocol]), expected)


def test_mono_samples_that_need_nothing_done_are_not_copied(sound: Sound) -> None:
    samples, exact = sound(3000), get_protocol("float")
    samples.flags.writeable = False
    assert np.shares_memory(to_mono(from_array(samples, 24000), 24000, exact), samples)
    for rate, protocol in ((24000, "paper"), (44100, "float")):
        assert not np.shares_memory(to_mono(from_array(samples, rate), 24000, get_protocol(protocol)), samples)
    every_other = to_mono(from_array(samples[::-2], 24000), 24000, exact)
    assert every_other.flags.c_contiguous
    np.testing.assert_array_equal(every_other, samples[::-2])


def test_a_rate_that_no_audio_has() -> None:
    audio = from_array(np.ones(9, np.float32), 2**31 - 1)
    with pytest.raises(AudioError, match=r"array has a sample rate of 2147483647 Hz; expected at most 768000\. If its"):
        to_mono(audio, 24000, get_protocol("float"))


def test_sixteen_bits_hold_what_pcm_holds() -> None:
    samples = np.array([0.4 / 32768, 0.6 / 32768, -0.6 / 32768, 0.25, 1.0, 2.0, -1.0, -2.0], np.float32)
    expected = np.array([0, 1, -1, 8192, 32767, 32767, -32768, -32768]) / 32768
    np.testing.assert_array_equal(PROTOCOLS["paper"].prepare(samples), expected)
    assert PROTOCOLS["float"].prepare(samples) is samples
    loudest = np.array([3e38, -3e38], np.float32)
    np.testing.assert_array_equal(PROTOCOLS["paper"].prepare(loudest), [32767 / 32768, -1])


def test_protocols_round_embeddings() -> None:
    hidden = np.array([[1 / 3]], np.float32)
    assert PROTOCOLS["paper"].finish(hidden).dtype == np.float16
    assert PROTOCOLS["float"].finish(hidden) is hidden
    assert (PROTOCOLS["paper"].max_seconds, PROTOCOLS["float"].max_seconds) == (360, None)


def test_an_unknown_protocol() -> None:
    with pytest.raises(InputError, match="protocol 'Paper' is not known; expected one of paper, float"):
        get_protocol("Paper")
