"""Clips of a batch, and parts of them, whose rows stand after one another, each clip's from a whole block on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mertric.kernels.sizes import BLOCK
from mertric.parting import even_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def whole_clips(states: Sequence[NDArray[np.float32]]) -> list[Part]:
    """Return the clips of a batch, whose hidden states [layers, frames, dim] go where they are to be."""
    clips: list[Part] = []
    for number, own in enumerate(states):
        begin = clips[-1].last if clips else 0
        clips.append(Part(number, own, begin, 0, -(-own.shape[1] // BLOCK)))
    return clips


class Part(NamedTuple):
    """Some blocks of a clip, or all.

    Attributes
    ----------
    clip
        Its number in the batch.
    states
        Where its hidden states go, [layers, frames, dim].
    begin
        The clip's first block among those of all clips.
    first_own, last_own
        Its first block among the clip's, and the one after its last.
    """

    clip: int
    states: NDArray[np.float32]
    begin: int
    first_own: int
    last_own: int

    @property
    def first(self) -> int:
        """Its first block among those of all clips."""
        return self.begin + self.first_own

    @property
    def blocks(self) -> int:
        """How many they are."""
        return self.last_own - self.first_own

    @property
    def last(self) -> int:
        """The one after its last."""
        return self.begin + self.last_own

    @property
    def frames(self) -> int:
        """Of the whole clip."""
        return int(self.states.shape[1])

    @property
    def start(self) -> int:
        """The first of its frames in the clip."""
        return self.first_own * BLOCK

    @property
    def inside(self) -> int:
        """Its frames, without what the last block has beyond the clip's end."""
        return min(self.frames, self.last_own * BLOCK) - self.start

    def split(self, most: int) -> list[Part]:
        """Return even parts of it, of so many blocks at most."""
        ends = even_parts(self.blocks, -(-self.blocks // most))
        return [self._replace(first_own=self.first_own + first, last_own=self.first_own + last) for first, last in ends]

    def of(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return its rows of an array that holds those of all clips."""
        return array[self.first * BLOCK : self.last * BLOCK]

    def keep(
        self, number: int, layers: tuple[int, ...], state: NDArray[np.float32], mean: NDArray[np.float32] | None
    ) -> None:
        """Put its rows of hidden state `number`, which is without a mean, where they go, if it was asked for."""
        if number in layers:
            own = self.states[layers.index(number), self.start : self.start + self.inside]
            own[:] = state[: self.inside]
            if mean is not None:
                own += mean
