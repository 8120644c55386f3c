"""SI-SDR, SI-SIR and SI-SAR against analytic values, a least-squares projection and fast-bss-eval."""

from __future__ import annotations

import gensvs_excerpts
import numpy as np
import pytest

from mertric.errors import InputError
from mertric.metrics.scale_invariant import si_sar, si_sdr, si_sir
from mertric.metrics.waveform import UndefinedMetricError

SECOND = 8000
PUBLISHED = {  # the column sisdr of gensvs_eval_data.csv, where the audio at hand is what was evaluated
    ("melroformer_small", 1): 7.419519345381892,
    ("melroformer_small", 12): 14.501487090107023,
}


def tone(cycles: int) -> np.ndarray:
    """Whole cycles in a second: tones are orthogonal, with energy SECOND / 2."""
    return np.sin(2 * np.pi * cycles * np.arange(SECOND) / SECOND)


def track(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated references [sources, ...] and estimates with interference and noise."""
    rng = np.random.default_rng(seed)
    references = rng.standard_normal(shape)
    references += 0.3 * references[::-1]
    mixing = np.eye(shape[0]) + 0.2 * rng.standard_normal((shape[0], shape[0]))
    return references, np.tensordot(mixing, references, 1) + 0.1 * rng.standard_normal(shape)


def oracle(references: np.ndarray, estimate: np.ndarray, source: int) -> tuple[float, float, float]:
    """SI-SDR, SI-SIR, SI-SAR of one channel by least squares on the samples."""
    target = references[source] * np.linalg.lstsq(references[[source]].T, estimate, rcond=None)[0]
    span = references.T @ np.linalg.lstsq(references.T, estimate, rcond=None)[0]
    pairs = [(target, estimate - target), (target, span - target), (span, estimate - span)]
    return tuple(10 * np.log10(np.sum(a**2) / np.sum(b**2)) for a, b in pairs)


def test_orthogonal_tones():
    references = np.stack([tone(440), tone(1000)])
    estimate = 0.5 * references[0] + 0.1 * references[1] + 0.05 * tone(3000)
    assert si_sdr(references[0], estimate) == pytest.approx(10 * np.log10(0.25 / 0.0125), abs=1e-9)
    assert si_sir(references, estimate, 0) == pytest.approx(10 * np.log10(0.25 / 0.01), abs=1e-9)
    assert si_sar(references, estimate, 0) == pytest.approx(10 * np.log10(0.26 / 0.0025), abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_least_squares(dtype: type):
    references, estimates = (array.astype(dtype) for array in track(0, 4, 2, 40_000))
    for source, estimate in enumerate(estimates):
        expected = np.mean(
            [oracle(references[:, c].astype(float), estimate[c].astype(float), source) for c in (0, 1)],
            axis=0,
        )
        found = [
            si_sdr(references[source], estimate),
            si_sir(references, estimate, source),
            si_sar(references, estimate, source),
        ]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_high_ratios_keep_their_digits():
    estimate = tone(440) + 1e-8 * tone(1000)
    assert si_sdr(tone(440), estimate) == pytest.approx(160, abs=1e-6)


def test_perfect_estimates_are_infinite():
    references, _ = track(1, 3, 5000)
    for factor in (1.0, -0.3, 1e-6):
        assert si_sdr(references[1], factor * references[1]) == np.inf
        assert si_sir(references, factor * references[1], 1) == np.inf
        assert si_sar(references, factor * references[1], 1) == np.inf
    mixture = references.sum(axis=0)
    assert si_sar(references, mixture, 0) == np.inf
    assert si_sdr(references[0], mixture) < 20


def test_an_orthogonal_estimate_is_far_below():
    assert si_sdr(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == -np.inf


def test_silent_and_dependent_references_leave_the_span():
    references, estimates = track(2, 3, 5000)
    more = np.concatenate([references, np.zeros((1, 5000)), references[1:2], -2 * references[2:]])
    for metric in (si_sir, si_sar):
        assert metric(more, estimates[0], 0) == pytest.approx(metric(references, estimates[0], 0), abs=1e-6)


def test_references_that_are_nearly_dependent_span_what_they_span():
    references, estimates = track(2, 3, 5000)
    near = references[1] + 1e-5 * references[2]
    for metric in (si_sir, si_sar):
        found = metric(np.stack([references[0], references[1], near]), estimates[0], 0)
        assert found == pytest.approx(metric(references, estimates[0], 0), abs=1e-3)


def test_undefined():
    references, estimates = track(3, 2, 2, 1000)
    half = estimates[0] * [[1], [0]]
    for metric in (si_sir, si_sar):
        with pytest.raises(UndefinedMetricError, match="the estimate is silent"):
            metric(references, 0 * estimates[0], 0)
        with pytest.raises(UndefinedMetricError, match="channel 1 of the reference is silent"):
            metric([half, references[1]], estimates[0], 0)
    with pytest.raises(UndefinedMetricError, match="the reference is silent"):
        si_sdr(0 * references[0], estimates[0])
    with pytest.raises(UndefinedMetricError, match="channel 1 of the estimate is silent"):
        si_sdr(references[0], half)
    for others in ([], [0 * references[1]], [references[1] * [[0], [1]]]):
        with pytest.raises(UndefinedMetricError, match="no interference to measure"):
            si_sir([references[0], *others], estimates[0], 0)
    assert si_sar(references[:1], estimates[0], 0) == pytest.approx(si_sdr(references[0], estimates[0]))


def test_malformed():
    references, estimates = track(4, 2, 1000)
    for source in (-1, 2):
        with pytest.raises(InputError, match=f"own reference is number {source}; expected 0 to 1"):
            si_sir(references, estimates[0], source)
    with pytest.raises(InputError, match="1000 samples and the estimate 1 channel of 999"):
        si_sar(references, estimates[0, 1:], 0)


def values(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """SI-SDR, SI-SIR, SI-SAR [3, sources]."""
    rows = [
        (si_sdr(references[k], estimate), si_sir(references, estimate, k), si_sar(references, estimate, k))
        for k, estimate in enumerate(estimates)
    ]
    return np.array(rows).T


@pytest.mark.parametrize("excerpt", gensvs_excerpts.EXCERPTS)
@pytest.mark.parametrize("model", gensvs_excerpts.MODELS)
def test_least_squares_on_real_audio(model: str, excerpt: int):
    references, estimates = gensvs_excerpts.track(model, excerpt)
    expected = [np.mean([oracle(references[:, c], estimates[k, c], k) for c in (0, 1)], axis=0) for k in (0, 1)]
    np.testing.assert_allclose(values(references, estimates), np.transpose(expected), atol=1e-8)


@pytest.mark.parametrize(("model", "excerpt"), PUBLISHED)
def test_published_values(model: str, excerpt: int):
    value = si_sdr(*gensvs_excerpts.pair(model, excerpt))
    assert value == pytest.approx(PUBLISHED[model, excerpt], abs=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("model", [None, *gensvs_excerpts.MODELS])
def test_fast_bss_eval(model: str | None):
    fast_bss_eval, torch = pytest.importorskip("fast_bss_eval"), pytest.importorskip("torch")
    references, estimates = track(5, 4, 2, 30_000) if model is None else gensvs_excerpts.track(model, 1)
    columns = fast_bss_eval.si_bss_eval_sources(
        *(torch.from_numpy(array.swapaxes(0, 1).copy()) for array in (references, estimates)),
        compute_permutation=False,
    )
    expected = np.stack([column.numpy().mean(axis=0) for column in columns])
    np.testing.assert_allclose(values(references, estimates), expected, atol=1e-6)


def test_a_perfect_channel_beside_an_orthogonal_one():
    """Their mean would be that of infinity and minus infinity."""
    tone = np.sin(np.arange(4000) / 7)
    apart = np.zeros((2, 4000))
    apart[0, ::2000], apart[1, 1000::2000] = 1, 1
    with pytest.raises(UndefinedMetricError, match="one channel is perfect and another holds nothing of its reference"):
        si_sdr(np.stack([tone, apart[0]]), np.stack([tone, apart[1]]))
