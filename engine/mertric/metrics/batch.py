"""Fréchet distances of many pairs and layers, over all cores, each embedding prepared once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import InputError
from mertric.metrics.frechet import distance
from mertric.metrics.parallel import map_threads
from mertric.metrics.prepared import PreparedEmbedding, prepare
from mertric.metrics.validation import layers, same_dim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def frechet_distances(
    references: Sequence[ArrayLike | PreparedEmbedding],
    estimates: Sequence[ArrayLike | PreparedEmbedding],
    *,
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Fréchet Audio Distance of every reference and the estimate beside it.

    An array that stands several times in `references` (one reference, many estimates) is prepared once, and
    let go after its last pair.

    Parameters
    ----------
    references, estimates : sequences of equal length
        Each element an array [frames, dim] or [layers, frames, dim], or a PreparedEmbedding. All pairs have
        the same number of layers; frames may differ.
    workers
        Number of threads, one pair and layer each; None for one a core. BLAS takes what is left
        of the cores meanwhile.

    Returns
    -------
    float64 [pairs], or [pairs, layers] where embeddings have three axes

    Raises
    ------
    InputError
        As `frechet_distance`, with the pair's number; sequences or layers that do not match.
    """
    if len(references) != len(estimates):
        raise InputError(
            f"got {len(references)} references and {len(estimates)} estimates; "
            "expected one reference for each estimate."
        )
    pairs = [_Pair.of(i, *pair) for i, pair in enumerate(zip(references, estimates, strict=True))]
    if not pairs:
        return np.empty(0)
    for pair in pairs:
        if pair.layers != pairs[0].layers:
            raise InputError(
                f"pair {pair.number} has {_named(pair.layers)} and pair 0 has {_named(pairs[0].layers)}; "
                "expected the same layers for all pairs."
            )
    rows = range(pairs[0].layers or 1)
    shared = _Shared(Counter(key for pair in pairs for layer in rows for key in pair.keys(layer)))
    tasks = [(pair, layer) for pair in pairs for layer in rows]
    values = map_threads(lambda task: _distance(*task, shared), tasks, workers=workers)
    table = np.array(values).reshape(len(pairs), len(rows))
    return table[:, 0] if pairs[0].layers is None else table


@dataclass(frozen=True, eq=False)
class _Pair:
    number: int
    reference: NDArray[Any] | PreparedEmbedding
    estimate: NDArray[Any] | PreparedEmbedding
    sources: tuple[object, object]
    """The objects given, kept so that no other gets their identity."""
    layers: int | None

    @classmethod
    def of(
        cls, number: int, reference: ArrayLike | PreparedEmbedding, estimate: ArrayLike | PreparedEmbedding
    ) -> _Pair:
        x, y = _checked(reference, f"reference {number}"), _checked(estimate, f"estimate {number}")
        counts = [None if isinstance(e, PreparedEmbedding) or e.ndim == 2 else len(e) for e in (x, y)]
        if counts[0] != counts[1]:
            raise InputError(
                f"reference {number} has {_named(counts[0])} and estimate {number} has {_named(counts[1])}; "
                "expected the same layers of both."
            )
        return cls(number, x, y, (reference, estimate), counts[0])

    def keys(self, layer: int) -> tuple[tuple[int, int], tuple[int, int]]:
        return (id(self.sources[0]), layer), (id(self.sources[1]), layer)


@dataclass(eq=False)
class _Shared:
    """Prepared embeddings of arrays that are still needed."""

    uses: Counter[tuple[int, int]]
    ready: dict[tuple[int, int], PreparedEmbedding] = field(default_factory=dict)
    locks: dict[tuple[int, int], Lock] = field(default_factory=dict)
    guard: Lock = field(default_factory=Lock)

    def take(
        self, key: tuple[int, int], source: NDArray[Any] | PreparedEmbedding, layer: int, name: str
    ) -> PreparedEmbedding:
        if isinstance(source, PreparedEmbedding):
            return source
        with self.guard:
            lock = self.locks.setdefault(key, Lock())
        with lock:
            prepared = self.ready.get(key)
            if prepared is None:
                prepared = prepare(source if source.ndim == 2 else source[layer], name=name)
            self.uses[key] -= 1
            if self.uses[key] > 0:
                self.ready[key] = prepared
            else:
                self.ready.pop(key, None)
        return prepared


def _distance(pair: _Pair, layer: int, shared: _Shared) -> float:
    names = (f"reference {pair.number}", f"estimate {pair.number}")
    keys = pair.keys(layer)
    x = shared.take(keys[0], pair.reference, layer, names[0])
    y = shared.take(keys[1], pair.estimate, layer, names[1])
    same_dim(x.dim, y.dim, *names)
    return distance(x, y)


def _checked(x: ArrayLike | PreparedEmbedding, name: str) -> NDArray[Any] | PreparedEmbedding:
    return x if isinstance(x, PreparedEmbedding) else layers(x, name, least=2)


def _named(count: int | None) -> str:
    return "one embedding" if count is None else f"{count} layers"
