"""Layers by columns: all rows take each operation together, and threads share its heads or columns.

For few rows: each thread reads its share of the weights only, and the shares are even.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from mertric.kernels.sizes import BLOCK
from mertric.parting import even_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mertric.amx.operations import Operations, Range
    from mertric.amx.parts import Part
    from mertric.amx.team import Team
    from mertric.amx.weights import Layer


class ByColumns:
    """Takes the clips of a batch through layers, see `mertric.amx.by_rows.ByRows`."""

    def __init__(self, operations: Operations, team: Team, state: NDArray[np.float32], clips: Sequence[Part]) -> None:
        self._operations, self._team = operations, team
        self._memory, self._rows = operations.memory(len(state)), operations.rows(state)
        self._all = 0, len(state) // BLOCK
        self._parts = [part for clip in clips for part in clip.split(1)]
        self._heads = list(product(clips, even_parts(operations.heads, min(operations.heads, team.threads))))
        self._columns = self._shares(state.shape[1])
        self._inner = self._shares(operations.inner)

    def advance(self, layer: Layer, keep: Callable[[Part], None]) -> None:
        """Take all rows through a layer, and call `keep` with parts of clips that are through."""
        operations, rows, each = self._operations, self._rows, self._team.each
        each(lambda part: operations.enter(layer, rows, _blocks(part)), self._parts)
        each(partial(self._attend, layer), self._heads)
        each(partial(operations.add_attended, layer, rows, self._all), self._columns)
        each(lambda part: operations.go_between(layer, rows, _blocks(part)), self._parts)
        each(partial(operations.activate, layer, rows, self._all), self._inner)
        each(partial(operations.add_activated, layer, rows, self._all), self._columns)
        each(partial(self._leave, layer, keep), self._parts)

    def _attend(self, layer: Layer, share: tuple[Part, Range]) -> None:
        clip, heads = share
        operations, rows, blocks = self._operations, self._rows, _blocks(clip)
        operations.remember(layer, rows, blocks, heads, self._memory, clip.begin)
        operations.attend(layer, rows, blocks, heads, self._memory, clip.begin, clip.frames)

    def _leave(self, layer: Layer, keep: Callable[[Part], None], part: Part) -> None:
        self._operations.leave(layer, self._rows, _blocks(part))
        keep(part)

    def _shares(self, columns: int) -> list[Range]:
        """Share columns evenly, in whole blocks."""
        blocks = columns // BLOCK
        return [(first * BLOCK, last * BLOCK) for first, last in even_parts(blocks, min(blocks, self._team.threads))]


def _blocks(part: Part) -> Range:
    """Return a part's blocks among those of all clips."""
    return part.first, part.last
