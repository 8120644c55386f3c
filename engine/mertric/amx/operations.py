"""What a layer does to rows: each operation on some blocks of them and, but for norms, on some columns or heads.

An operation may run on other rows, columns or heads at the same time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mertric.kernels.attention import SPAN, attend, pack_keys, pack_values
from mertric.kernels.dense import dense_add, dense_narrow
from mertric.kernels.lines import empty, pitch
from mertric.kernels.norm import normalize, round_rows
from mertric.kernels.sizes import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric.amx.weights import Dense, Layer, Norm
    from mertric.bundle import Bundle

    Singles = NDArray[np.float32]
    Halves = NDArray[np.uint16]
    Range = tuple[int, int]


class Rows(NamedTuple):
    """Whole blocks of rows on their way through a layer.

    Attributes
    ----------
    state : float32 [rows, dim]
        The residual.
    narrow : uint16 [pieces, rows * pitch]
        What the next product reads.
    attended : uint16 [pieces, rows * pitch]
        Queries, and then what they attend to.
    activated : uint16 [pieces, rows * wide]
        What the first product of the feed-forward gives.
    """

    state: Singles
    narrow: Halves
    attended: Halves
    activated: Halves


class Memory(NamedTuple):
    """Keys and values of all rows in one layer, see `mertric.kernels.attention`: uint16 [pieces, rows * dim]."""

    keys: Halves
    values: Halves


class Operations:
    """The operations of a model's layers.

    Ranges are the first and the one after the last: of blocks of rows, of columns, in whole blocks, or of heads.

    Parameters
    ----------
    bundle
        The model's.
    pieces
        Of each number, see `mertric.kernels.bfloat16`.
    """

    def __init__(self, bundle: Bundle, *, pieces: int) -> None:
        self.dim, self.heads, self.inner = bundle.dim, bundle.heads, bundle.inner_dim
        self._pieces = pieces
        self._pitch, self._wide = pitch(self.dim), pitch(self.inner)
        self._zeros = np.zeros(self.dim, np.float32)
        self._epsilon = np.float32(bundle.layer_norm_epsilon)
        self._scale = np.float32((self.dim // self.heads) ** -0.5 * math.log2(math.e))

    def rows(self, state: Singles) -> Rows:
        """Return room for rows, whose residual is given."""
        narrow, attended, activated = (
            empty((self._pieces, len(state) * stride), np.uint16) for stride in (self._pitch, self._pitch, self._wide)
        )
        return Rows(state, narrow, attended, activated)

    def memory(self, rows: int) -> Memory:
        """Return room for the keys and values of so many rows."""
        keys, values = (empty((self._pieces, rows * self.dim), np.uint16) for _ in range(2))
        return Memory(keys, values)

    def bytes_of_rows(self, blocks: int) -> int:
        """Return how many bytes `rows` takes, but for the residual, for so many blocks."""
        return 2 * self._pieces * blocks * BLOCK * (2 * self._pitch + self._wide)

    def bytes_of_memory(self, blocks: int) -> int:
        """Return how many bytes `memory` takes for so many blocks."""
        return 4 * self._pieces * blocks * BLOCK * self.dim

    def bytes_of_attention(self, rows: int, frames: int) -> int:
        """Return how many bytes `attend` takes for so many blocks of rows and frames."""
        found = 4 * rows * BLOCK * self.dim // self.heads
        return found + (4 + 2 * self._pieces) * BLOCK * min(frames, SPAN * BLOCK)

    def enter(self, layer: Layer, rows: Rows, blocks: Range) -> None:
        """Write what the projections of a layer read."""
        if layer.before is not None:
            self._normalize(layer.before, rows, blocks, replace=False)
        else:
            state = rows.state[blocks[0] * BLOCK : blocks[1] * BLOCK]
            round_rows(state, rows.narrow, blocks[0] * BLOCK * self._pitch, self._pitch)

    def remember(self, layer: Layer, rows: Rows, blocks: Range, heads: Range, memory: Memory, block: int) -> None:
        """Write keys and values, as those from number `block` of all rows' blocks."""
        key, value, most = layer.key, layer.value, memory.keys.shape[1] // (self.dim * BLOCK)
        given = rows.narrow, blocks[0] * BLOCK * self._pitch, self._pitch, key.steps, blocks[1] - blocks[0]
        pack_keys(*given, key.weight, most, block, self.heads, *heads, memory.keys)
        pack_values(*given, value.weight, most, block, self.heads, *heads, memory.values)

    def attend(
        self, layer: Layer, rows: Rows, blocks: Range, heads: Range, memory: Memory, block: int, frames: int
    ) -> None:
        """Write queries, and over them what they attend to in a clip of `frames`, whose first block has that number."""
        width, at = self.dim // self.heads, blocks[0] * BLOCK * self._pitch
        query, most = layer.query, memory.keys.shape[1] // (self.dim * BLOCK)
        dense_narrow(
            *(rows.narrow, at, self._pitch, query.taps, query.steps, blocks[1] - blocks[0], query.weight),
            *(heads[0] * width, heads[1] * width, query.bias, False, self._zeros, rows.attended, at, self._pitch),
        )
        attend(
            *(rows.attended, at, self._pitch, blocks[1] - blocks[0], self.heads, *heads),
            *(*memory, most, block, frames, self._scale),
        )

    def add_attended(self, layer: Layer, rows: Rows, blocks: Range, columns: Range) -> None:
        """Add to the residual what was attended to."""
        self._add(rows.attended, self._pitch, layer.out, rows, blocks, columns)

    def go_between(self, layer: Layer, rows: Rows, blocks: Range) -> None:
        """Write what the feed-forward reads."""
        self._normalize(layer.between, rows, blocks, replace=layer.before is None)

    def activate(self, layer: Layer, rows: Rows, blocks: Range, columns: Range) -> None:
        """Write what the first product of the feed-forward gives."""
        inner = layer.inner
        dense_narrow(
            *(rows.narrow, blocks[0] * BLOCK * self._pitch, self._pitch, inner.taps, inner.steps),
            *(blocks[1] - blocks[0], inner.weight, *columns, inner.bias, True, layer.inner_mean),
            *(rows.activated, blocks[0] * BLOCK * self._wide, self._wide),
        )

    def add_activated(self, layer: Layer, rows: Rows, blocks: Range, columns: Range) -> None:
        """Add to the residual what the feed-forward gives."""
        self._add(rows.activated, self._wide, layer.outer, rows, blocks, columns)

    def leave(self, layer: Layer, rows: Rows, blocks: Range) -> None:
        """Make the residual the hidden state."""
        if layer.after is not None:
            self._normalize(layer.after, rows, blocks, replace=True)

    def _normalize(self, norm: Norm, rows: Rows, blocks: Range, *, replace: bool) -> None:
        """Write the LayerNorm of the residual in bfloat16 and, to `replace` it, over it."""
        state, at = rows.state[blocks[0] * BLOCK : blocks[1] * BLOCK], blocks[0] * BLOCK * self._pitch
        normalize(state, norm.weight, norm.bias, self._epsilon, replace, rows.narrow, at, self._pitch)

    def _add(self, read: Halves, stride: int, dense: Dense, rows: Rows, blocks: Range, columns: Range) -> None:
        """Add a product, and what goes with it, to the residual."""
        dense_add(
            *(read, blocks[0] * BLOCK * stride, stride, dense.taps, dense.steps, blocks[1] - blocks[0], dense.weight),
            *(*columns, dense.bias, False),
            *(rows.state.reshape(-1), blocks[0] * BLOCK * self.dim, self.dim),
        )
