"""Normalisation folded into the first convolution: a clip's own weights for the front-end graph.

The first convolution is linear in windows of a few samples. The mean and variance over time of each of its
outputs follow from the mean and the covariance of those windows, so zero mean, unit variance and GroupNorm all
become weights and biases, and the front end that is left is local in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mertric.blas import limited

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 16
"""Samples per block of the variance, and windows of the covariance: bounds memory in float64 at any length."""


@dataclass(frozen=True, kw_only=True)
class FirstConvolution:
    """The first convolution and what normalises before and after it.

    Attributes
    ----------
    weight : float64 [channels, taps]
    bias : float64 [channels]
    stride : int
        Samples.
    normalize_epsilon : float
        Added to a clip's variance before the square root.
    scale, offset : float64 [channels] or None
        GroupNorm with one group per channel; None where LayerNorm follows, which stands in the graph.
    norm_epsilon : float
        GroupNorm's epsilon.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    stride: int
    normalize_epsilon: float
    scale: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None
    norm_epsilon: float

    @property
    def taps(self) -> int:
        """Samples in a window."""
        return int(self.weight.shape[1])


@dataclass(frozen=True)
class FoldedClip:
    """A clip and its own first convolution.

    Attributes
    ----------
    samples : tuple of float32 [samples]
        What each `taps` columns of the windows are taken from: the clip at zero mean and unit variance, or parts of it.
    weights : float32 [columns, channels]
        The folded weights, for each of `samples` in turn, and in the rows that are left the biases.
    taps : int
        Samples in a window.
    stride : int
        Samples between two windows.
    """

    samples: tuple[NDArray[np.float32], ...]
    weights: NDArray[np.float32]
    taps: int
    stride: int

    def windows(self, start: int, rows: int) -> NDArray[np.float32]:
        """Return windows `start` to `start + rows` as float32 [rows, columns], with ones for the biases.

        Windows that reach past the clip's end see zeros there.
        """
        output = np.ones((rows, len(self.weights)), np.float32)
        first, needed = start * self.stride, (rows - 1) * self.stride + self.taps
        for index, samples in enumerate(self.samples):
            part = samples[first : first + needed]
            if part.size < needed:
                part = np.concatenate([part, np.zeros(needed - part.size, np.float32)])
            step = part.itemsize
            columns = slice(index * self.taps, (index + 1) * self.taps)
            steps = (self.stride * step, step)
            output[:, columns] = as_strided(part, (rows, self.taps), steps, writeable=False)
        return output

    def split(self) -> FoldedClip:
        """Return the same for a product that rounds its factors to bfloat16, as exact as twice its bits allow.

        With h what bfloat16 keeps of a number and l what it leaves of it, xw = (h + l)(h' + l') = hh' + hl' + lh', but
        for ll', which is too small to matter. A clip's weights are its own, and so would their roundings be, which
        move the metrics more than those of all that follows in the front end.
        """
        (samples,) = self.samples
        high, low = _halves(samples)
        kernel_high, kernel_low = _halves(self.weights[: self.taps])
        weights = [kernel_high, kernel_low, kernel_high, *_halves(self.weights[self.taps :])]
        return FoldedClip((high, high, low), np.concatenate(weights), self.taps, self.stride)


def _halves(numbers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return numbers rounded to bfloat16, the upper half of their bits, and what that leaves of them."""
    high = ((numbers.view(np.uint32) + np.uint32(1 << 15)) & np.uint32(0xFFFF0000)).view(np.float32)
    return high, numbers - high


def fold(first: FirstConvolution, samples: NDArray[np.float32]) -> FoldedClip:
    """Normalise a clip and fold what follows the first convolution into it.

    With x the clip at zero mean and unit variance, u its windows, m and S their mean and covariance over time and
    w a channel's taps, GroupNorm of w.u + b is  g w.(u - m) / sqrt(w'Sw + e) + o : the bias b cancels.

    Parameters
    ----------
    samples : float32 [samples]
        At the model's rate, at least as many as the first convolution has taps.
    """
    with limited(1):
        normalized, rest, scale = _normalize(first, samples)
        if first.scale is None or first.offset is None:
            # float32 holds the mean to 24 bits only: what is left of it is taken off here.
            weight, bias = first.weight, first.bias - rest * scale * first.weight.sum(axis=1)
        else:
            window_mean, covariance = _window_moments(normalized, first.taps, first.stride)
            power = np.sum(first.weight @ covariance * first.weight, axis=1)
            gain = first.scale / np.sqrt(np.maximum(power, 0) + first.norm_epsilon)
            weight = gain[:, None] * first.weight
            bias = first.offset - weight @ window_mean
    folded = np.concatenate([weight.T, bias[None]]).astype(np.float32)
    return FoldedClip((normalized,), folded, first.taps, first.stride)


def _normalize(first: FirstConvolution, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
    """Bring a clip to zero mean and unit variance; return it, what is left of its mean, and what it was scaled by."""
    mean = samples.mean(dtype=np.float64)
    normalized = samples - np.float32(mean)
    rest = float(mean - np.float64(np.float32(mean)))
    blocks = (normalized[start : start + _BLOCK].astype(np.float64) for start in range(0, normalized.size, _BLOCK))
    variance = sum(float(block @ block) for block in blocks) / normalized.size - rest**2
    scale = float(1 / np.sqrt(variance + first.normalize_epsilon))
    normalized *= np.float32(scale)
    return normalized, rest, scale


def _window_moments(
    samples: NDArray[np.float32], taps: int, stride: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean [taps] and biased covariance [taps, taps] of a zero-mean signal's windows."""
    count = (samples.size - taps) // stride + 1
    reached = -(-taps // stride)
    total = np.zeros(reached * stride)
    products = np.zeros((reached * stride, reached * stride))
    for start in range(0, count, _BLOCK):
        windows = min(_BLOCK, count - start)
        phases = _phases(samples[start * stride :], stride, windows + reached - 1)
        # A product of two arrays: of one with itself NumPy lets BLAS compute one half, which is slow for few rows.
        parts, others = ([one[:, i : i + windows] for i in range(reached)] for one in (phases, phases.copy()))
        total += np.concatenate([part.sum(axis=1) for part in parts])
        products += np.block([[part @ other.T for other in others] for part in parts])
    mean = total[:taps] / count
    return mean, products[:taps, :taps] / count - np.outer(mean, mean)


def _phases(samples: NDArray[np.float32], stride: int, count: int) -> NDArray[np.float64]:
    """Return samples [i * stride + p] as float64 [p, i], for so many `i`; past the end there are zeros."""
    phases = np.zeros((stride, count))
    whole, rest = divmod(min(samples.size, count * stride), stride)
    phases[:, :whole] = samples[: whole * stride].reshape(whole, stride).T
    phases[:rest, whole : whole + 1] = samples[whole * stride : whole * stride + rest, None]
    return phases
