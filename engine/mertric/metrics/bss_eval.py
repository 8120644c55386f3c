"""BSSEval version 4: SDR, ISR, SIR and SAR of a whole track, frame by frame, as museval computes them.

Stöter, Liutkus, Ito, "The 2018 Signal Separation Evaluation Campaign", LVA/ICA 2018; Vincent, Gribonval,
Févotte, IEEE TASLP 14(4), 2006. One set of multichannel distortion filters serves the whole track. In each
frame, with s the own reference, y the estimate, o the own reference filtered to come nearest to the estimate,
a all references filtered and summed to come nearest to it (all of the frame alone, with their tails),

    SDR = |s|² / |y - s|²,    ISR = |s|² / |o - s|²,    SIR = |o|² / |a - o|²,    SAR = |a|² / |y - a|²,

in dB, energies summed over channels and time. Filters are found for the error y - s and not for y: o - s and
a - o are then filtered signals themselves, and a perfect estimate is so exactly. Energies of filtered
signals are taken from spectra (Parseval), so that no signal is ever transformed back.

Where references hold next to nothing in a part of the band, as floating-point audio does that was resampled from a
lower rate, nothing there determines the filters: ISR, SIR and SAR then follow roundings, here and, by other ones, in
museval. Of the same audio in 16 bits, whose rounding is noise enough, they are sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from mertric.errors import InputError
from mertric.metrics.distortion import correlations, solve_filters, zero_extended
from mertric.metrics.waveform import (
    Float,
    Float64,
    UndefinedMetricError,
    blocks,
    check_sources,
    check_track,
    decibels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Spectra = np.ndarray[tuple[int, ...], np.dtype[np.complex128]]


@dataclass(frozen=True)
class BssEval:
    """BSSEval v4 of a track, frame by frame.

    Attributes
    ----------
    sdr, isr, sir, sar : numpy.ndarray
        float64 [estimates, frames], dB. NaN in every frame where any reference or estimate is silent; `inf`
        where there is no error of that kind (200 dB or more).
    window, hop : int
        Length of a frame and from one frame to the next, samples.
    """

    sdr: Float64
    isr: Float64
    sir: Float64
    sar: Float64
    window: int
    hop: int

    def median(self, name: str) -> Float64:
        """Medians over the frames that are not silent, NaN where there is none, or between `inf` and `-inf`.

        Parameters
        ----------
        name : str
            "sdr", "isr", "sir" or "sar".

        Returns
        -------
        numpy.ndarray
            float64 [estimates], dB.
        """
        frames: Float64 = getattr(self, name)
        sounding = frames[:, ~np.isnan(frames).any(axis=0)]
        if sounding.shape[1] == 0:
            return np.full(len(frames), np.nan)
        with np.errstate(invalid="ignore"):
            median: Float64 = np.median(sounding, axis=1)
        return median


def bss_eval(
    references: npt.ArrayLike | Sequence[npt.ArrayLike],
    estimates: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    window: int,
    hop: int | None = None,
    sources: Sequence[int] | None = None,
    taps: int = 512,
) -> BssEval:
    """BSSEval v4 of a track: one estimate for each reference, or for some of them.

    A frame counts as silent, as in museval, if the sum over channels of any reference or estimate is zero
    throughout. An incomplete last frame is left out; a track shorter than a window is one frame.

    Parameters
    ----------
    references : array_like or sequence of array_like
        All references of the track, floating point [sources, samples] or [sources, channels, samples].
    estimates : array_like or sequence of array_like
        Estimates, each of a reference's shape.
    window : int
        Length of a frame, samples; the sample rate, for the frames of 1 s that are the custom.
    hop : int, optional
        From one frame to the next, samples; the window's length unless given.
    sources : sequence of int, optional
        For each estimate the index of its own reference; 0, 1, ... unless given.
    taps : int
        Length of the distortion filters, samples.

    Returns
    -------
    BssEval

    Raises
    ------
    InputError
        If an array is no waveform, shapes differ, `sources` does not fit, or a number is below 1.
    UndefinedMetricError
        If a reference or an estimate is silent throughout: no frame is left then.
    """
    hop = window if hop is None else hop
    if min(window, hop, taps) < 1:
        raise InputError(f"window {window}, hop {hop} and taps {taps} are samples; expected at least 1 each")
    originals, targets = check_track(references, "reference"), check_track(estimates, "estimate")
    if originals[0].shape != targets[0].shape:
        raise InputError(
            f"references have shape {originals[0].shape} and estimates {targets[0].shape}; "
            "expected the same [channels, samples]: trim or mix down first"
        )
    owners = check_sources(sources, len(targets), len(originals))
    for name, track in (("reference", originals), ("estimate", targets)):
        for index, waveform in enumerate(track):
            if _silent(waveform):
                raise UndefinedMetricError(
                    f"{name} {index} is silent throughout: BSSEval v4 leaves out every frame "
                    "where any reference or estimate is silent, and no frame remains"
                )
    whole, own = _filters(originals, targets, owners, taps)
    sdr, isr, sir, sar = _framewise(originals, targets, owners, (whole, own), window, hop)
    return BssEval(sdr, isr, sir, sar, window, hop)


def _silent(waveform: Float) -> bool:
    return not any(block.sum(axis=0).any() for block in blocks(list(waveform)))


def _filters(references: list[Float], estimates: list[Float], owners: list[int], taps: int) -> tuple[Float64, Float64]:
    """Filters towards the errors, from all references and from the own ones alone.

    Returns float64 [estimates, channels, sources, channels, taps] and [estimates, channels, channels, taps].
    Stereo references enter as sum and difference, which spans the same and leaves the equations regular (and
    half as many) where a stem's two channels are alike.
    """
    channels, samples = references[0].shape
    inputs = len(references) * channels

    def read(start: int, stop: int) -> Float64:
        signals = np.stack([zero_extended(waveform, start, stop) for waveform in (*references, *estimates)])
        signals[len(references) :] -= signals[owners]
        if channels == 2:
            left, right = signals[: len(references)].transpose(1, 0, 2)
            signals[: len(references)] = np.stack([left + right, left - right], axis=1)
        return signals.reshape(-1, stop - start)

    correlation = correlations(read, samples, inputs, len(estimates) * channels, taps)
    shape = (len(estimates), channels, -1, channels, taps)
    whole = solve_filters(correlation).reshape(shape)
    own = np.empty((len(estimates), channels, channels, taps))
    for index, owner in enumerate(owners):
        rows = np.arange(owner * channels, (owner + 1) * channels)
        columns = inputs + np.arange(index * channels, (index + 1) * channels)
        own[index] = solve_filters(correlation[rows][:, [*rows, *columns]])
    if channels == 2:
        whole, own = (np.stack([f[..., 0, :] + f[..., 1, :], f[..., 0, :] - f[..., 1, :]], -2) for f in (whole, own))
    return whole, own


def _framewise(
    references: list[Float],
    estimates: list[Float],
    owners: list[int],
    filters: tuple[Float64, Float64],
    window: int,
    hop: int,
) -> Float64:
    """SDR, ISR, SIR and SAR, float64 [4, estimates, frames]."""
    samples, taps = references[0].shape[1], filters[0].shape[-1]
    window = min(window, samples)
    frames = (samples - window) // hop + 1
    size = fft.next_fast_len(window + taps - 1, real=True)
    whole, own = (fft.rfft(response, n=size, axis=-1) for response in filters)
    values = np.full((4, len(estimates), frames), np.nan)
    for frame in range(frames):
        part = slice(frame * hop, frame * hop + window)
        signals = np.stack([waveform[:, part] for waveform in (*references, *estimates)]).astype(np.float64)
        if any(_silent(waveform) for waveform in signals):
            continue
        signals[len(references) :] -= signals[owners]
        spectra = _spectra(signals, size)
        spectra, error_spectra = spectra[: len(references)], spectra[len(references) :]
        for index, owner in enumerate(owners):
            source = spectra[owner]
            spatial = np.einsum("ckf,kf->cf", own[index], source)
            total = np.einsum("cskf,skf->cf", whole[index], spectra)
            values[:, index, frame] = decibels(
                [_energy(source), _energy(source), _energy(source + spatial), _energy(source + total)],
                [
                    _energy(error_spectra[index]),
                    _energy(spatial),
                    _energy(total - spatial),
                    _energy(error_spectra[index] - total),
                ],
            )
    return values


def _spectra(signals: Float64, size: int) -> Spectra:
    """Half spectra whose squared norm is proportional to the signals' energy (the edges weigh half)."""
    spectra: Spectra = fft.rfft(signals, n=size, axis=-1)
    spectra[..., 0] *= np.sqrt(0.5)
    if size % 2 == 0:
        spectra[..., -1] *= np.sqrt(0.5)
    return spectra


def _energy(spectra: Spectra) -> float:
    """Squared norm; by einsum, as BLAS would wake its threads for each of these short sums."""
    parts = spectra.reshape(-1).view(np.float64)
    return float(np.einsum("i,i->", parts, parts))
