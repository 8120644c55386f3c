"""From samples to what enters the first layer, a few frames at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mertric.fold import fold
from mertric.kernels.convolutions import write_windows
from mertric.kernels.dense import dense_add, dense_narrow, pack
from mertric.kernels.fourier import add_convolution
from mertric.kernels.fourier import memory as memory_of_transforms
from mertric.kernels.lines import empty, zeros
from mertric.kernels.norm import normalize, round_rows
from mertric.kernels.sizes import BLOCK, STEP
from mertric.native.weights import read_front_end
from mertric.parting import even_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.device import Device
    from mertric.fold import FoldedClip
    from mertric.kernels.factors import Array
    from mertric.native.kinds import Kinds
    from mertric.native.team import Team
    from mertric.native.weights import Norm


class FrontEnd:
    """The convolutions, the projection and the positional convolution. Safe to use from several threads.

    Parameters
    ----------
    bundle, device
        What runs where.
    chunk
        Frames in the convolutions at a time; None for the provider's own. Any number gives the same result; it bounds
        memory.
    kinds
        Of factors.
    team
        The threads.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int | None, kinds: Kinds, team: Team) -> None:
        self._bundle, self._kinds, self._team = bundle, kinds, team
        self._chunk = chunk or device.provider.chunk
        self._first = bundle.first_convolution()
        self._weights = read_front_end(bundle, device.graphs, kinds=kinds)
        self._channels = len(self._first.weight)
        self._steps = -(-(self._first.taps + 1) // STEP)
        self._epsilon = np.float32(bundle.layer_norm_epsilon)
        self._zeros = np.zeros(max(bundle.channels), np.float32)

    def entry(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what enters the first layer, float32 [frames, dim], for samples [samples] at the model's rate."""
        frames = self._bundle.frames(samples.size)
        clip = fold(self._first, samples)
        first = pack(clip.weights, self._kinds.first)
        features = empty((frames, self._bundle.dim), np.float32)
        chunks = -(-frames // self._chunk)
        chunks = min(frames, -(-chunks // self._team.threads) * self._team.threads)
        self._team.each(partial(self._convolve, clip, first, features), even_parts(frames, chunks))
        self._team.each(partial(self._add_positions, features), range(self._bundle.position_groups))
        if self._weights.entry is not None:
            norm = partial(self._normalize, self._weights.entry, features)
            self._team.each(norm, even_parts(frames, min(frames, self._team.threads)))
        return features

    def fix(self, frames: int) -> None:
        """Do nothing: all lengths are computed alike."""

    def memory(self, frames: int) -> int:
        """Return about how many bytes the activations of a clip of so many frames take."""
        rows = self._bundle.rows_per_frame * (min(frames, self._chunk * self._team.threads) + 1)
        kinds, width = self._kinds, self._bundle.dim // self._bundle.position_groups
        row = 3 * kinds.most.room(kinds.most.pitch(self._channels)) // 2 + kinds.first.room(self._steps * STEP)
        group = 4 * frames * width + memory_of_transforms(frames, width, self._bundle.position_taps)
        return rows * row + 8 * frames * self._bundle.dim + self._team.threads * group

    def _convolve(self, clip: FoldedClip, first: Array, features: NDArray[np.float32], chunk: tuple[int, int]) -> None:
        """Write the features of a chunk's frames, the one that it begins with to the one before its end."""
        weights, start, count = self._weights, chunk[0], chunk[1] - chunk[0]
        last = self._last_convolution(clip, first, start, count)
        stride = self._kinds.most.pitch(last.shape[1])
        narrow = self._kinds.most.empty(len(last) * stride)
        if weights.norm is None:
            round_rows(last, narrow, 0, stride)
        else:
            normalize(last, weights.norm.weight, weights.norm.bias, self._epsilon, False, narrow, 0, stride)
        projected = zeros((len(last), self._bundle.dim), np.float32)
        dense = weights.projection
        dense_add(
            *(narrow, 0, stride, dense.taps, dense.steps, count, dense.weight),
            *(0, dense.bias.size, dense.bias, False, projected.reshape(-1), 0, projected.shape[1]),
        )
        features[start : chunk[1]] = projected[:count]

    def _last_convolution(self, clip: FoldedClip, first: Array, start: int, count: int) -> NDArray[np.float32]:
        """Return what the last convolution gives for `count` frames from `start` on, in whole blocks of rows."""
        weights, rows, none, kind = self._weights, self._rows(count), self._zeros, self._kinds.most
        (samples,), columns = clip.samples, self._steps * STEP
        windows = self._kinds.first.empty(_whole(rows[0]) * columns)
        begin = start * self._bundle.rows_per_frame * clip.stride
        write_windows(samples, begin, clip.stride, clip.taps, columns, windows)
        stride = kind.pitch(self._channels)
        value = kind.empty(_needed(rows, 0) * stride)
        dense_narrow(
            *(windows, 0, columns, 1, self._steps, rows[0], first),
            *(0, self._channels, none, True, none, value, 0, stride),
        )
        for index, dense in enumerate(weights.convolutions[:-1], 1):
            wider = kind.pitch(dense.bias.size)
            following = kind.empty(_needed(rows, index) * wider)
            dense_narrow(
                *(value, 0, 2 * stride, dense.taps, dense.steps, rows[index], dense.weight),
                *(0, dense.bias.size, dense.bias, True, none, following, 0, wider),
            )
            value, stride = following, wider
        dense = weights.convolutions[-1]
        last = zeros((_whole(count), dense.bias.size), np.float32)
        dense_add(
            *(value, 0, 2 * stride, dense.taps, dense.steps, count, dense.weight),
            *(0, dense.bias.size, dense.bias, True, last.reshape(-1), 0, last.shape[1]),
        )
        return last

    def _add_positions(self, features: NDArray[np.float32], group: int) -> None:
        """Add a group of the positional convolution to features."""
        positions, bias = self._weights.positions, self._weights.positions.biases[group]
        begin, end = group * bias.size, (group + 1) * bias.size
        rows = features[:, begin:end].copy().reshape(-1)
        add_convolution(
            *(rows, self._bundle.position_taps, positions.spectra[group], positions.roots, bias),
            *(features.reshape(-1), begin, features.shape[1]),
        )

    def _normalize(self, norm: Norm, features: NDArray[np.float32], part: tuple[int, int]) -> None:
        """Normalise the features of a part of the frames in place."""
        own = features[slice(*part)]
        unused = self._kinds.most.empty(own.size)
        normalize(own, norm.weight, norm.bias, self._epsilon, True, unused, 0, own.shape[1])

    def _rows(self, count: int) -> list[int]:
        """Rows of each convolution, the first one's first, that so many frames see."""
        rows = [count]
        for dense in reversed(self._weights.convolutions):
            rows.append(2 * (rows[-1] - 1) + dense.taps)
        return rows[::-1]


def _needed(rows: Sequence[int], index: int) -> int:
    """Return how many rows a convolution gives in whole blocks, or, if more, such of the next one read.

    What stands beyond its own rows makes rows of the next one that nothing reads.
    """
    read = 2 * _whole(rows[index + 1]) + rows[index] - 2 * rows[index + 1]
    return max(_whole(rows[index]), read)


def _blocks(rows: int) -> int:
    return -(-rows // BLOCK)


def _whole(rows: int) -> int:
    """Round up to whole blocks."""
    return _blocks(rows) * BLOCK
