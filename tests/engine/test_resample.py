from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import i0

from mertric.errors import InputError
from mertric.resample import Resampler, _filters, _large_filters, _usual_filters, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of Bereuter & Sontacchi (2026), as they call torchaudio.
LOWPASS_FILTER_WIDTH, ROLLOFF, BETA = 64, 0.9475937167399596, 14.769656459379492
RATES = [8000, 11025, 12000, 16000, 22050, 32000, 37800, 44100, 48000, 88200, 96000, 176400, 192000]


def interpolated(samples: NDArray[np.float32], source: int, target: int) -> NDArray[np.float64]:
    """Windowed-sinc interpolation by its definition in torchaudio's documentation, in float64, sample by sample.

    Each output at time t is the sum of the input weighted by sinc(x) kaiser(x) cutoff, with x the distance in
    periods of the cutoff frequency, which is the lower rate times the rolloff.
    """
    cutoff = min(source, target) * ROLLOFF
    times = np.arange(-(-samples.size * target // source)) / target
    distance = (times[:, None] - np.arange(samples.size) / source) * cutoff
    inside = np.abs(distance) < LOWPASS_FILTER_WIDTH
    part = np.where(inside, distance / LOWPASS_FILTER_WIDTH, 1)
    window = np.where(inside, i0(BETA * np.sqrt(1 - part**2)) / i0(BETA), 0)
    weights = np.sinc(distance) * window * cutoff / source
    return np.asarray(weights @ samples.astype(np.float64))


@pytest.mark.parametrize("source", RATES)
def test_torchaudios_formula(source: int) -> None:
    samples = np.random.default_rng(source).uniform(-1, 1, 1501).astype(np.float32)
    output = resample(samples, source, 24000)
    expected = interpolated(samples, source, 24000)
    assert output.dtype == np.float32
    assert output.shape == expected.shape
    # torchaudio cuts the taps of each phase at a width it rounds up; the Kaiser window there is below 1e-6.
    np.testing.assert_allclose(output, expected, atol=3e-6)


@given(
    st.integers(1, 2000),
    st.sampled_from([(44100, 24000), (8000, 24000), (48000, 24000), (3, 2), (2, 3), (24000, 44100), (7, 1)]),
)
@settings(max_examples=25, deadline=None)
def test_any_length(count: int, rates: tuple[int, int]) -> None:
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    output = resample(samples, *rates)
    assert output.size == math.ceil(count * rates[1] / rates[0])
    np.testing.assert_allclose(output, interpolated(samples, *rates), atol=3e-6)


@pytest.mark.parametrize("source", [16000, 44100, 48000, 96000])
def test_a_tone_stays_the_tone(source: int) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(source) / source).astype(np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(24000) / 24000)
    np.testing.assert_allclose(resample(tone, source, 24000)[400:-400], expected[400:-400], atol=1e-5)


def test_what_the_target_cannot_hold_vanishes() -> None:
    tone = np.sin(2 * np.pi * 15000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(resample(tone, 48000, 24000)[400:-400]).max() < 1e-5


@given(
    st.sampled_from([*RATES, 24000, 44101]),
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 700), st.integers(0, 50000)), min_size=1, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_pieces_of_any_sizes_give_the_whole_to_the_bit(rate: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(rate).uniform(-1, 1, sum(sizes)).astype(np.float32)
    resampler = Resampler(rate, 24000)
    pieces = [resampler.push(piece) for piece in np.split(samples, np.cumsum(sizes[:-1]))]
    output = np.concatenate([*pieces, resampler.finish()])
    np.testing.assert_array_equal(output, resample(samples, rate, 24000))


def test_pieces_come_soon_and_leave_nothing_behind() -> None:
    """An output waits for its filter's half width and for its block, and what was given is let go."""
    resampler = Resampler(44100, 24000)
    given = made = 0
    for _ in range(300):
        made += resampler.push(np.ones(441, np.float32)).size
        given += 441
        assert given / 44100 - made / 24000 < 0.01
    assert resampler._samples.size < 5000


@pytest.mark.parametrize("source", [44101, 7919])
def test_rates_without_a_common_factor(source: int) -> None:
    """Their filters have as many phases as the target rate; they are built in groups."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(source // 4) / source).astype(np.float32)
    output = resample(tone, source, 24000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(output.size) / 24000)
    np.testing.assert_allclose(output[600:-600], expected[600:-600], atol=1e-5)
    assert max(group.taps.size for group in _filters(source, 24000)) < 160 * 1000


def test_of_filters_that_take_much_only_the_last_are_kept() -> None:
    silence = np.zeros(10, np.float32)
    rates = [44100, 48000, 32000, 96000, 44101, 47999]
    for rate in rates:
        resample(silence, rate, 24000)
    made = _usual_filters.cache_info().misses
    for rate in rates[:4]:
        resample(silence, rate, 24000)
    assert _usual_filters.cache_info().misses == made
    assert _large_filters.cache_info().currsize == 1
    assert sum(group.taps.nbytes for group in _filters(44100 // 300, 24000 // 300)) < 4 << 20


def test_the_same_rate_changes_nothing() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    np.testing.assert_array_equal(resample(samples, 24000, 24000), samples)
    assert resample(np.zeros(0, np.float32), 44100, 24000).size == 0


@pytest.mark.parametrize(
    ("samples", "rates", "message"),
    [
        (np.zeros((2, 9)), (8000, 24000), r"one dimension, got shape \(2, 9\)\. Average channels first"),
        (np.zeros(9, complex), (8000, 24000), "resample takes real samples, got complex128"),
        (np.zeros(9), ("8000", 24000), "at most 768000, got '8000'"),
        (np.zeros(9), (float("nan"), 24000), "at most 768000, got nan"),
        (np.zeros(9), (np.array([8000, 8000]), 24000), "at most 768000, got array"),
        (np.zeros(9), (np.array([8000]), 24000), "at most 768000, got array"),
        (np.zeros(9), (True, 24000), "at most 768000, got True"),
        (np.zeros(9), (10**400, 24000), "at most 768000, got 1000"),
        (np.zeros(9), (0, 24000), "a sample rate must be a positive integer in Hz, at most 768000, got 0"),
        (np.zeros(9), (8000, 24000.5), "got 24000.5"),
        (np.zeros(9), (float("nan"), 24000), "got nan"),
    ],
)
def test_what_cannot_be_resampled(samples: Any, rates: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resample(samples, *rates)
