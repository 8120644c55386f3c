"""From what enters the first layer to hidden states, for batches of clips of any lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mertric.kernels.attention import SPAN, attend, pack_keys, pack_values
from mertric.kernels.dense import dense_add, dense_narrow
from mertric.kernels.lines import zeros
from mertric.kernels.norm import normalize, round_rows
from mertric.kernels.sizes import BLOCK
from mertric.native.parts import Part
from mertric.native.weights import read_layers
from mertric.parting import even_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.device import Device
    from mertric.kernels.factors import Array
    from mertric.native.kinds import Kinds
    from mertric.native.team import Team
    from mertric.native.weights import Dense, Norm

_LONG = 1 << 13
"""Rows from which on keys and values have one place: what a second takes is then more than what waiting costs."""
_MOST = {2: 12, 4: 6, 6: 6}
"""Blocks of rows, of so many bytes a number, that a thread takes through a layer at once."""
_FEW = 4
"""Blocks for each thread below which all may share each step."""


class _Step(NamedTuple):
    """What is to be done of `size` columns' blocks, heads or rows: `run` does it from one to another."""

    size: int
    run: Callable[[int, int], None]

    def over(self, span: tuple[int, int]) -> None:
        """Do a part of it."""
        self.run(*span)


@dataclass(frozen=True)
class _Room:
    """What a run works in: for all clips, each from a whole block on.

    Attributes
    ----------
    state : float32 [rows, dim]
        What enters or leaves a layer, the residual.
    queries : [pieces, rows * pitch]
    keys, values : [places, pieces, rows * dim]
        With two places, of layers with even and with odd numbers: some parts are in the next layer while others attend
        in this one. With one, they are written when all parts have attended in the layer before.
    """

    state: NDArray[np.float32]
    queries: Array
    keys: Array
    values: Array

    @property
    def places(self) -> int:
        """Layers whose keys and values there is room for."""
        return len(self.keys)


