"""Mean squared error of magnitude spectrograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from mertric.errors import InputError
from mertric.metrics.waveform import Float, Float64, UndefinedMetricError, check_pair

if TYPE_CHECKING:
    import numpy.typing as npt

FRAMES_AT_ONCE = 4096


def spectrogram_mse(reference: npt.ArrayLike, estimate: npt.ArrayLike, *, window: int = 512, hop: int = 256) -> float:
    """Mean squared error of magnitude spectra, over channels, frames and frequencies.

    The short-time Fourier transform is that of `torch.stft` as it stands: a periodic Hann window, frames
    centred on the multiples of `hop` (the signal is mirrored by half a window at both ends), no scaling.

    Parameters
    ----------
    reference, estimate : array_like
        Floating point [samples] or [channels, samples], full scale 1, of one shape.
    window : int
        Length of the window and of the transform, samples.
    hop : int
        Samples between frames.

    Returns
    -------
    float
        float64 mean of ``(|estimate| - |reference|)²``, 0 for a perfect estimate. Defined for silence too.

    Raises
    ------
    InputError
        If an array is no waveform, the shapes differ, or `window` or `hop` is below 1.
    UndefinedMetricError
        If the waveforms have half a window or less, which cannot be mirrored.

    References
    ----------
    .. [1] P. A. Bereuter, A. Sontacchi, DAGA 2026, arXiv:2604.20270.
    """
    for name, size in (("window", window), ("hop", hop)):
        if size < 1:
            raise InputError(f"the {name} is {size} samples; expected at least 1")
    first, second = check_pair(reference, estimate)
    if first.shape[1] <= window // 2:
        raise UndefinedMetricError(
            f"{first.shape[1]} samples are too few for a spectrogram of window {window}; "
            f"expected at least {window // 2 + 1}"
        )
    total, count = 0.0, 0
    frames = (first.shape[1] + 2 * (window // 2) - window) // hop + 1
    for a, b in zip(first, second, strict=True):
        for start in range(0, frames, FRAMES_AT_ONCE):
            block = range(start, min(start + FRAMES_AT_ONCE, frames))
            parts = (_magnitudes(_frames(channel, block, window, hop)) for channel in (b, a))
            difference = np.subtract(*parts).ravel()
            total += float(difference @ difference)
            count += difference.size
    return total / count


def _frames(channel: Float, numbers: range, window: int, hop: int) -> Float:
    """Frames [frames, window] of consecutive numbers, mirrored at the channel's ends."""
    places = np.arange(numbers[0] * hop, numbers[-1] * hop + window) - window // 2
    last = len(channel) - 1
    mirrored = channel[last - np.abs(last - np.abs(places))]
    return np.lib.stride_tricks.sliding_window_view(mirrored, window)[::hop]


def _magnitudes(frames: Float) -> Float64:
    window = frames.shape[1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    magnitudes: Float64 = np.abs(fft.rfft(frames * hann, axis=1))
    return magnitudes
