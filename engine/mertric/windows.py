"""Windows over long audio: an approximation whose cost grows with the length and not with its square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mertric.network import Network

BATCH = 4
"""Windows per run of the encoder."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Attention within windows instead of over the whole clip.

    Front end, normalisation and positions stay exact; only attention sees less. Each frame is taken from the window
    in which it stands farthest from an edge.

    Attributes
    ----------
    seconds : float
        Length of a window.
    overlap : float
        Share of a window that the next one sees too, from 0 to below 1.
    """

    seconds: float
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"a window of {self.seconds} s was asked for; expected more than 0.")
        if not 0 <= self.overlap < 1:
            raise InputError(f"an overlap of {self.overlap} was asked for; expected a share from 0 to below 1.")

    def states(
        self, network: Network, entry: NDArray[np.float32], layers: tuple[int, ...], *, frame_rate: float
    ) -> NDArray[np.float32]:
        """Return hidden states, float32 [layers, frames, dim], of what enters the first layer, [frames, dim]."""
        frames, dim = entry.shape
        length = max(1, round(self.seconds * frame_rate))
        if length >= frames:
            return network.states([entry], layers)[0]
        output = np.empty((len(layers), frames, dim), np.float32)
        spans = list(self._spans(frames, length))
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            results = network.states([entry[start : start + length] for start, _, _ in batch], layers)
            for (start, begin, end), states in zip(batch, results, strict=True):
                output[:, begin:end] = states[:, begin - start : end - start]
        return output

    def _spans(self, frames: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield where each window starts, and the first and the end of the frames that are taken from it."""
        hop = max(1, round(length * (1 - self.overlap)))
        starts = [*range(0, frames - length, hop), frames - length]
        begin = 0
        for index, start in enumerate(starts):
            last = index == len(starts) - 1
            end = frames if last else (starts[index + 1] + start + length) // 2
            yield start, begin, end
            begin = end
