"""Normalisation folded into the first convolution: a clip's own weights for the front-end graph.

The first convolution is linear in windows of a few samples. The mean and variance over time of each of its
outputs follow from the mean and the covariance of those windows, so zero mean, unit variance and GroupNorm all
become weights and biases, and the front end that is left is local in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

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
    samples : float32 [samples]
        Zero mean and unit variance.
    weights : float32 [taps + 1, channels]
        The folded weights, and in the last row the biases.
    stride : int
        Samples between two windows.
    """

    samples: NDArray[np.float32]
    weights: NDArray[np.float32]
    stride: int

    def windows(self, start: int, rows: int) -> NDArray[np.float32]:
        """Return windows `start` to `start + rows` as float32 [rows, taps + 1], with a last column of ones.

        Windows that reach past the clip's end see zeros there.
        """
        taps = self.weights.shape[0] - 1
        first, needed = start * self.stride, (rows - 1) * self.stride + taps
        samples = self.samples[first : first + needed]
        if samples.size < needed:
            samples = np.concatenate([samples, np.zeros(needed - samples.size, np.float32)])
        step = samples.itemsize
        output = np.ones((rows, taps + 1), np.float32)
        output[:, :taps] = as_strided(samples, (rows, taps), (self.stride * step, step), writeable=False)
        return output


def fold(first: FirstConvolution, samples: NDArray[np.float32]) -> FoldedClip:
    """Normalise a clip and fold what follows the first convolution into it.

    With x the clip at zero mean and unit variance, u its windows, m and S their mean and covariance over time and
    w a channel's taps, GroupNorm of w.u + b is  g w.(u - m) / sqrt(w'Sw + e) + o : the bias b cancels.

    Parameters
    ----------
    samples : float32 [samples]
        At the model's rate, at least as many as the first convolution has taps.
    """
    mean = samples.mean(dtype=np.float64)
    normalized = samples - np.float32(mean)
    rest = mean - np.float64(np.float32(mean))
    blocks = (normalized[start : start + _BLOCK] for start in range(0, normalized.size, _BLOCK))
    variance = sum(np.square(block, dtype=np.float64).sum() for block in blocks) / normalized.size - rest**2
    scale = 1 / np.sqrt(variance + first.normalize_epsilon)
    normalized *= np.float32(scale)
    if first.scale is None or first.offset is None:
        # float32 holds the mean to 24 bits only: what is left of it is taken off here.
        weight, bias = first.weight, first.bias - rest * scale * first.weight.sum(axis=1)
    else:
        window_mean, covariance = _window_moments(normalized, first.taps, first.stride)
        power = np.einsum("ck,kl,cl->c", first.weight, covariance, first.weight)
        gain = first.scale / np.sqrt(np.maximum(power, 0) + first.norm_epsilon)
        weight = gain[:, None] * first.weight
        bias = first.offset - weight @ window_mean
    folded = np.concatenate([weight.T, bias[None]]).astype(np.float32)
    return FoldedClip(normalized, folded, first.stride)


def _window_moments(
    samples: NDArray[np.float32], taps: int, stride: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean [taps] and biased covariance [taps, taps] of a zero-mean signal's windows."""
    windows = sliding_window_view(samples, taps)[::stride]
    total = np.zeros(taps)
    products = np.zeros((taps, taps))
    for start in range(0, len(windows), _BLOCK):
        block = windows[start : start + _BLOCK].astype(np.float64)
        total += block.sum(axis=0)
        products += block.T @ block
    mean = total / len(windows)
    return mean, products / len(windows) - np.outer(mean, mean)
