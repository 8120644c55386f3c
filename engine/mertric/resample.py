"""Resampling with torchaudio's Kaiser-windowed sinc, as polyphase filters applied by one matrix product."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mertric.arguments import is_rate
from mertric.blas import limited
from mertric.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HIGHEST_RATE = 768_000
"""Hz, of any converter: the filters for a rate that a damaged header gives would take minutes and not fit in memory."""
LOWPASS_FILTER_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
_PHASES = 160
"""Outputs of a block whose filters stand in one matrix."""
_LEAST_PHASES = 64
"""Outputs of a block at least: a few periods make one block, as a wide matrix is what BLAS is good at."""
_USUAL = 1 << 20
"""Numbers in the filters of a usual rate at most."""
_TILE = 16
"""Blocks in a matrix product, always: the last bits of a row depend on how many rows there are, and on its place."""


def resample(samples: NDArray[np.float32], source_rate: int, target_rate: int) -> NDArray[np.float32]:
    """Resample a signal.

    Equals ``torchaudio.functional.resample`` with ``resampling_method="sinc_interp_kaiser"`` and the constants of
    this module (torchaudio 2, `functional._get_sinc_resample_kernel`; they are those of Bereuter & Sontacchi).

    Parameters
    ----------
    samples : float array [samples]
        Mono.
    source_rate, target_rate : int
        Hz, positive, at most `HIGHEST_RATE`.

    Returns
    -------
    float32 [ceil(samples * target_rate / source_rate)]

    Raises
    ------
    InputError
        `samples` is not one-dimensional, or a rate cannot be.
    """
    resampler = Resampler(source_rate, target_rate)
    return np.concatenate([resampler.push(samples), resampler.finish()])


class Resampler:
    """Resamples a signal that comes in pieces of any sizes. Not for several threads at once.

    All that it returns, joined, is to the bit what `resample` makes of the joined pieces. Outputs come in blocks, once
    all is there that a block's filters see: within 20 ms at the usual rates, a second at rates without a common factor.

    Parameters
    ----------
    source_rate, target_rate : int
        Hz, positive, at most `HIGHEST_RATE`.

    Raises
    ------
    InputError
        A rate is not a positive integer, or above that.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for rate in (source_rate, target_rate):
            if not (is_rate(rate) and rate <= HIGHEST_RATE):
                raise InputError(
                    f"a sample rate must be a positive integer in Hz, at most {HIGHEST_RATE}, got {rate!r}."
                )
        source, target = int(source_rate), int(target_rate)
        self._same = source == target
        divisor = math.gcd(source, target)
        repeats = -(-_LEAST_PHASES // (target // divisor))
        self._step, self._phases = repeats * source // divisor, repeats * target // divisor
        self._groups = _filters(self._step, self._phases)
        self._before = -self._groups[0].first
        self._seen = self._before + self._groups[-1].first + len(self._groups[-1].taps)
        self._samples = np.zeros(self._before, np.float32)
        self._row = self._given = self._made = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples, float [samples], and return the outputs that none to come can change, float32 [outputs].

        Raises
        ------
        InputError
            `samples` is not one-dimensional, or complex.
        """
        if samples.dtype.kind not in "fiu":
            raise InputError(f"resample takes real samples, got {samples.dtype}.")
        if samples.ndim != 1:
            raise InputError(
                f"resample takes samples of one dimension, got shape {samples.shape}. Average channels first."
            )
        samples = np.asarray(samples, np.float32)
        if self._same:
            return samples
        self._given += samples.size
        size = self._samples.size + samples.size
        blocks = (size - self._seen) // self._step + 1
        if blocks <= self._row:
            self._samples = np.concatenate([self._samples, samples])
            return np.empty(0, np.float32)
        tiles = -(-blocks // _TILE)
        silence = np.zeros(max(0, (tiles * _TILE - 1) * self._step + self._seen - size), np.float32)
        padded = np.concatenate([self._samples, samples, silence])
        output = self._filtered(padded, tiles)[self._row : blocks].reshape(-1)
        self._row = blocks % _TILE
        self._samples = padded[(blocks - self._row) * self._step : size].copy()
        self._made += output.size
        return output

    def finish(self) -> NDArray[np.float32]:
        """Return the rest, float32 [outputs], as if silence followed."""
        rest = -(-self._phases * self._given // self._step) - self._made
        return self.push(np.zeros(self._seen, np.float32))[:rest]

    def _filtered(self, samples: NDArray[np.float32], tiles: int) -> NDArray[np.float32]:
        """Return what whole tiles give, float32 [blocks, phases]."""
        output = np.empty((tiles * _TILE, self._phases), np.float32)
        for group in self._groups:
            seen = samples[self._before + group.first :]
            strides = (self._step * seen.itemsize, seen.itemsize)
            windows = as_strided(seen, (len(output), len(group.taps)), strides, writeable=False)
            with limited(1):
                for start in range(0, len(output), _TILE):
                    # BLAS takes no matrix with overlapping rows, so each tile is copied out.
                    tile = np.ascontiguousarray(windows[start : start + _TILE])
                    output[start : start + _TILE, group.phases] = tile @ group.taps
        return output


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


def _filters(step: int, phases: int) -> list[_Group]:
    """Return the filters for blocks of `step` samples that give `phases` outputs each.

    Those of usual rates are kept. Those of a rate with no factor in common with the model's take up to a GB, so that
    of these only the last are.
    """
    taps = 2 * _width(step, phases) + _PHASES * step // phases
    return (_usual_filters if phases * taps <= _USUAL else _large_filters)(step, phases)


def _width(step: int, phases: int) -> int:
    """Samples on each side that a filter sees."""
    return math.ceil(LOWPASS_FILTER_WIDTH * step / (min(step, phases) * ROLLOFF))


def _make_filters(step: int, phases: int) -> list[_Group]:
    from scipy.special import i0

    base, width = min(step, phases) * ROLLOFF, _width(step, phases)
    groups = []
    for start in range(0, phases, _PHASES):
        group = np.arange(start, min(start + _PHASES, phases))
        first = start * step // phases - width
        last = -(-int(group[-1]) * step // phases) + width
        distances = np.arange(first, last + 1)[:, None] / step - group / phases
        times = np.clip(distances * base, -LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
        window = i0(BETA * np.sqrt(1 - (times / LOWPASS_FILTER_WIDTH) ** 2)) / i0(BETA)
        taps = (np.sinc(times) * window * (base / step)).astype(np.float32)
        groups.append(_Group(slice(start, start + len(group)), first, taps))
    return groups


_usual_filters = lru_cache(16)(_make_filters)
_large_filters = lru_cache(1)(_make_filters)
