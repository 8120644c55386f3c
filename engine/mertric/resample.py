"""Resampling with torchaudio's Kaiser-windowed sinc, as polyphase filters applied by one matrix product."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mertric.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWPASS_FILTER_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
_BLOCK = 1 << 20
"""Input samples per matrix product: bounds the memory of a resampling at any length."""


def resample(samples: NDArray[np.float32], source_rate: int, target_rate: int) -> NDArray[np.float32]:
    """Resample a signal.

    Equals ``torchaudio.functional.resample`` with ``resampling_method="sinc_interp_kaiser"`` and the constants of
    this module (torchaudio 2, `functional._get_sinc_resample_kernel`; they are those of Bereuter & Sontacchi).

    Parameters
    ----------
    samples : float array [samples]
        Mono.
    source_rate, target_rate : int
        Hz, positive.

    Returns
    -------
    float32 [ceil(samples * target_rate / source_rate)]

    Raises
    ------
    InputError
        `samples` is not one-dimensional, or a rate is not a positive integer.
    """
    if samples.ndim != 1:
        raise InputError(f"resample takes samples of one dimension, got shape {samples.shape}. Average channels first.")
    for rate in (source_rate, target_rate):
        if rate != int(rate) or rate <= 0:
            raise InputError(f"a sample rate must be a positive integer in Hz, got {rate!r}.")
    samples = np.asarray(samples, np.float32)
    if source_rate == target_rate or not samples.size:
        return samples
    divisor = math.gcd(source_rate, target_rate)
    step, phases = source_rate // divisor, target_rate // divisor
    filters, width = _filters(step, phases)
    length = -(-phases * samples.size // step)
    blocks = -(-length // phases)
    padded = np.zeros((blocks - 1) * step + filters.shape[0], np.float32)
    used = min(samples.size, padded.size - width)
    padded[width : width + used] = samples[:used]
    windows = as_strided(padded, (blocks, filters.shape[0]), (step * padded.itemsize, padded.itemsize), writeable=False)
    output = np.empty((blocks, phases), np.float32)
    rows = max(1, _BLOCK // step)
    for start in range(0, blocks, rows):
        # A matrix with overlapping rows is outside what BLAS takes, so each block of them is copied out.
        np.matmul(np.ascontiguousarray(windows[start : start + rows]), filters, out=output[start : start + rows])
    return output.reshape(-1)[:length]


@lru_cache(maxsize=16)
def _filters(step: int, phases: int) -> tuple[NDArray[np.float32], int]:
    """Return the filters [taps, phases] for blocks of `step` samples, and the taps that lie before a block."""
    base = min(step, phases) * ROLLOFF
    width = math.ceil(LOWPASS_FILTER_WIDTH * step / base)
    taps = np.arange(-width, width + step, dtype=np.float64)[:, None] / step
    times = np.clip((taps - np.arange(phases) / phases) * base, -LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
    window = np.i0(BETA * np.sqrt(1 - (times / LOWPASS_FILTER_WIDTH) ** 2)) / np.i0(BETA)
    return (np.sinc(times) * window * (base / step)).astype(np.float32), width
