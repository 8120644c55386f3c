"""References that many estimates are scored against: embedded once, and found again by their content."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mertric.arguments import is_real
from mertric.errors import InputError
from mertric.metrics.prepared import PreparedEmbedding, prepare
from mertric.protocol import get_protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mertric.audio import Given
    from mertric.encoder import Encoder
    from mertric.protocol import Protocol

CAPACITY_BYTES = 1 << 30
"""Unless said otherwise: some 350 references of 5 s, of MERT-v1-95M."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the metrics need of a reference. It is shared: not to be written to.

    Attributes
    ----------
    states : float16 or float32 [frames, dim]
        The hidden state, rounded as the protocol says.
    layer : int
        Which one it is.
    prepared : PreparedEmbedding
        For Fréchet distances.
    silent : bool
        Its samples, as the protocol rounds them, are all zero.
    """

    states: NDArray[np.float16] | NDArray[np.float32]
    layer: int
    prepared: PreparedEmbedding
    silent: bool

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.states.nbytes + self.prepared.mean.nbytes + self.prepared.root.nbytes


class _Key(NamedTuple):
    """What a reference is found by: the SHA-256 of its samples as the encoder takes them, and how it is embedded."""

    digest: str
    layer: int
    protocol: str


class References:
    """References kept for `mertric.score`. Safe to use from several threads; each reference is computed once.

    They are told apart by what is in them and not by their path: a file that changes is embedded again, the same
    audio under another name is not. Past the capacity, those go first that were not asked for the longest.

    Parameters
    ----------
    encoder
        From `mertric.load`.
    capacity_bytes : int
        Memory for what is kept; 0 keeps nothing.

    Raises
    ------
    InputError
        The capacity is below 0.
    """

    def __init__(self, encoder: Encoder, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        if not (is_real(capacity_bytes) and capacity_bytes >= 0):
            raise InputError(f"capacity_bytes is {capacity_bytes!r}; expected 0 or more.")
        self.encoder = encoder
        self._capacity = capacity_bytes
        self._lock = threading.Lock()
        self._known: dict[_Key, Future[Reference]] = {}  # that last asked for stands last

    def get(
        self,
        audio: Given,
        *,
        sample_rate: int | None = None,
        layer: int | None = None,
        protocol: str = "paper",
    ) -> Reference:
        """Return a reference as the metrics need it, from memory where it is there. Takes what `mertric.score` takes.

        Raises
        ------
        AudioError
            The reference cannot be read, is empty, not finite or too short.
        InputError
            It has one frame only, or the layer or the protocol is not known.
        """
        rules = get_protocol(protocol)
        if layer is not None and not hasattr(layer, "__index__"):
            raise InputError(f"layer is {layer!r}; expected a number from 0 to {self.encoder.layers}, or None.")
        (chosen,) = self.encoder.check_layers(None if layer is None else (layer,))
        samples = self.encoder.read(audio, sample_rate, rules).copy()  # what was hashed is what is embedded
        key = _Key(hashlib.sha256(samples.data).hexdigest(), chosen, rules.name)
        with self._lock:
            known = self._known.pop(key, None)
            future = self._known[key] = known or Future()
        if known is None:
            try:
                future.set_result(self._compute(samples, chosen, rules))
            except BaseException as error:
                with self._lock:
                    del self._known[key]
                future.set_exception(error)
            self._make_room()
        return future.result()

    def _compute(self, samples: NDArray[np.float32], layer: int, rules: Protocol) -> Reference:
        states = rules.finish(self.encoder.embed_samples(samples, layers=(layer,)).hidden[0])
        return Reference(states, layer, prepare(states, name="the reference"), silent=not samples.any())

    def _make_room(self) -> None:
        """Let references go until the rest fits: first those that never would, then the longest not asked for."""
        with self._lock:
            sizes = {key: future.result().nbytes for key, future in self._known.items() if future.done()}
            excess = sum(sizes.values()) - self._capacity
            for key in sorted(sizes, key=lambda key: sizes[key] <= self._capacity):
                if excess > 0:
                    excess -= sizes[key]
                    del self._known[key]
