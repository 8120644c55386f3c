"""BSSEval v4 against a time-domain definition and museval."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gensvs_excerpts
import numpy as np
import pytest

from mertric.errors import InputError
from mertric.metrics.bss_eval import BssEval, bss_eval
from mertric.metrics.waveform import UndefinedMetricError

NAMES = ("sdr", "isr", "sir", "sar")


def track(seed: int, sources: int, channels: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """References that overlap in time and spectrum, and estimates with leakage, filtering and noise."""
    rng = np.random.default_rng(seed)
    references = rng.standard_normal((sources, channels, samples))
    references[..., 1:] += 0.7 * references[..., :-1]
    references[:, -1] += 0.5 * references[:, 0]
    mixing = np.eye(sources) + 0.2 * rng.standard_normal((sources, sources))
    estimates = np.tensordot(mixing, references, 1)
    estimates[..., 3:] += 0.2 * estimates[..., :-3]
    return references, estimates + 0.1 * rng.standard_normal(references.shape)


def delayed(signals: np.ndarray, taps: int) -> np.ndarray:
    """Matrix [samples + taps - 1, signals * taps] of signals [signals, samples] delayed by 0 to taps - 1."""
    count, samples = signals.shape
    matrix = np.zeros((samples + taps - 1, count, taps))
    for lag in range(taps):
        matrix[lag : lag + samples, :, lag] = signals.T
    return matrix.reshape(len(matrix), count * taps)


def oracle(references: np.ndarray, estimates: np.ndarray, window: int, hop: int, taps: int) -> np.ndarray:
    """The definition: least squares on the whole track's samples, then plain filtering of each frame."""
    sources, channels, samples = references.shape
    frames = range(0, samples - window + 1, hop)
    values = np.empty((4, sources, len(frames)))

    def extend(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x.T, np.zeros((taps - 1, channels))])

    for index in range(sources):
        spans = [references[[index]], references]
        weights = [
            np.linalg.lstsq(delayed(span.reshape(-1, samples), taps), extend(estimates[index]), rcond=None)[0]
            for span in spans
        ]
        for frame, start in enumerate(frames):
            part = slice(start, start + window)
            own, every = (
                delayed(span[..., part].reshape(-1, window), taps) @ weight
                for span, weight in zip(spans, weights, strict=True)
            )
            s, y = extend(references[index, :, part]), extend(estimates[index, :, part])
            ratios = [(s, y - s), (s, own - s), (own, every - own), (every, y - every)]
            with np.errstate(divide="ignore", invalid="ignore"):
                values[:, index, frame] = [10 * np.log10(np.sum(a**2) / np.sum(b**2)) for a, b in ratios]
    return values


def stacked(result: BssEval) -> np.ndarray:
    return np.stack([getattr(result, name) for name in NAMES])


@pytest.mark.parametrize(("sources", "channels"), [(1, 1), (1, 2), (3, 1), (3, 2), (2, 3)])
def test_definition(sources: int, channels: int):
    references, estimates = track(10 * sources + channels, sources, channels, 1500)
    result = bss_eval(references, estimates, window=400, hop=250, taps=12)
    expected = oracle(references, estimates, 400, 250, 12)
    assert expected.shape == (4, sources, 5)
    np.testing.assert_allclose(stacked(result)[[0, 1, 3]], expected[[0, 1, 3]], atol=1e-9)
    if sources > 1:
        np.testing.assert_allclose(result.sir, expected[2], atol=1e-9)
    else:
        assert np.all(result.sir == np.inf)


def test_a_long_track_in_blocks(monkeypatch: pytest.MonkeyPatch):
    references, estimates = track(0, 2, 2, 3000)
    monkeypatch.setattr("mertric.metrics.distortion.FFT_SIZE", 128)
    monkeypatch.setattr("mertric.metrics.distortion.BLOCKS_AT_ONCE", 3)
    result = bss_eval(references, estimates, window=1000, taps=10)
    np.testing.assert_allclose(stacked(result), oracle(references, estimates, 1000, 1000, 10), atol=1e-9)


def test_512_taps():
    references, estimates = track(1, 1, 1, 2400)
    result = stacked(bss_eval(references, estimates, window=1200))
    expected = oracle(references, estimates, 1200, 1200, 512)
    np.testing.assert_allclose(result[[0, 1, 3]], expected[[0, 1, 3]], atol=1e-8)


def test_mono_tracks_need_no_channel_axis():
    references, estimates = track(2, 2, 1, 2000)
    flat = bss_eval(references[:, 0], list(estimates[:, 0]), window=500, taps=8)
    np.testing.assert_array_equal(stacked(flat), stacked(bss_eval(references, estimates, window=500, taps=8)))


def test_float32_is_computed_in_float64():
    references, estimates = (array.astype(np.float32) for array in track(3, 2, 2, 2000))
    single = stacked(bss_eval(references, estimates, window=500, taps=8))
    double = stacked(bss_eval(references.astype(float), estimates.astype(float), window=500, taps=8))
    np.testing.assert_array_equal(single, double)


def test_channels_that_are_alike():
    """Two equal channels span what one does: the equations are singular, the projections are not."""
    references, estimates = track(4, 3, 1, 2000)
    mono = bss_eval(references, estimates, window=500, taps=8)
    both = bss_eval(references.repeat(2, axis=1), estimates.repeat(2, axis=1), window=500, taps=8)
    np.testing.assert_allclose(stacked(both), stacked(mono), atol=1e-9)