class Transformer:
    """The transformer layers. Safe to use from several threads.

    Parameters
    ----------
    bundle, device
        What runs where.
    kinds
        Of factors.
    team
        The threads.
    """

    def __init__(self, bundle: Bundle, *, device: Device, kinds: Kinds, team: Team) -> None:
        self._bundle, self._kinds, self._team = bundle, kinds, team
        self._layers, self._last = read_layers(bundle, device.graphs, kind=kinds.most)
        self._zeros = np.zeros(bundle.dim, np.float32)
        self._pitch = kinds.most.pitch(bundle.dim)
        self._epsilon = np.float32(bundle.layer_norm_epsilon)
        self._scale = np.float32((bundle.dim // bundle.heads) ** -0.5 * math.log2(math.e))

    def states(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run the layers over a batch of clips of any lengths, see `mertric.transformer.Transformer.states`."""
        dim = self._bundle.dim
        found = [np.empty((len(layers), len(entry), dim), np.float32) for entry in entries]
        blocks = sum(_blocks(states) for states in found)
        shared = self._shared(blocks)
        parts, rows = self._parts(found, 1 if shared else self._team.threads), blocks * BLOCK
        room = _Room(
            state=zeros((rows, dim), np.float32),
            queries=self._kinds.most.empty(rows * self._pitch),
            keys=self._kinds.most.empty(_places(rows), rows * dim),
            values=self._kinds.most.empty(_places(rows), rows * dim),
        )
        for part in parts:
            part.of(room.state)[: part.inside] = entries[part.clip][part.start : part.start + part.inside]
            part.keep(0, layers, part.of(room.state), None, 0, part.inside)
        run = self._share if shared else self._take
        for number in range(max(layers)):
            if number == 0 or room.places == 1:
                run(partial(self._enter, room, number), parts)
            run(partial(self._leave, room, number + 1, layers), parts)
        return found

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Do nothing: all batches are computed alike."""

    def memory(self, clips: int, frames: int, layers: int) -> int:
        """Return about how many bytes the activations of a batch take, the longest clip having so many frames."""
        rows = clips * -(-frames // BLOCK) * BLOCK
        dim, room, attended = self._bundle.dim, self._kinds.most.room, min(frames, SPAN * BLOCK)
        widest = self._kinds.most.pitch(self._layers[0].inner.bias.size) + self._pitch
        own = 4 * attended + room(attended) + _MOST[self._kinds.most.size] * room(widest)
        row = dim * (8 + 4 * layers) + 2 * _places(rows) * room(dim) + room(self._pitch)
        return rows * row + self._team.threads * BLOCK * own

    def _shared(self, blocks: int) -> bool:
        """Whether the threads are to share each step, as columns part more evenly among them than so few blocks."""
        threads, columns = self._team.threads, self._bundle.dim // BLOCK
        apart, together = -(-blocks // threads), blocks * -(-columns // threads) / columns
        return self._kinds.shared and blocks < _FEW * threads and together < apart

    def _parts(self, found: Sequence[NDArray[np.float32]], takers: int) -> list[Part]:
        """Part the blocks of clips, evenly among so many takers where there are few."""
        counts = [_blocks(states) for states in found]
        most = max(1, min(_MOST[self._kinds.most.size], -(-sum(counts) // takers)))
        parts, begin = [], 0
        for clip, (states, count) in enumerate(zip(found, counts, strict=True)):
            spans = even_parts(count, -(-count // most))
            parts += [Part(clip, states, begin, first, last) for first, last in spans]
            begin += count
        return parts

    def _take(self, steps: Callable[[Part], list[_Step]], parts: Sequence[Part]) -> None:
        """Have each part go through its steps in one thread."""

        def through(part: Part) -> None:
            for step in steps(part):
                step.over((0, step.size))

        self._team.each(through, parts)

    def _share(self, steps: Callable[[Part], list[_Step]], parts: Sequence[Part]) -> None:
        """Have all threads do their share of each step."""
        for part in parts:
            for step in steps(part):
                spans = even_parts(step.size, min(step.size, self._team.threads))
                self._team.each(step.over, spans)

    def _enter(self, room: _Room, number: int, part: Part) -> list[_Step]:
        """Get a part ready for layer `number`."""
        layer, state, narrow = self._layers[number], part.of(room.state), self._space(part)

        def begin(first: int, last: int) -> None:
            if number == 0 and layer.mean is not None:
                state[first:last] -= layer.mean
            if self._bundle.pre_norm:
                self._normalize(state, layer.first, narrow, first, last, replace=False)
            else:
                round_rows(state[first:last], narrow, first * self._pitch, self._pitch)

        return [_Step(len(state), begin), self._project(room, number, part, narrow)]

    def _leave(self, room: _Room, number: int, layers: tuple[int, ...], part: Part) -> list[_Step]:
        """Take a part through layer `number` - 1 to hidden state `number` and, given a second place, on to the next."""
        bundle, layer = self._bundle, self._layers[number - 1]
        following = self._layers[number] if number < bundle.layers else None
        state, narrow = part.of(room.state), self._space(part)
        inner, wide = layer.inner, self._kinds.most.pitch(layer.inner.bias.size)
        activated = self._kinds.most.empty(len(state) * wide)

        def attended(first: int, last: int) -> None:
            place = (number - 1) % room.places
            attend(
                *(room.queries, self._place(part), self._pitch, part.inside, bundle.heads, first, last),
                *(room.keys[place], room.values[place], len(room.state) // BLOCK, part.begin, part.frames),
                *(self._scale, narrow, 0),
            )

        def activate(first: int, last: int) -> None:
            dense_narrow(
                *(narrow, 0, self._pitch, inner.taps, inner.steps, part.inside, inner.weight),
                *(first * BLOCK, last * BLOCK, inner.bias, True, layer.inner_mean, activated, 0, wide),
            )

        def between(first: int, last: int) -> None:
            norm = layer.first if not bundle.pre_norm else layer.final
            self._normalize(state, norm, narrow, first, last, replace=not bundle.pre_norm)

        def end(first: int, last: int) -> None:
            if not bundle.pre_norm:
                self._normalize(state, layer.final, narrow, first, last, replace=True)
            elif following is not None:
                self._normalize(state, following.first, narrow, first, last, replace=False)
            elif self._last is not None:
                self._normalize(state, self._last, narrow, first, last, replace=True)
            part.keep(number, layers, state, following.mean if following is not None else None, first, last)

        steps = [
            _Step(bundle.heads, attended),
            _Step(bundle.dim // BLOCK, partial(_add, narrow, self._pitch, layer.out, state[: part.inside])),
            _Step(len(state), between),
            _Step(inner.bias.size // BLOCK, activate),
            _Step(bundle.dim // BLOCK, partial(_add, activated, wide, layer.outer, state[: part.inside])),
            _Step(len(state), end),
        ]
        if room.places > 1 and number < max(layers):
            steps.append(self._project(room, number, part, narrow))
        return steps

    def _project(self, room: _Room, number: int, part: Part, narrow: Array) -> _Step:
        """Write a part's queries, keys and values for layer `number`."""
        layer, dim, blocks = self._layers[number], self._bundle.dim, len(room.state) // BLOCK
        rows, place = (narrow, 0, self._pitch), number % room.places
        query, key, value = layer.query, layer.key, layer.value

        def project(first: int, last: int) -> None:
            span = first * BLOCK, last * BLOCK
            dense_narrow(
                *(*rows, query.taps, query.steps, part.inside, query.weight, *span),
                *(query.bias, False, self._zeros, room.queries, self._place(part), self._pitch),
            )
            pack_keys(
                *(*rows, key.steps, part.inside, key.weight, *span, blocks, part.first),
                *(self._bundle.heads, room.keys[place]),
            )
            pack_values(
                *(*rows, value.steps, part.inside, value.weight, *span, blocks, part.first, room.values[place]),
            )

        return _Step(dim // BLOCK, project)

    def _normalize(
        self, state: NDArray[np.float32], norm: Norm, narrow: Array, first: int, last: int, *, replace: bool
    ) -> None:
        """Write the LayerNorm of some rows as factors and, to `replace` them, over them."""
        to = first * self._pitch, self._pitch
        normalize(state[first:last], norm.weight, norm.bias, self._epsilon, replace, narrow, *to)

    def _space(self, part: Part) -> Array:
        """Return room for a part's rows as factors."""
        return self._kinds.most.empty(part.blocks * BLOCK * self._pitch)

    def _place(self, part: Part) -> int:
        """Where a part's rows begin among those of all clips, as factors."""
        return part.first * BLOCK * self._pitch


def _blocks(states: NDArray[np.float32]) -> int:
    """How many blocks the frames of states [layers, frames, dim] take."""
    return -(-int(states.shape[1]) // BLOCK)


def _places(rows: int) -> int:
    """How many layers' keys and values of so many rows to have room for."""
    return 2 if rows < _LONG else 1


def _add(rows: Array, stride: int, dense: Dense, state: NDArray[np.float32], first: int, last: int) -> None:
    """Add blocks of columns of a product of rows, and what goes with it, to the residual."""
    dense_add(
        *(rows, 0, stride, dense.taps, dense.steps, len(state), dense.weight),
        *(first * BLOCK, last * BLOCK, dense.bias, False, state.reshape(-1), 0, state.shape[1]),
    )
