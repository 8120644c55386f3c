"""From what enters the first layer to hidden states, for batches of clips of any lengths."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mertric.amx.by_columns import ByColumns
from mertric.amx.by_rows import ByRows
from mertric.amx.operations import Operations
from mertric.amx.parts import whole_clips
from mertric.amx.weights import read_layers
from mertric.kernels.lines import zeros
from mertric.kernels.sizes import BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric.amx.parts import Part
    from mertric.amx.team import Team
    from mertric.bundle import Bundle
    from mertric.device import Device

_MOST = {1: 12, 2: 6, 3: 6}
"""Blocks of rows, in so many pieces, that a thread takes through a layer at once."""
_FEW = 4
"""Blocks for each thread up to which layers go by columns."""


class Transformer:
    """The transformer layers. Safe to use from several threads.

    Parameters
    ----------
    bundle, device
        What runs where.
    pieces
        Of each number, see `mertric.kernels.bfloat16`.
    team
        The threads.
    """

    def __init__(self, bundle: Bundle, *, device: Device, pieces: int, team: Team) -> None:
        self._dim, self._most, self._team = bundle.dim, _MOST[pieces], team
        self._layers = read_layers(bundle, device.graphs, pieces=pieces)
        self._operations = Operations(bundle, pieces=pieces)

    def states(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run the layers over a batch of clips of any lengths, see `mertric.transformer.Transformer.states`."""
        found = [np.empty((len(layers), len(entry), self._dim), np.float32) for entry in entries]
        clips = whole_clips(found)
        blocks = clips[-1].last
        state = zeros((blocks * BLOCK, self._dim), np.float32)
        for clip, entry in zip(clips, entries, strict=True):
            clip.of(state)[: clip.frames] = entry
            clip.keep(0, layers, entry, None)
        if self._layers[0].mean is not None:
            state -= self._layers[0].mean
        run = self._run(state, clips)
        for number in range(1, max(layers) + 1):
            following = self._layers[number] if number < len(self._layers) else None
            mean = following.mean if following is not None else None
            run.advance(self._layers[number - 1], partial(self._keep, number, layers, state, mean))
        return found

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Do nothing: all batches are computed alike."""

    def memory(self, clips: int, frames: int, layers: int) -> int:
        """Return about how many bytes the activations of a batch take, the longest clip having so many frames."""
        operations, threads = self._operations, self._team.threads
        blocks = clips * -(-frames // BLOCK)
        own = operations.bytes_of_rows(self._most) + operations.bytes_of_attention(self._most, frames)
        return operations.bytes_of_memory(blocks) + blocks * BLOCK * self._dim * 4 * (2 + layers) + threads * own

    def _run(self, state: NDArray[np.float32], clips: Sequence[Part]) -> ByRows | ByColumns:
        """Choose how to share the rows among the threads."""
        blocks, threads = len(state) // BLOCK, self._team.threads
        if threads > 1 and blocks <= _FEW * threads:
            return ByColumns(self._operations, self._team, state, clips)
        return ByRows(self._operations, self._team, state, clips, min(self._most, -(-blocks // threads)))

    def _keep(
        self,
        number: int,
        layers: tuple[int, ...],
        state: NDArray[np.float32],
        mean: NDArray[np.float32] | None,
        part: Part,
    ) -> None:
        part.keep(number, layers, part.of(state), mean)