def test_a_source_that_is_there_twice():
    references, estimates = track(5, 2, 2, 2000)
    more = np.concatenate([references, references[1:]])
    once = bss_eval(references, estimates, window=500, taps=8)
    twice = bss_eval(more, estimates, window=500, taps=8)
    np.testing.assert_allclose(stacked(twice), stacked(once), atol=1e-6)


def test_some_estimates_of_a_track():
    references, estimates = track(6, 3, 2, 2000)
    whole = bss_eval(references, estimates, window=500, taps=8)
    some = bss_eval(references, estimates[[2, 0]], window=500, taps=8, sources=[2, 0])
    np.testing.assert_allclose(stacked(some), stacked(whole)[:, [2, 0]], atol=1e-9)


def test_perfect_estimates_are_infinite():
    references, _ = track(7, 3, 2, 2000)
    assert np.all(stacked(bss_eval(references, references, window=500, taps=8)) == np.inf)


def test_frames():
    references, estimates = track(8, 2, 2, 2099)
    result = bss_eval(references, estimates, window=500, taps=8)
    assert (result.window, result.hop, result.sdr.shape) == (500, 500, (2, 4))
    assert bss_eval(references, estimates, window=500, hop=100, taps=8).sdr.shape == (2, 16)
    one = bss_eval(references, estimates, window=5000, taps=8)
    np.testing.assert_allclose(stacked(one), oracle(references, estimates, 2099, 1, 8), atol=1e-9)


def test_silent_frames_are_nan_and_skipped():
    references, estimates = track(9, 2, 2, 2500)
    references[1, :, 500:1000] = 0
    estimates[0, :, 1500:2000] = 0
    result = bss_eval(references, estimates, window=500, taps=8)
    np.testing.assert_array_equal(np.isnan(stacked(result)).all(axis=(0, 1)), [0, 1, 0, 1, 0])
    expected = oracle(references, estimates, 500, 500, 8)[..., [0, 2, 4]]
    np.testing.assert_allclose(stacked(result)[..., [0, 2, 4]], expected, atol=1e-9)
    for name, values in zip(NAMES, expected, strict=True):
        np.testing.assert_allclose(result.median(name), np.median(values, axis=1), atol=1e-9)


def test_opposite_channels_count_as_silent_as_in_museval():
    references, estimates = track(10, 2, 2, 1500)
    estimates[0, 1, 500:1000] = -estimates[0, 0, 500:1000]
    result = bss_eval(references, estimates, window=500, taps=8)
    np.testing.assert_array_equal(np.isnan(result.sdr), [[False, True, False]] * 2)


def test_no_frame_left():
    references, estimates = track(11, 2, 1, 1000)
    references[0, :, :500] = 0
    references[1, :, 500:] = 0
    result = bss_eval(references, estimates, window=500, taps=8)
    assert np.isnan(stacked(result)).all()
    assert np.isnan(result.median("sdr")).tolist() == [True, True]


@pytest.mark.parametrize("name", ["reference", "estimate"])
def test_a_silent_source_is_undefined(name: str):
    references, estimates = track(12, 2, 2, 1000)
    {"reference": references, "estimate": estimates}[name][1] = 0
    with pytest.raises(UndefinedMetricError, match=f"^{name} 1 is silent throughout: .* no frame remains$"):
        bss_eval(references, estimates, window=500)


def test_malformed():
    references, estimates = track(13, 2, 2, 1000)
    with pytest.raises(InputError, match=r"shape \(2, 1000\) and estimates \(2, 999\); expected the same"):
        bss_eval(references, estimates[..., 1:], window=500)
    with pytest.raises(InputError, match="window 0, hop 0 and taps 512 are samples; expected at least 1"):
        bss_eval(references, estimates, window=0)
    with pytest.raises(InputError, match=r"1 estimate against 2 references have .* \[0, 1\]"):
        bss_eval(references, estimates[:1], window=500, sources=[0, 1])


def museval_metrics() -> Any:
    """museval's metrics.py alone: the package imports musdb and stempeg, which ask for ffmpeg."""
    found = importlib.util.find_spec("museval")
    if found is None or found.origin is None:
        pytest.skip("museval is not installed")
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(found.origin).parent / "metrics.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def museval_values(references: np.ndarray, estimates: np.ndarray, window: int) -> np.ndarray:
    reference, estimate = references.transpose(0, 2, 1), estimates.transpose(0, 2, 1)
    return np.stack(museval_metrics().bss_eval(reference, estimate, window=window, hop=window)[:4])


@pytest.mark.oracle
@pytest.mark.parametrize("channels", [1, 2])
def test_museval_on_noise(channels: int):
    references, estimates = track(14, 2, channels, 30_000)
    references[1, :, 8000:16_000] = 0
    result = stacked(bss_eval(references, estimates, window=8000))
    assert np.isnan(result[:, :, 1]).all()
    np.testing.assert_allclose(result, museval_values(references, estimates, 8000), atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("model", gensvs_excerpts.MODELS)
def test_museval_on_real_audio(model: str):
    references, estimates = gensvs_excerpts.track(model, 12)
    result = stacked(bss_eval(references, estimates, window=44_100))
    assert result.shape == (4, 2, 5)
    np.testing.assert_allclose(result, museval_values(references, estimates, 44_100), atol=1e-4)
