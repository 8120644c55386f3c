"""SDR with a distortion filter, as torchmetrics and fast-bss-eval compute it, and without, as challenges do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from mertric.errors import InputError
from mertric.metrics.distortion import correlations, fft_sizes, solve_filters, windows, zero_extended
from mertric.metrics.waveform import Float, Float64, blocks, check_pair, check_sounding, decibels, mean_decibels

if TYPE_CHECKING:
    import numpy.typing as npt


def sdr(reference: npt.ArrayLike, estimate: npt.ArrayLike, *, taps: int = 512) -> float:
    """Signal-to-distortion ratio of an estimate, any filter of `taps` taps being forgiven.

    ``|p|² / |y - p|²`` in dB, with y the estimate and p its least-squares projection on its own reference
    delayed by 0 to taps - 1 samples [1]_, [2]_. Channels are taken one by one and their values in dB
    averaged, as torchmetrics' and fast-bss-eval's values are when given [channels, samples]. No
    regularisation, unless the equations are singular (see `mertric.metrics.distortion.solve_filters`).

    Parameters
    ----------
    reference, estimate : array_like
        Floating point [samples] or [channels, samples], of one shape.
    taps : int
        Length of the distortion filter, samples.

    Returns
    -------
    float
        dB, the mean over channels; `inf` if the estimate is its reference, filtered or not (200 dB or more).

    Raises
    ------
    InputError
        If an array is no waveform, the shapes differ, or `taps` is below 1.
    UndefinedMetricError
        If a channel of the reference or of the estimate is silent, or one is perfect and another holds nothing
        of its reference.

    References
    ----------
    .. [1] E. Vincent, R. Gribonval, C. Févotte, IEEE TASLP 14(4), 2006, Eq. 14 to 16.
    .. [2] R. Scheibler, "SDR - Medium Rare with Fast Computations", ICASSP 2022.
    """
    if taps < 1:
        raise InputError(f"the distortion filter has {taps} taps; expected at least 1")
    own, target = check_pair(reference, estimate)
    check_sounding(own, "reference")
    check_sounding(target, "estimate")
    return mean_decibels([_channel_sdr(x, y, taps) for x, y in zip(own, target, strict=True)])


def usdr(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Signal-to-distortion ratio of a whole recording, nothing being forgiven: that of the demixing challenges.

    ``|x|² / |y - x|²`` in dB, x the reference and y the estimate, both sums over channels and samples [1]_, [2]_. The
    challenges add 1e-7 to both, which gives a value to silence.

    Parameters
    ----------
    reference, estimate : array_like
        Floating point [samples] or [channels, samples], of one shape.

    Returns
    -------
    float
        dB; `inf` if the estimate is its reference (200 dB or more).

    Raises
    ------
    InputError
        If an array is no waveform, or the shapes differ.
    UndefinedMetricError
        If the reference is silent.

    References
    ----------
    .. [1] Y. Mitsufuji et al., "Music Demixing Challenge 2021", Frontiers in Signal Processing 1, 2022, Eq. 1.
    .. [2] G. Fabbro et al., "The Sound Demixing Challenge 2023 - Music Demixing Track", TISMIR 7(1), 2024.
    """
    own, target = check_pair(reference, estimate)
    check_sounding(own, "reference", every=False)
    signal = distortion = 0.0
    for channels in zip(own, target, strict=True):
        for x, y in blocks(channels):
            signal += float(np.einsum("t,t->", x, x))
            distortion += float(np.sum((y - x) ** 2))
    return float(decibels(signal, distortion))


def _channel_sdr(reference: Float, estimate: Float, taps: int) -> float:
    """SDR of one channel, [samples] each.

    The filter is found for what a mere factor leaves of the estimate, so that a perfect estimate is so
    exactly; and the energies are those of the signals themselves, as their difference of squares would lose
    half the digits.
    """
    energy = product = 0.0
    for x, y in blocks([reference, estimate]):
        energy += float(np.einsum("t,t->", x, x))
        product += float(np.einsum("t,t->", x, y))
    gain = product / energy

    def read(start: int, stop: int) -> Float64:
        x, y = zero_extended(reference, start, stop), zero_extended(estimate, start, stop)
        return np.stack([x, y - gain * x])

    samples = len(reference)
    size, step = fft_sizes(taps)
    response = fft.rfft(solve_filters(correlations(read, samples, 1, 1, taps))[0, 0], n=size)
    projection = distortion = 0.0
    for x, rest in windows(read, 1 - taps, samples, taps):
        filtered = fft.irfft(fft.rfft(x) * response, n=size)[:, -step:]
        projection += float(np.sum((gain * x[:, -step:] + filtered) ** 2))
        distortion += float(np.sum((rest[:, -step:] - filtered) ** 2))
    return float(decibels(projection, distortion))
