"""Distortion filters: the least-squares projection of signals on delayed versions of references.

Vincent, Gribonval, Févotte, "Performance measurement in blind audio source separation", IEEE TASLP 14(4),
2006. A signal y is projected on the span of x_i[t - l], i over the references and l = 0 .. taps - 1, all
signals being zero outside their samples. The normal equations are block-Toeplitz; their coefficients are
correlations, gathered here by FFT over short blocks, so that memory does not grow with the length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, linalg

from mertric.metrics.waveform import RESOLUTION, Float, Float64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FFT_SIZE = 4096
BLOCKS_AT_ONCE = 16


def fft_sizes(taps: int) -> tuple[int, int]:
    """FFT length for block convolution with `taps` taps, and the new samples that each block brings."""
    size = max(FFT_SIZE, fft.next_fast_len(8 * taps, real=True))
    return size, size - taps + 1


def zero_extended(signals: Float, start: int, stop: int) -> Float64:
    """Samples `start` to `stop` of signals [..., samples] in float64, zero outside the signals."""
    samples = signals.shape[-1]
    extended = np.zeros((*signals.shape[:-1], stop - start))
    first, last = max(start, 0), min(stop, samples)
    if first < last:
        extended[..., first - start : last - start] = signals[..., first:last]
    return extended


def windows(read: Callable[[int, int], Float64], start: int, stop: int, taps: int) -> Iterator[Float64]:
    """Windows of FFT length that begin at `start`, one step of new samples later, and so on before `stop`.

    Yields float64 [signals, windows, FFT length] for several windows at once.
    """
    size, step = fft_sizes(taps)
    for begin in range(start, stop, BLOCKS_AT_ONCE * step):
        count = min(BLOCKS_AT_ONCE, -(-(stop - begin) // step))
        chunk = read(begin, begin + count * step + taps - 1)
        yield np.lib.stride_tricks.sliding_window_view(chunk, size, axis=1)[:, ::step]


def correlations(read: Callable[[int, int], Float64], samples: int, inputs: int, targets: int, taps: int) -> Float64:
    """Correlations of references and targets with delayed versions of the references.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives float64 [inputs + targets, stop - start], zero from `samples` on.
    samples : int
        Length of the signals.
    inputs, targets : int
        Number of references, which come first, and of targets.
    taps : int
        Number of lags.

    Returns
    -------
    numpy.ndarray
        float64 [inputs, inputs + targets, taps]: entry (i, j, l) is the sum over t of ``x_i[t - l] x_j[t]``.
    """
    size, step = fft_sizes(taps)
    spectra = np.zeros((size // 2 + 1, inputs, inputs + targets), np.complex128)
    for blocks in windows(read, 0, samples, taps):
        late = fft.rfft(blocks, axis=2).transpose(2, 1, 0)
        early = fft.rfft(blocks[:inputs, :, :step], n=size, axis=2).transpose(2, 0, 1)
        spectra += np.matmul(np.conj(early, order="C"), np.ascontiguousarray(late))
    result: Float64 = fft.irfft(spectra, n=size, axis=0)[:taps].transpose(1, 2, 0)
    return result


def solve_filters(correlation: Float64) -> Float64:
    """Filters of the least-squares projection, from the correlations.

    References are scaled to unit energy, and those 200 dB below the loudest are left out (their filters are
    zero). The equations are solved by Cholesky factorisation as they stand; only if they are singular in
    float64 (references band-limited below rounding, or linearly dependent) is 1e-12, then 1e-10 of the
    diagonal added to it, which among filters that do equally well picks small ones.

    Parameters
    ----------
    correlation : numpy.ndarray
        float64 [inputs, inputs + targets, taps] as `correlations` gives them.

    Returns
    -------
    numpy.ndarray
        float64 [targets, inputs, taps]: the filters that, run over the references and summed, come nearest
        to each target.
    """
    inputs, signals, taps = correlation.shape
    targets = signals - inputs
    filters = np.zeros((targets, inputs, taps))
    energies = correlation[np.arange(inputs), np.arange(inputs), 0]
    sounding = np.flatnonzero(energies > RESOLUTION * energies.max(initial=0.0))
    if sounding.size == 0:
        return filters
    scale = np.sqrt(energies[sounding])
    gram = _gram(correlation[np.ix_(sounding, sounding)] / np.multiply.outer(scale, scale)[..., None])
    sides = correlation[sounding, inputs:] / scale[:, None, None]
    sides = sides.transpose(0, 2, 1).reshape(len(gram), targets)
    solution = _solve(gram, sides).reshape(sounding.size, taps, targets)
    filters[:, sounding] = (solution / scale[:, None, None]).transpose(2, 0, 1)
    return filters


def _gram(correlation: Float64) -> Float64:
    """Block-Toeplitz matrix [inputs * taps] squared; entry (i, a), (j, b) is the correlation at lag a - b."""
    inputs, _, taps = correlation.shape
    gram = np.empty((inputs, taps, inputs, taps))
    for i in range(inputs):
        for j in range(inputs):
            gram[i, :, j] = linalg.toeplitz(correlation[i, j], correlation[j, i])
    return gram.reshape(inputs * taps, inputs * taps)


def _solve(gram: Float64, sides: Float64) -> Float64:
    diagonal = np.arange(len(gram))
    for ridge in (0.0, 1e-12, 1e-10):
        gram[diagonal, diagonal] = 1.0 + ridge
        try:
            factor = linalg.cho_factor(gram, check_finite=False)
        except linalg.LinAlgError:
            continue
        solution: Float64 = linalg.cho_solve(factor, sides, check_finite=False)
        return solution
    return np.linalg.lstsq(gram, sides, rcond=None)[0].astype(np.float64)
