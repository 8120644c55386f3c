"""Windows over long audio: an approximation whose cost grows with the length and not with its square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mertric.arguments import is_real
from mertric.errors import InputError
from mertric.parting import begins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric.network import Network

BATCH = 4
"""Windows per run of the encoder."""


class Span(NamedTuple):
    """A window, and the frames that are taken from it.

    Attributes
    ----------
    start
        The window's first frame.
    begin, end
        The first frame that is taken, and the one after the last.
    """

    start: int
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Attention within windows instead of over the whole clip.

    Front end, normalisation and positions stay exact; only attention sees less. Each frame is taken from the window
    in which it stands farthest from an edge. A `mertric.stream.Stream` has the same windows, but each is a clip of its
    own there.

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
        if not (is_real(self.seconds) and 0 < self.seconds < math.inf):
            raise InputError(f"a window of {self.seconds!r} s was asked for; expected more than 0, and not infinite.")
        if not (is_real(self.overlap) and 0 <= self.overlap < 1):
            raise InputError(f"an overlap of {self.overlap!r} was asked for; expected a share from 0 to below 1.")

    def states(
        self, network: Network, entry: NDArray[np.float32], layers: tuple[int, ...], *, frame_rate: float
    ) -> NDArray[np.float32]:
        """Return hidden states, float32 [layers, frames, dim], of what enters the first layer, [frames, dim]."""
        frames, dim = entry.shape
        length = self.length(frame_rate)
        output = np.empty((len(layers), frames, dim), np.float32)
        spans = self.spans(frames, length)
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            results = network.states([entry[span.start : span.start + length] for span in batch], layers)
            for span, states in zip(batch, results, strict=True):
                output[:, span.begin : span.end] = states[:, span.begin - span.start : span.end - span.start]
        return output

    def length(self, frame_rate: float) -> int:
        """Frames of a window, at `frame_rate` frames a second."""
        return max(1, round(self.seconds * frame_rate))

    def spans(self, frames: int, length: int) -> list[Span]:
        """Part `frames` frames among windows of `length`; the last window ends with the last frame.

        Frames that are no more than one window are one span.
        """
        starts = begins(frames, length, self._hop(length))
        ends = [(start + after + length) // 2 for start, after in pairwise(starts)]
        return [Span(*span) for span in zip(starts, [0, *ends], [*ends, frames], strict=True)]

    def settled(self, frames: int, length: int) -> list[Span]:
        """Return the spans that hold however many frames follow on `frames`.

        The last window of `spans` moves with the end. Where it stands at a whole number of hops it stays too, and
        keeps the frames of its first half: the next window starts one frame later at the earliest.
        """
        *settled, last = self.spans(frames, length)
        if frames >= length and last.start % self._hop(length) == 0:
            settled.append(last._replace(end=last.start + (length + 1) // 2))
        return settled

    def _hop(self, length: int) -> int:
        return max(1, round(length * (1 - self.overlap)))
