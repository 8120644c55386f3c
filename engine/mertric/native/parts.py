"""What one thread takes through a layer at a time: some rows of one clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mertric.kernels.sizes import BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Part(NamedTuple):
    """Some blocks of a clip.

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

    def of(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return its rows of an array that holds those of all clips."""
        return array[self.first * BLOCK : (self.first + self.blocks) * BLOCK]

    def keep(
        self,
        number: int,
        layers: tuple[int, ...],
        state: NDArray[np.float32],
        mean: NDArray[np.float32] | None,
        first: int,
        last: int,
    ) -> None:
        """Put rows of hidden state `number`, which is without a mean, where they go, if it was asked for.

        Of the part's they are those from `first` to before `last`.
        """
        last = min(last, self.inside)
        if number in layers and first < last:
            own = self.states[layers.index(number), self.start + first : self.start + last]
            own[:] = state[first:last]
            if mean is not None:
                own += mean
