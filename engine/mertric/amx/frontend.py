"""From samples to what enters the first layer, a few frames at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mertric.amx.weights import read_front_end
from mertric.fold import fold
from mertric.kernels.convolutions import round_columns, write_windows
from mertric.kernels.dense import dense_add, dense_narrow, pack
from mertric.kernels.lines import empty, pitch, zeros
from mertric.kernels.norm import normalize, round_rows
from mertric.kernels.sizes import BLOCK, STEP
from mertric.parting import even_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric.amx.team import Team
    from mertric.amx.weights import Norm
    from mertric.bundle import Bundle
    from mertric.device import Device
    from mertric.fold import FoldedClip


class FrontEnd:
    """The convolutions, the projection and the positional convolution. Safe to use from several threads.

    Parameters
    ----------
    bundle, device
        What runs where.
    chunk
        Frames in the convolutions at a time; None for the provider's own. Any number gives the same result; it bounds
        memory.
    pieces
        Of each number, see `mertric.kernels.bfloat16`.
    team
        The threads.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int | None, pieces: int, team: Team) -> None:
        self._bundle, self._pieces, self._team = bundle, pieces, team
        self._chunk = chunk or device.provider.chunk
        self._first = bundle.first_convolution()
        self._weights = read_front_end(bundle, device.graphs, pieces=pieces)
        self._channels = len(self._first.weight)
        # Two at least: a clip's folded weights are its own, and so would their roundings be (`FoldedClip.split`).
        self._first_pieces = max(2, pieces)
        self._steps = -(-(self._first.taps + 1) // STEP)
        self._epsilon = np.float32(bundle.layer_norm_epsilon)
        self._zeros = np.zeros(max(bundle.channels), np.float32)

    def entry(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what enters the first layer, float32 [frames, dim], for samples [samples] at the model's rate."""
        frames = self._bundle.frames(samples.size)
        clip = fold(self._first, samples)
        first = pack(clip.weights, self._first_pieces)
        whole = zeros((_whole(frames), self._bundle.dim), np.float32)
        features = whole[:frames]
        chunks = -(-frames // self._chunk)
        chunks = min(frames, -(-chunks // self._team.threads) * self._team.threads)
        self._team.each(partial(self._convolve, clip, first, features), even_parts(frames, chunks))
        self._team.each(partial(self._add_positions, whole, frames), range(len(self._weights.positions)))
        if self._weights.entry is not None:
            norm = partial(self._normalize, self._weights.entry, features)
            self._team.each(norm, even_parts(frames, min(frames, self._team.threads)))
        return features

    def fix(self, frames: int) -> None:
        """Do nothing: all lengths are computed alike."""

    def memory(self, frames: int) -> int:
        """Return about how many bytes the activations of a clip of so many frames take."""
        rows = self._bundle.rows_per_frame * (min(frames, self._chunk * self._team.threads) + 1)
        row = 3 * self._pieces * pitch(self._channels) + 2 * self._first_pieces * self._steps * STEP
        return rows * row + (8 + 2 * self._pieces) * frames * self._bundle.dim

    def _convolve(
        self, clip: FoldedClip, first: NDArray[np.uint16], features: NDArray[np.float32], chunk: tuple[int, int]
    ) -> None:
        """Write the features of a chunk's frames, the one that it begins with to the one before its end."""
        weights, start, count = self._weights, chunk[0], chunk[1] - chunk[0]
        last = self._last_convolution(clip, first, start, count)
        stride = pitch(last.shape[1])
        narrow = self._space(len(last) * stride)
        if weights.norm is None:
            round_rows(last, narrow, 0, stride)
        else:
            normalize(last, weights.norm.weight, weights.norm.bias, self._epsilon, False, narrow, 0, stride)
        projected = zeros((len(last), self._bundle.dim), np.float32)
        dense = weights.projection
        dense_add(
            *(narrow, 0, stride, dense.taps, dense.steps, _blocks(count), dense.weight),
            *(dense.bias.size, dense.bias, False, projected.reshape(-1), 0, projected.shape[1]),
        )
        features[start : chunk[1]] = projected[:count]

    def _last_convolution(
        self, clip: FoldedClip, first: NDArray[np.uint16], start: int, count: int
    ) -> NDArray[np.float32]:
        """Return what the last convolution gives for `count` frames from `start` on, in whole blocks of rows."""
        weights, rows, none = self._weights, self._rows(count), self._zeros
        (samples,), columns = clip.samples, self._steps * STEP
        windows = empty((len(first), _whole(rows[0]) * columns), np.uint16)
        begin = start * self._bundle.rows_per_frame * clip.stride
        write_windows(samples, begin, clip.stride, clip.taps, columns, windows)
        stride = pitch(self._channels)
        value = self._space(_needed(rows, 0) * stride)
        dense_narrow(
            *(windows, 0, columns, 1, self._steps, _blocks(rows[0]), first),
            *(self._channels, none, True, none, value, 0, stride),
        )
        for index, dense in enumerate(weights.convolutions[:-1], 1):
            wider = pitch(dense.bias.size)
            following = self._space(_needed(rows, index) * wider)
            dense_narrow(
                *(value, 0, 2 * stride, dense.taps, dense.steps, _blocks(rows[index]), dense.weight),
                *(dense.bias.size, dense.bias, True, none, following, 0, wider),
            )
            value, stride = following, wider
        dense = weights.convolutions[-1]
        last = zeros((_whole(count), dense.bias.size), np.float32)
        dense_add(
            *(value, 0, 2 * stride, dense.taps, dense.steps, _blocks(count), dense.weight),
            *(dense.bias.size, dense.bias, True, last.reshape(-1), 0, last.shape[1]),
        )
        return last

    def _add_positions(self, features: NDArray[np.float32], frames: int, group: int) -> None:
        """Add a group of the positional convolution to features, whole blocks of rows, `frames` of them the clip's."""
        dense, width, taps = self._weights.positions[group], self._weights.width, self._bundle.position_taps
        rows = zeros((self._pieces, (len(features) + taps) * width), np.uint16)
        round_columns(features[:frames], group * width, width, rows, taps // 2)
        dense_add(
            *(rows, 0, width, dense.taps, dense.steps, len(features) // BLOCK, dense.weight),
            *(width, dense.bias, True, features.reshape(-1), group * width, features.shape[1]),
        )

    def _normalize(self, norm: Norm, features: NDArray[np.float32], part: tuple[int, int]) -> None:
        """Normalise the features of a part of the frames in place."""
        own = features[slice(*part)]
        unused = np.empty((1, own.size), np.uint16)
        normalize(own, norm.weight, norm.bias, self._epsilon, True, unused, 0, own.shape[1])

    def _space(self, numbers: int) -> NDArray[np.uint16]:
        """Return room for numbers."""
        return empty((self._pieces, numbers), np.uint16)

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
