"""What every waveform metric shares: the checks of its arrays, decibels, silence; and the plainest metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mertric.errors import InputError

Float: TypeAlias = npt.NDArray[np.floating]
Float64: TypeAlias = npt.NDArray[np.float64]

BLOCK = 32768
LARGEST, SMALLEST = 1e75, 1e-75
"""Magnitudes of the loudest sample between which energies, and products of two, are numbers that float64 has."""
RESOLUTION = 1e-20
"""Energies this far (200 dB) below what they are compared with are rounding, and count as nothing."""


class UndefinedMetricError(InputError):
    """The arrays are well formed, but the metric's definition gives them no value.

    Attributes
    ----------
    reason : str
        Why, in words fit for a table of scores.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decibels(signal: npt.ArrayLike, noise: npt.ArrayLike) -> Float64:
    """``10 log10(signal / noise)`` of two energies, elementwise.

    Parameters
    ----------
    signal, noise : array_like
        Energies, non-negative, of any one shape.

    Returns
    -------
    numpy.ndarray
        float64, dB. `inf` where `noise` is nothing, that is, 200 dB or more below `signal`;
        `-inf` where `signal` alone is zero. Never NaN.
    """
    top, bottom = np.asarray(signal, np.float64), np.asarray(noise, np.float64)
    nothing = bottom <= RESOLUTION * top
    with np.errstate(divide="ignore"):
        ratio = 10 * np.log10(top / np.where(nothing, 1.0, bottom))
    return np.where(nothing, np.inf, ratio)


def mean_decibels(ratios: Sequence[float]) -> float:
    """Mean over channels, dB; `inf` or `-inf` where some are.

    Raises
    ------
    UndefinedMetricError
        One channel is `inf` and another `-inf`.
    """
    if np.inf in ratios and -np.inf in ratios:
        raise UndefinedMetricError("one channel is perfect and another holds nothing of its reference")
    return float(np.mean(ratios))


def blocks(signals: Sequence[Float]) -> Iterator[Float64]:
    """Signals [samples] of one length, block by block: float64 [signals, samples of the block]."""
    for start in range(0, len(signals[0]), BLOCK):
        yield np.stack([signal[start : start + BLOCK] for signal in signals]).astype(np.float64)


def check_waveform(waveform: npt.ArrayLike, name: str) -> Float:
    """`waveform` as a float array [channels, samples], without a copy where it is one already.

    Raises
    ------
    InputError
        If it is not floating point, neither [samples] nor [channels, samples], empty, of more channels than samples,
        masked, not finite or beyond `LARGEST`.
    """
    if np.ma.is_masked(waveform):
        raise InputError(f"the {name} has masked samples; expected all of them: fill them in, or leave them out")
    try:
        array = np.asarray(waveform)
    except ValueError as error:
        raise InputError(f"the {name} is no array of numbers ({error}); expected [samples]") from error
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"the {name} has dtype {array.dtype}; expected floating point in [-1, 1]: convert it")
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(f"the {name} has shape {array.shape}; expected [samples] or [channels, samples], not empty")
    array = np.atleast_2d(array)
    if array.shape[0] > array.shape[1]:
        raise InputError(
            f"the {name} has shape {array.shape}, more channels than samples; expected [channels, samples]: "
            "transpose it"
        )
    peaks = [_peak(channel) for channel in array]
    if not np.isfinite(peaks).all():
        raise InputError(f"the {name} holds NaN or infinite samples: repair or leave out the file it comes from")
    if (peak := max(peaks)) > LARGEST:
        raise InputError(f"the {name} holds samples of {peak:.3g}, whose energies are beyond float64: scale it down")
    return array


def check_pair(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> tuple[Float, Float]:
    """A reference and an estimate as float arrays of one shape [channels, samples].

    Raises
    ------
    InputError
        If either is no waveform (see `check_waveform`), or their shapes differ.
    """
    pair = check_waveform(reference, "reference"), check_waveform(estimate, "estimate")
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"the reference has {_size(pair[0])} and the estimate {_size(pair[1])}; "
            "expected the same: trim or mix down first"
        )
    return pair


def check_track(waveforms: npt.ArrayLike | Sequence[npt.ArrayLike], name: str) -> list[Float]:
    """The references or the estimates of a track as float arrays of one shape [channels, samples].

    Parameters
    ----------
    waveforms : array_like or sequence of array_like
        [sources, samples] or [sources, channels, samples], or one [samples] or [channels, samples] each.
    name : str
        What they are, in the singular, for messages.

    Raises
    ------
    InputError
        If there is none, one is no waveform (see `check_waveform`), or their shapes differ.
    """
    if not isinstance(waveforms, Sequence):
        waveforms = np.asarray(waveforms)
        if waveforms.ndim not in (2, 3):
            raise InputError(
                f"the {name}s have shape {waveforms.shape}; expected [sources, samples] or [sources, channels, samples]"
            )
    track = [check_waveform(waveform, f"{name} {index}") for index, waveform in enumerate(waveforms)]
    if not track:
        raise InputError(f"a track has at least one {name}; got none")
    for index, waveform in enumerate(track):
        if waveform.shape != track[0].shape:
            raise InputError(
                f"{name} {index} has {_size(waveform)} and {name} 0 has {_size(track[0])}; "
                "expected the same: trim or mix down first"
            )
    return track


def check_sources(sources: Sequence[int] | None, estimates: int, references: int) -> list[int]:
    """Index of the own reference for each of `estimates` estimates; 0, 1, ... if `sources` is None.

    Raises
    ------
    InputError
        If there is not one index of a reference for each estimate.
    """
    owners = list(range(estimates)) if sources is None else list(sources)
    if len(owners) != estimates or not all(0 <= owner < references for owner in owners):
        raise InputError(
            f"{estimates} estimate{'s' if estimates > 1 else ''} against {references} "
            f"reference{'s' if references > 1 else ''} have the own references {owners}; expected an index "
            f"from 0 to {references - 1} for each: pass `sources`"
        )
    return owners


def check_sounding(waveform: Float, name: str, *, every: bool = True) -> None:
    """Stop at a waveform [channels, samples] that is nowhere above `SMALLEST`, or, of `every` channel, has one that is.

    Raises
    ------
    UndefinedMetricError
        Naming the silent channel, or the whole waveform.
    """
    silent = [index for index, channel in enumerate(waveform) if _peak(channel) < SMALLEST]
    if len(silent) == len(waveform):
        raise UndefinedMetricError(f"the {name} is silent")
    if silent and every:
        raise UndefinedMetricError(f"channel {silent[0]} of the {name} is silent")


def waveform_mse(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Mean squared error of the samples, over channels and time.

    Parameters
    ----------
    reference, estimate : array_like
        Floating point [samples] or [channels, samples], full scale 1, of one shape.

    Returns
    -------
    float
        float64 mean of ``(estimate - reference)²``, 0 for a perfect estimate. Defined for silence too.

    Raises
    ------
    InputError
        If an array is no waveform, or the shapes differ.
    """
    first, second = check_pair(reference, estimate)
    total = 0.0
    for channels in zip(first, second, strict=True):
        for a, b in blocks(channels):
            total += float(np.sum((b - a) ** 2))
    return total / first.size


def _peak(channel: Float) -> float:
    """Magnitude of the loudest sample; not finite where one is not."""
    return max(float(channel.max()), -float(channel.min()))


def _size(waveform: Float) -> str:
    channels, samples = waveform.shape
    return f"{channels} channel{'s' if channels > 1 else ''} of {samples} samples"
