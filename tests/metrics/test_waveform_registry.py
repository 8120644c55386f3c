"""One call for any set of waveform metrics."""

from __future__ import annotations

import numpy as np
import pytest

from mertric.errors import InputError
from mertric.metrics import registry
from mertric.metrics.bss_eval import BssEval, bss_eval
from mertric.metrics.registry import WAVEFORM_METRICS, Undefined, score_track
from mertric.metrics.scale_invariant import si_sar, si_sdr, si_sir
from mertric.metrics.sdr import sdr, usdr
from mertric.metrics.spectrogram import spectrogram_mse
from mertric.metrics.waveform import waveform_mse

NAMES = tuple(WAVEFORM_METRICS)
RATE = 2000


def track(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    references = rng.standard_normal((3, 5000))
    return references, references + 0.2 * references[::-1] + 0.1 * rng.standard_normal(references.shape)


def test_names_and_what_they_need():
    assert (
        *("sdr", "usdr", "si_sdr", "si_sir", "si_sar", "spectrogram_mse", "waveform_mse"),
        *("sdr_v4", "isr_v4", "sir_v4", "sar_v4"),
    ) == NAMES
    needs_track = [name for name, metric in WAVEFORM_METRICS.items() if metric.references == "track"]
    assert needs_track == ["si_sir", "si_sar", "sdr_v4", "isr_v4", "sir_v4", "sar_v4"]
    assert [name for name, metric in WAVEFORM_METRICS.items() if not metric.higher_is_better] == [
        "spectrogram_mse",
        "waveform_mse",
    ]


def test_every_metric_of_a_track():
    references, estimates = track()
    rows = score_track(references, estimates, names=NAMES, sample_rate=RATE)
    v4 = bss_eval(references, estimates, window=RATE)
    for index, (row, estimate) in enumerate(zip(rows, estimates, strict=True)):
        own = references[index]
        assert tuple(row) == NAMES
        assert list(row.values()) == [
            sdr(own, estimate),
            usdr(own, estimate),
            si_sdr(own, estimate),
            si_sir(references, estimate, index),
            si_sar(references, estimate, index),
            spectrogram_mse(own, estimate),
            waveform_mse(own, estimate),
            *(v4.median(name)[index] for name in ("sdr", "isr", "sir", "sar")),
        ]
        assert all(type(value) is float for value in row.values())


def test_some_metrics_of_some_estimates():
    references, estimates = track(1)
    names = ["sar_v4", "si_sir", "sdr_v4"]
    whole = score_track(references, estimates, names=names, sample_rate=RATE)
    some = score_track(references, estimates[2:], names=names, sample_rate=RATE, sources=[2])
    assert list(some[0]) == names
    assert some[0] == pytest.approx(whole[2], abs=1e-9)
    assert score_track(references, estimates, names=[], sample_rate=RATE) == [{}, {}, {}]


def test_silence_is_scored_where_defined_and_explained_elsewhere():
    references, estimates = track(2)
    estimates[1] = 0
    first, second, _ = score_track(references, estimates, names=NAMES, sample_rate=RATE)
    assert isinstance(first["sdr"], float)
    for name in ("sdr", "si_sdr", "si_sir", "si_sar"):
        assert second[name] == Undefined("the estimate is silent")
    assert second["waveform_mse"] == pytest.approx(np.mean(references[1] ** 2))
    for row in (first, second):
        for name in ("sdr_v4", "isr_v4", "sir_v4", "sar_v4"):
            value = row[name]
            assert isinstance(value, Undefined) and value.reason.startswith("estimate 1 is silent throughout")


def test_one_reference_has_no_interference():
    references, estimates = track(3)
    (row,) = score_track(references[:1], estimates[:1], names=NAMES, sample_rate=RATE)
    undefined = {name: value.reason for name, value in row.items() if isinstance(value, Undefined)}
    assert list(undefined) == ["si_sir", "sir_v4"]
    assert all(reason.startswith("there is no interference to measure") for reason in undefined.values())


def test_no_frame_left():
    references, estimates = track(4)
    references[0, :2000] = 0
    references[1, 2000:] = 0
    rows = score_track(references, estimates, names=["sdr_v4", "sdr"], sample_rate=RATE)
    assert rows[2]["sdr_v4"] == Undefined("no frame of 1 s is left in which every reference and every estimate sounds")
    assert isinstance(rows[2]["sdr"], float)


def test_perfect_estimates():
    references, _ = track(5)
    rows = score_track(references, references, names=NAMES, sample_rate=RATE)
    expected = {name: np.inf if metric.unit == "dB" else 0.0 for name, metric in WAVEFORM_METRICS.items()}
    assert rows == [expected] * 3


def test_malformed():
    references, estimates = track(6)
    with pytest.raises(InputError, match=r"unknown waveform metrics \['pesq'\]; expected some of \['sdr', "):
        score_track(references, estimates, names=["sdr", "pesq"], sample_rate=RATE)
    with pytest.raises(InputError, match=r"1 estimate against 3 references have the own references \[3\]"):
        score_track(references, estimates[:1], names=["sdr"], sample_rate=RATE, sources=[3])
    with pytest.raises(InputError, match="5000 samples and the estimate 1 channel of 4999 samples"):
        score_track(references, estimates[..., 1:], names=["sdr"], sample_rate=RATE)


def test_a_median_between_perfect_frames_and_orthogonal_ones(monkeypatch):
    frames = np.array([[np.inf, -np.inf], [1.0, 2.0]])
    result = BssEval(sdr=frames, isr=frames, sir=frames, sar=frames, window=RATE, hop=RATE)
    monkeypatch.setattr(registry, "bss_eval", lambda *_, **__: result)
    references, _ = track(7)
    rows = score_track(references[:2], references[:2], names=["sdr_v4"], sample_rate=RATE)
    assert "the median lies between frames that are perfect" in rows[0]["sdr_v4"].reason
    assert rows[1]["sdr_v4"] == 1.5
