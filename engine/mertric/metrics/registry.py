"""The waveform metrics by name, and one call that computes any set of them for a track."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mertric.errors import InputError
from mertric.metrics.bss_eval import BssEval, bss_eval
from mertric.metrics.scale_invariant import si_sar, si_sdr, si_sir
from mertric.metrics.sdr import sdr, usdr
from mertric.metrics.spectrogram import spectrogram_mse
from mertric.metrics.waveform import Float, UndefinedMetricError, check_sources, check_track, waveform_mse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt


@dataclass(frozen=True)
class WaveformMetric:
    """What a metric is.

    Attributes
    ----------
    name : str
    unit : str
        "dB", or "1" for mean squared errors of full scale 1.
    higher_is_better : bool
    references : str
        "own" if it takes the estimate's own reference alone, "track" if it takes all of the track's.
    estimates : str
        "one" if an estimate's value is its own, "track" if it depends on the track's other estimates too
        (on which frames they are silent in).
    """

    name: str
    unit: str = "dB"
    higher_is_better: bool = True
    references: str = "own"
    estimates: str = "one"


@dataclass(frozen=True)
class Undefined:
    """In place of a value where a metric's definition gives none.

    Attributes
    ----------
    reason : str
        Why, in words fit for a table of scores.
    """

    reason: str


Value: TypeAlias = float | Undefined

WAVEFORM_METRICS: Mapping[str, WaveformMetric] = {
    metric.name: metric
    for metric in (
        WaveformMetric("sdr"),
        WaveformMetric("usdr"),
        WaveformMetric("si_sdr"),
        WaveformMetric("si_sir", references="track"),
        WaveformMetric("si_sar", references="track"),
        WaveformMetric("spectrogram_mse", unit="1", higher_is_better=False),
        WaveformMetric("waveform_mse", unit="1", higher_is_better=False),
        WaveformMetric("sdr_v4", references="track", estimates="track"),
        WaveformMetric("isr_v4", references="track", estimates="track"),
        WaveformMetric("sir_v4", references="track", estimates="track"),
        WaveformMetric("sar_v4", references="track", estimates="track"),
    )
}
"""Every waveform metric, in the order of tables."""

_OWN: Mapping[str, Callable[[Float, Float], float]] = {
    "sdr": sdr,
    "usdr": usdr,
    "si_sdr": si_sdr,
    "spectrogram_mse": spectrogram_mse,
    "waveform_mse": waveform_mse,
}
_ACROSS: Mapping[str, Callable[[list[Float], Float, int], float]] = {"si_sir": si_sir, "si_sar": si_sar}


def score_track(
    references: npt.ArrayLike | Sequence[npt.ArrayLike],
    estimates: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    names: Sequence[str],
    sample_rate: int,
    sources: Sequence[int] | None = None,
) -> list[dict[str, Value]]:
    """Waveform metrics of a track's estimates.

    Parameters
    ----------
    references : array_like or sequence of array_like
        All references of the track, floating point [sources, samples] or [sources, channels, samples], full
        scale 1.
    estimates : array_like or sequence of array_like
        Estimates, each of a reference's shape; one alone is ``[estimate]``.
    names : sequence of str
        Names in `WAVEFORM_METRICS`. `sdr_v4`, `isr_v4`, `sir_v4` and `sar_v4` are medians over frames of
        1 s, as `mertric.metrics.bss_eval.bss_eval` computes them.
    sample_rate : int
        Hz; the frames of BSSEval v4 are this long.
    sources : sequence of int, optional
        For each estimate the index of its own reference; 0, 1, ... unless given.

    Returns
    -------
    list of dict
        For each estimate, its metrics by name in the order of `names`: a number (decibels may be `inf` or
        `-inf`, never NaN), or `Undefined` with the reason.

    Raises
    ------
    InputError
        If a name is unknown, an array is no waveform, shapes differ, or `sources` does not fit.
    """
    unknown = [name for name in names if name not in WAVEFORM_METRICS]
    if unknown:
        raise InputError(f"unknown waveform metrics {unknown}; expected some of {list(WAVEFORM_METRICS)}")
    originals, targets = check_track(references, "reference"), check_track(estimates, "estimate")
    owners = check_sources(sources, len(targets), len(originals))
    rows: list[dict[str, Value]] = []
    for target, owner in zip(targets, owners, strict=True):
        row: dict[str, Value] = {}
        for name in names:
            if name in _OWN:
                row[name] = _value(partial(_OWN[name], originals[owner], target))
            elif name in _ACROSS:
                row[name] = _value(partial(_ACROSS[name], originals, target, owner))
        rows.append(row)
    framewise = [name for name in names if name.endswith("_v4")]
    if framewise:
        medians = _medians(originals, targets, owners, framewise, sample_rate)
        rows = [{name: (row | more)[name] for name in names} for row, more in zip(rows, medians, strict=True)]
    return rows


def _value(compute: Callable[[], float]) -> Value:
    try:
        return compute()
    except UndefinedMetricError as error:
        return Undefined(error.reason)


def _medians(
    references: list[Float],
    estimates: list[Float],
    owners: list[int],
    names: Sequence[str],
    sample_rate: int,
) -> list[dict[str, Value]]:
    try:
        result = bss_eval(references, estimates, window=sample_rate, sources=owners)
    except UndefinedMetricError as error:
        return [dict.fromkeys(names, Undefined(error.reason)) for _ in estimates]
    columns = {name: _column(result, name.removesuffix("_v4"), len(references)) for name in names}
    return [{name: columns[name][index] for name in names} for index in range(len(estimates))]


def _column(result: BssEval, name: str, references: int) -> list[Value]:
    if name == "sir" and references == 1:
        reason = "there is no interference to measure: the track has one reference"
        return [Undefined(reason)] * len(result.sdr)
    medians = result.median(name)
    if np.isnan(medians).all():
        reason = "no frame of 1 s is left in which every reference and every estimate sounds"
        return [Undefined(reason)] * len(medians)
    between = Undefined("the median lies between frames that are perfect and frames that hold nothing of the reference")
    return [between if np.isnan(median) else float(median) for median in medians]
