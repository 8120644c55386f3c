"""Scale-invariant SDR, SIR and SAR: projections of an estimate without a filter.

Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019 (SI-SDR, Eq. 4; SI-SIR and
SI-SAR, section 2.2). With y the estimate, t its projection on its own reference and p its projection on the
span of all references of the track,

    SI-SDR = |t|² / |y - t|²,    SI-SIR = |t|² / |p - t|²,    SI-SAR = |p|² / |y - p|²,

in dB. Means are not removed. Channels are taken one by one, each against the same channel of the
references, and the values in dB are averaged over channels, as torchmetrics' and fast-bss-eval's values
are when given [channels, samples]. Other references may be silent or linearly dependent: the span is what
is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.metrics.waveform import (
    Float,
    UndefinedMetricError,
    blocks,
    check_pair,
    check_sounding,
    check_track,
    decibels,
    mean_decibels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


DEPENDENT = 1e-13
"""References of unit energy are linearly dependent below this eigenvalue of their inner products."""


@dataclass(frozen=True)
class _Energies:
    """One channel: target |t|², distortion |y - t|², interference |p - t|², span |p|², artifacts |y - p|²."""

    target: float
    distortion: float
    interference: float
    span: float
    artifacts: float


def si_sdr(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio of an estimate.

    Parameters
    ----------
    reference, estimate : array_like
        Floating point [samples] or [channels, samples], of one shape.

    Returns
    -------
    float
        dB, the mean over channels; `inf` if the estimate is its reference times a number, `-inf` if it is
        orthogonal to it to the last bit: roundings leave some -300 dB.

    Raises
    ------
    InputError
        If an array is no waveform, or the shapes differ.
    UndefinedMetricError
        If a channel of the reference or of the estimate is silent.
    """
    own, target = check_pair(reference, estimate)
    energies = _decompose([own], target, 0)
    return _mean([(channel.target, channel.distortion) for channel in energies])


def si_sir(references: npt.ArrayLike | Sequence[npt.ArrayLike], estimate: npt.ArrayLike, source: int) -> float:
    """Scale-invariant signal-to-interference ratio of an estimate.

    Parameters
    ----------
    references : array_like or sequence of array_like
        All references of the track, floating point [sources, samples] or [sources, channels, samples].
    estimate : array_like
        Floating point [samples] or [channels, samples], of a reference's shape.
    source : int
        Index of the estimate's own reference.

    Returns
    -------
    float
        dB, the mean over channels; `inf` if the estimate holds nothing of the other references.

    Raises
    ------
    InputError
        If an array is no waveform, shapes differ, or `source` is not an index of `references`.
    UndefinedMetricError
        If a channel of the own reference or of the estimate is silent, or no other reference sounds there.
    """
    tracks, target = _check(references, estimate, source)
    for channel in range(len(target)):
        if not any(track[channel].any() for index, track in enumerate(tracks) if index != source):
            raise UndefinedMetricError("there is no interference to measure: no other reference sounds")
    energies = _decompose(tracks, target, source)
    return _mean([(channel.target, channel.interference) for channel in energies])


def si_sar(references: npt.ArrayLike | Sequence[npt.ArrayLike], estimate: npt.ArrayLike, source: int) -> float:
    """Scale-invariant signal-to-artifacts ratio of an estimate.

    Parameters
    ----------
    references : array_like or sequence of array_like
        All references of the track, floating point [sources, samples] or [sources, channels, samples].
    estimate : array_like
        Floating point [samples] or [channels, samples], of a reference's shape.
    source : int
        Index of the estimate's own reference.

    Returns
    -------
    float
        dB, the mean over channels; `inf` if the estimate is a sum of references, each times a number.

    Raises
    ------
    InputError
        If an array is no waveform, shapes differ, or `source` is not an index of `references`.
    UndefinedMetricError
        If a channel of the own reference or of the estimate is silent.
    """
    energies = _decompose(*_check(references, estimate, source), source)
    return _mean([(channel.span, channel.artifacts) for channel in energies])


def _check(
    references: npt.ArrayLike | Sequence[npt.ArrayLike], estimate: npt.ArrayLike, source: int
) -> tuple[list[Float], Float]:
    tracks = check_track(references, "reference")
    if not 0 <= source < len(tracks):
        raise InputError(f"the estimate's own reference is number {source}; expected 0 to {len(tracks) - 1}")
    return tracks, check_pair(tracks[source], estimate)[1]


def _decompose(references: list[Float], estimate: Float, source: int) -> list[_Energies]:
    check_sounding(references[source], "reference")
    check_sounding(estimate, "estimate")
    return [
        _project([*(reference[channel] for reference in references), row], source)
        for channel, row in enumerate(estimate)
    ]


def _project(signals: list[Float], source: int) -> _Energies:
    """Energies of one channel; `signals` are the references and the estimate, [samples] each.

    Two passes over blocks: the inner products, then the energies of the projections themselves, as their
    differences of squares would lose half the digits.
    """
    products = np.zeros((len(signals), len(signals)))
    for block in blocks(signals):
        products += np.einsum("it,jt->ij", block, block)
    gain = products[source, -1] / products[source, source]
    gram, sides = products[:-1, :-1], products[:-1, -1] - gain * products[:-1, source]
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1.0
    weights = np.linalg.lstsq(gram / np.outer(scale, scale), sides / scale, rcond=DEPENDENT)[0] / scale
    energies = np.zeros(5)
    for block in blocks(signals):
        target = gain * block[source]
        interference = np.einsum("i,it->t", weights, block[:-1])
        rest = block[-1] - target
        parts = np.stack([target, rest, interference, target + interference, rest - interference])
        energies += np.einsum("pt,pt->p", parts, parts)
    return _Energies(*energies.tolist())


def _mean(ratios: list[tuple[float, float]]) -> float:
    return mean_decibels([float(decibels(signal, noise)) for signal, noise in ratios])
