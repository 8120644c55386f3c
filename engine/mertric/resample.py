"""Resampling with torchaudio's Kaiser-windowed sinc, as polyphase filters applied by one matrix product."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mertric.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWPASS_FILTER_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
_BLOCK = 1 << 20
"""Samples copied out for one matrix product: bounds the memory of a resampling at any length."""
_PHASES = 160
"""Outputs of a block whose filters stand in one matrix."""
_LEAST_PHASES = 64
"""Outputs of a block at least: a few periods make one block, as a wide matrix is what BLAS is good at."""


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
    repeats = -(-_LEAST_PHASES // (target_rate // divisor))
    step, phases = repeats * source_rate // divisor, repeats * target_rate // divisor
    groups = _filters(step, phases)
    length = -(-phases * samples.size // step)
    blocks = -(-length // phases)
    before = -groups[0].first
    padded = np.zeros(before + (blocks - 1) * step + groups[-1].first + len(groups[-1].taps), np.float32)
    used = min(samples.size, padded.size - before)
    padded[before : before + used] = samples[:used]
    output = np.empty((blocks, phases), np.float32)
    for group in groups:
        _filter(padded[before + group.first :], step, group.taps, output[:, group.phases])
    return output.reshape(-1)[:length]


class _Group(NamedTuple):
    """Filters of consecutive phases over the samples that they all see.

    Attributes
    ----------
    phases
        Which outputs of a block.
    first
        The first sample seen, from the block's start.
    taps : float32 [samples seen, phases]
    """

    phases: slice
    first: int
    taps: NDArray[np.float32]


@lru_cache(maxsize=16)
def _filters(step: int, phases: int) -> list[_Group]:
    """Return the filters for blocks of `step` samples that give `phases` outputs each."""
    base = min(step, phases) * ROLLOFF
    width = math.ceil(LOWPASS_FILTER_WIDTH * step / base)
    groups = []
    for start in range(0, phases, _PHASES):
        group = np.arange(start, min(start + _PHASES, phases))
        first = start * step // phases - width
        last = -(-int(group[-1]) * step // phases) + width
        distances = np.arange(first, last + 1)[:, None] / step - group / phases
        times = np.clip(distances * base, -LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
        window = np.i0(BETA * np.sqrt(1 - (times / LOWPASS_FILTER_WIDTH) ** 2)) / np.i0(BETA)
        taps = (np.sinc(times) * window * (base / step)).astype(np.float32)
        groups.append(_Group(slice(start, start + len(group)), first, taps))
    return groups


def _filter(samples: NDArray[np.float32], step: int, taps: NDArray[np.float32], output: NDArray[np.float32]) -> None:
    """Apply filters to the samples from every `step` on, one row of `output` each."""
    strides = (step * samples.itemsize, samples.itemsize)
    windows = as_strided(samples, (len(output), len(taps)), strides, writeable=False)
    rows = max(1, _BLOCK // len(taps))
    for start in range(0, len(output), rows):
        # A matrix with overlapping rows is outside what BLAS takes, so each block of them is copied out.
        output[start : start + rows] = np.ascontiguousarray(windows[start : start + rows]) @ taps
