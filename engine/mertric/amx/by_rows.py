"""Layers by rows: a thread takes some through a whole layer, and they stay in its cache from product to product."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mertric.amx.operations import Operations
    from mertric.amx.parts import Part
    from mertric.amx.team import Team
    from mertric.amx.weights import Layer


class ByRows:
    """Takes the clips of a batch through layers.

    Parameters
    ----------
    operations, team
        The model's, and the threads.
    state : float32 [rows, dim]
        What enters the first layer; from then on, what leaves the last one.
    clips
        Whole ones.
    most
        Blocks that a thread takes at once.
    """

    def __init__(
        self, operations: Operations, team: Team, state: NDArray[np.float32], clips: Sequence[Part], most: int
    ) -> None:
        self._operations, self._team, self._state = operations, team, state
        self._memory = operations.memory(len(state))
        self._parts = [part for clip in clips for part in clip.split(most)]
        self._heads = 0, operations.heads

    def advance(self, layer: Layer, keep: Callable[[Part], None]) -> None:
        """Take all rows through a layer, and call `keep` with parts of clips that are through."""
        self._team.each(partial(self._remember, layer), self._parts)
        self._team.each(partial(self._take, layer, keep), self._parts)

    def _remember(self, layer: Layer, part: Part) -> None:
        operations, blocks = self._operations, (0, part.blocks)
        rows = operations.rows(part.of(self._state))
        operations.enter(layer, rows, blocks)
        operations.remember(layer, rows, blocks, self._heads, self._memory, part.first)

    def _take(self, layer: Layer, keep: Callable[[Part], None], part: Part) -> None:
        operations, blocks = self._operations, (0, part.blocks)
        rows, dim = operations.rows(part.of(self._state)), self._state.shape[1]
        operations.enter(layer, rows, blocks)
        operations.attend(layer, rows, blocks, self._heads, self._memory, part.begin, part.frames)
        operations.add_attended(layer, rows, blocks, (0, dim))
        operations.go_between(layer, rows, blocks)
        operations.activate(layer, rows, blocks, (0, operations.inner))
        operations.add_activated(layer, rows, blocks, (0, dim))
        operations.leave(layer, rows, blocks)
        keep(part)
