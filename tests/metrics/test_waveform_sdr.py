"""SDR with a 512-tap filter against a time-domain least squares, published values and fast-bss-eval."""

from __future__ import annotations

import gensvs_excerpts
import numpy as np
import pytest
from scipy import signal

from mertric.errors import InputError
from mertric.metrics.sdr import sdr, usdr
from mertric.metrics.waveform import UndefinedMetricError

PUBLISHED = {  # the column sdr of gensvs_eval_data.csv, where the audio at hand is what was evaluated
    ("melroformer_small", 1): 8.057429202415477,
    ("melroformer_small", 12): 14.937710027938136,
}


def pair(seed: int, samples: int, level: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A coloured reference, and an estimate that is filtered and noisy."""
    rng = np.random.default_rng(seed)
    reference = signal.lfilter([1], [1, -0.9], rng.standard_normal(samples))
    filtered = signal.lfilter([0.8, 0.3, -0.2], [1, 0.4], reference)
    return reference, filtered + level * rng.standard_normal(samples)


def oracle(reference: np.ndarray, estimate: np.ndarray, taps: int) -> float:
    """Least squares on the samples themselves, by singular values."""
    delayed = np.zeros((len(reference) + taps - 1, taps))
    for lag in range(taps):
        delayed[lag : lag + len(reference), lag] = reference
    target = np.concatenate([estimate, np.zeros(taps - 1)])
    projection = delayed @ np.linalg.lstsq(delayed, target, rcond=None)[0]
    return 10 * np.log10(np.sum(projection**2) / np.sum((target - projection) ** 2))


@pytest.mark.parametrize("shape", [(40_000,), (2, 40_000)])
def test_of_a_whole_recording(shape: tuple[int, ...]):
    """Sums over channels, and not a mean of decibels; nothing is forgiven."""
    rng = np.random.default_rng(3)
    reference = rng.standard_normal(shape)
    reference[0] *= 0.01
    estimate = reference + 0.1 * rng.standard_normal(shape)
    expected = 10 * np.log10(np.sum(reference**2) / np.sum((estimate - reference) ** 2))
    assert usdr(reference, estimate) == pytest.approx(expected, rel=1e-12)
    assert usdr(reference, 0.5 * reference) == pytest.approx(20 * np.log10(2), rel=1e-12)
    assert usdr(reference, -reference) == pytest.approx(-20 * np.log10(2), rel=1e-12)
    assert usdr(reference, reference) == np.inf
    assert usdr(reference, 0 * reference) == pytest.approx(0, abs=1e-12)


def test_one_silent_channel_has_a_value_in_the_sum():
    reference, estimate = np.zeros((2, 100)), np.full((2, 100), 0.1)
    reference[0] = 1
    assert usdr(reference, estimate) == pytest.approx(10 * np.log10(100 / (81 + 1)))
    with pytest.raises(UndefinedMetricError, match="the reference is silent"):
        usdr(0 * reference, estimate)


@pytest.mark.parametrize(("samples", "taps"), [(50, 1), (50, 80), (2000, 16), (20_000, 64), (3000, 512)])
def test_least_squares(samples: int, taps: int):
    reference, estimate = pair(samples, samples)
    assert sdr(reference, estimate, taps=taps) == pytest.approx(oracle(reference, estimate, taps), abs=1e-9)


def test_a_long_waveform_in_blocks(monkeypatch: pytest.MonkeyPatch):
    reference, estimate = pair(0, 9001)
    expected = sdr(reference, estimate, taps=32)
    monkeypatch.setattr("mertric.metrics.distortion.FFT_SIZE", 256)
    monkeypatch.setattr("mertric.metrics.distortion.BLOCKS_AT_ONCE", 3)
    assert sdr(reference, estimate, taps=32) == pytest.approx(expected, abs=1e-9)
    assert expected == pytest.approx(oracle(reference, estimate, 32), abs=1e-9)


def test_one_tap_is_scale_invariant_sdr():
    time = np.arange(8000) / 8000
    reference = np.sin(2 * np.pi * 440 * time)
    estimate = 0.5 * reference + 0.05 * np.sin(2 * np.pi * 1000 * time)
    assert sdr(reference, estimate, taps=1) == pytest.approx(20, abs=1e-9)


def test_channels_are_averaged_in_decibels():
    first, second = pair(1, 3000, 0.1), pair(2, 3000, 1.0)
    expected = np.mean([sdr(*first), sdr(*second)])
    assert sdr(np.stack([first[0], second[0]]), np.stack([first[1], second[1]])) == pytest.approx(expected)


def test_float32_and_float64_agree():
    reference, estimate = (array.astype(np.float32) for array in pair(3, 5000))
    assert sdr(reference, estimate) == sdr(reference.astype(float), estimate.astype(float))


def test_perfect_estimates_are_infinite():
    reference, _ = pair(4, 5000)
    assert sdr(reference, reference) == np.inf
    assert sdr(reference, -0.01 * reference) == np.inf
    reference[-100:] = 0
    assert sdr(reference, signal.lfilter([0.5, 0, 0.2, -0.1], [1], reference)) == np.inf


def test_high_ratios_keep_their_digits():
    reference, _ = pair(5, 20_000)
    error = np.random.default_rng(6).standard_normal(20_000)
    scaled = [sdr(reference, reference + level * error) for level in (1e-3, 1e-7)]
    assert scaled[1] - scaled[0] == pytest.approx(80, abs=1e-3)


def test_a_reference_without_a_spectrum_to_divide_by():
    """A tone: the normal equations have rank 2 of 512 before its ends count, and Cholesky fails."""
    time = np.arange(6000)
    reference = np.sin(0.05 * time) * np.hanning(6000) ** 4
    estimate = np.sin(0.05 * time + 1) * np.hanning(6000) ** 4
    estimate += 0.01 * np.random.default_rng(7).standard_normal(6000)
    assert sdr(reference, estimate, taps=64) == pytest.approx(oracle(reference, estimate, 64), abs=1e-2)


def test_an_estimate_of_another_time_has_no_projection():
    reference, estimate = np.zeros(4000), np.zeros(4000)
    reference[3000:], estimate[:1000] = 1, 1
    assert sdr(reference, estimate) < -200


def test_undefined():
    reference, estimate = pair(8, 1000)
    with pytest.raises(UndefinedMetricError, match="the reference is silent"):
        sdr(0 * reference, estimate)
    with pytest.raises(UndefinedMetricError, match="the estimate is silent"):
        sdr(reference, 0 * estimate)


def test_malformed():
    reference, estimate = pair(9, 1000)
    with pytest.raises(InputError, match="the distortion filter has 0 taps; expected at least 1"):
        sdr(reference, estimate, taps=0)
    with pytest.raises(InputError, match="1000 samples and the estimate 1 channel of 999 samples"):
        sdr(reference, estimate[1:])


@pytest.mark.parametrize(("model", "excerpt"), PUBLISHED)
def test_published_values(model: str, excerpt: int):
    assert sdr(*gensvs_excerpts.pair(model, excerpt)) == pytest.approx(PUBLISHED[model, excerpt], abs=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("excerpt", gensvs_excerpts.EXCERPTS)
@pytest.mark.parametrize("model", gensvs_excerpts.MODELS)
def test_fast_bss_eval_on_real_audio(model: str, excerpt: int):
    fast_bss_eval = pytest.importorskip("fast_bss_eval")
    reference, estimate = gensvs_excerpts.pair(model, excerpt)
    expected = fast_bss_eval.sdr(reference[None], estimate[None], filter_length=512)
    assert sdr(reference, estimate) == pytest.approx(float(expected[0]), abs=1e-3)


@pytest.mark.oracle
def test_fast_bss_eval_on_noise():
    fast_bss_eval = pytest.importorskip("fast_bss_eval")
    for seed, level in enumerate((0.01, 0.1, 1.0, 10.0)):
        reference, estimate = pair(seed, 30_000, level)
        expected = fast_bss_eval.sdr(reference[None], estimate[None], filter_length=512)
        assert sdr(reference, estimate) == pytest.approx(float(expected[0]), abs=1e-4)
