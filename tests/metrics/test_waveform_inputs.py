"""Checks of waveforms, decibels, waveform and spectrogram MSE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mertric.errors import InputError
from mertric.metrics.scale_invariant import si_sdr
from mertric.metrics.sdr import sdr, usdr
from mertric.metrics.spectrogram import spectrogram_mse
from mertric.metrics.waveform import (
    LARGEST,
    UndefinedMetricError,
    check_sounding,
    check_sources,
    check_track,
    decibels,
    waveform_mse,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def noise(seed: int, *shape: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("metric", [sdr, si_sdr, waveform_mse, spectrogram_mse])
def test_magnitudes_whose_energies_float64_does_not_have(metric: Callable[..., float]):
    x, y = noise(0, 2000), noise(1, 2000)
    for scale in (1e-70, 1e70):
        assert np.isfinite(metric(scale * x, scale * (x + y)))
    with pytest.raises(InputError, match=r"estimate holds samples of .*e\+199, whose energies are beyond float64"):
        metric(x, 1e200 * y)
    if metric in (sdr, si_sdr):
        with pytest.raises(UndefinedMetricError, match="the reference is silent"):
            metric(1e-200 * x, y)


def test_what_is_no_waveform():
    x = noise(0, 100)
    masked = np.ma.masked_less(x, 0)
    with pytest.raises(InputError, match="the estimate has masked samples"):
        waveform_mse(x, masked)
    assert waveform_mse(x, np.ma.array(x)) == 0
    for metric in (sdr, si_sdr, waveform_mse):
        with pytest.raises(InputError, match=r"shape \(100, 2\), more channels than samples.*transpose"):
            metric(noise(2, 100, 2), noise(3, 100, 2))
    with pytest.raises(InputError, match=r"the reference is no array of numbers \(.*\); expected \[samples\]"):
        waveform_mse([[1.0, 2.0], [3.0]], x)


@pytest.mark.parametrize("options", [{"window": 0}, {"window": -8}, {"hop": 0}, {"hop": -5}])
def test_spectrograms_that_cannot_be(options: dict[str, int]):
    ((name, size),) = options.items()
    with pytest.raises(InputError, match=f"the {name} is {size} samples; expected at least 1"):
        spectrogram_mse(noise(0, 1000), noise(1, 1000), **options)


def test_decibels():
    values = decibels([1.0, 1.0, 0.0, 0.0, 1.0, 1.0], [0.1, 0.0, 1.0, 0.0, 1e-19, 1e-21])
    np.testing.assert_allclose(values, [10, np.inf, -np.inf, np.inf, 190, np.inf])


def test_waveform_mse_of_an_offset():
    reference = noise(0, 2, 1000)
    assert waveform_mse(reference, reference) == 0
    assert waveform_mse(reference, reference + 0.5) == pytest.approx(0.25, rel=1e-14)
    assert waveform_mse(np.zeros(10), np.zeros(10)) == 0


def test_waveform_mse_is_float64_for_float32_waveforms():
    reference, estimate = noise(1, 2, 5000).astype(np.float32), noise(2, 2, 5000).astype(np.float32)
    expected = np.mean((estimate.astype(np.float64) - reference) ** 2)
    assert waveform_mse(reference, estimate) == pytest.approx(expected, rel=1e-14)


def spectrogram_oracle(reference: np.ndarray, estimate: np.ndarray) -> float:
    """The definition, spelled out with a DFT matrix."""
    hann = np.sin(np.pi * np.arange(512) / 512) ** 2
    dft = np.exp(-2j * np.pi * np.outer(np.arange(512), np.arange(257)) / 512)
    magnitudes = []
    for waveform in (reference, estimate):
        padded = np.concatenate([waveform[256:0:-1], waveform, waveform[-2:-258:-1]])
        frames = [padded[start : start + 512] * hann for start in range(0, len(padded) - 511, 256)]
        magnitudes.append(np.abs(np.array(frames) @ dft))
    return float(np.mean((magnitudes[0] - magnitudes[1]) ** 2))


@pytest.mark.parametrize("samples", [257, 512, 1000, 5120])
def test_spectrogram_mse_is_its_definition(samples: int):
    reference, estimate = noise(3, samples), noise(4, samples)
    assert spectrogram_mse(reference, estimate) == pytest.approx(spectrogram_oracle(reference, estimate), rel=1e-12)


def test_spectrogram_mse_averages_channels(monkeypatch: pytest.MonkeyPatch):
    reference, estimate = noise(5, 2, 4000), noise(6, 2, 4000)
    expected = np.mean([spectrogram_oracle(a, b) for a, b in zip(reference, estimate, strict=True)])
    assert spectrogram_mse(reference, estimate) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr("mertric.metrics.spectrogram.FRAMES_AT_ONCE", 3)
    assert spectrogram_mse(reference, estimate) == pytest.approx(expected, rel=1e-12)


def test_spectrogram_mse_ignores_the_sign():
    reference = noise(7, 3000)
    assert spectrogram_mse(reference, -reference) == 0


@pytest.mark.oracle
def test_spectrogram_mse_against_torch():
    torch = pytest.importorskip("torch")
    reference, estimate = noise(8, 2, 10_000), noise(9, 2, 10_000)
    window = torch.hann_window(512, dtype=torch.float64)
    first, second = (
        torch.stft(torch.from_numpy(x), 512, 256, window=window, return_complex=True).abs()
        for x in (reference, estimate)
    )
    expected = torch.mean((first - second) ** 2).item()
    assert spectrogram_mse(reference, estimate) == pytest.approx(expected, rel=1e-12)


def test_too_short_for_a_spectrogram():
    with pytest.raises(UndefinedMetricError, match=r"256 samples are too few .* at least 257") as caught:
        spectrogram_mse(noise(0, 256), noise(1, 256))
    assert caught.value.reason == str(caught.value)


@pytest.mark.parametrize("metric", [waveform_mse, spectrogram_mse])
@pytest.mark.parametrize(
    ("reference", "estimate", "message"),
    [
        (np.zeros(600, np.int16), np.zeros(600), "the reference has dtype int16; expected floating point"),
        (np.zeros(600), np.zeros((1, 2, 300)), r"the estimate has shape \(1, 2, 300\); expected \[samples\]"),
        (np.zeros(0), np.zeros(0), r"the reference has shape \(0,\); .* not empty"),
        (np.zeros(600), np.full(600, np.nan), "the estimate holds NaN or infinite samples"),
        (np.full(600, np.inf), np.zeros(600), "the reference holds NaN or infinite samples"),
        (np.zeros(600), np.zeros(601), "the reference has 1 channel of 600 samples .* of 601 samples"),
        (np.zeros((2, 600)), np.zeros(600), "the reference has 2 channels of 600 samples .* 1 channel of"),
    ],
)
def test_malformed_pairs(metric, reference, estimate, message):
    with pytest.raises(InputError, match=message):
        metric(reference, estimate)


def test_malformed_tracks():
    with pytest.raises(InputError, match=r"the references have shape \(5,\); expected \[sources, samples\]"):
        check_track(np.zeros(5), "reference")
    with pytest.raises(InputError, match="a track has at least one estimate; got none"):
        check_track([], "estimate")
    with pytest.raises(InputError, match="estimate 1 has 1 channel of 6 samples and estimate 0 has"):
        check_track([np.zeros(5), np.zeros(6)], "estimate")
    with pytest.raises(InputError, match=r"2 estimates against 1 reference have the own references \[0, 1\]"):
        check_sources(None, 2, 1)
    with pytest.raises(InputError, match=r"1 estimate against 2 references have the own references \[2\]"):
        check_sources([2], 1, 2)


def test_silence_is_named():
    with pytest.raises(UndefinedMetricError, match=r"^the estimate is silent$"):
        check_sounding(np.zeros((2, 5)), "estimate")
    with pytest.raises(UndefinedMetricError, match=r"^channel 1 of the reference is silent$"):
        check_sounding(np.array([[0.0, 1.0], [0.0, 0.0]]), "reference")


@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 2)])
def test_as_many_samples_as_channels_are_enough(shape: tuple[int, ...]) -> None:
    assert waveform_mse(np.zeros(shape), np.ones(shape)) == 1


@pytest.mark.parametrize("metric", [sdr, si_sdr, usdr, waveform_mse, spectrogram_mse])
def test_the_loudest_samples_that_are_taken_have_finite_metrics(metric):
    x, y = LARGEST * np.random.default_rng(0).uniform(-1, 1, (2, 4000))
    assert np.isfinite(metric(x, y))
