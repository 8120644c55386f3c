"""From what enters the first layer to hidden states: the encoder graphs of a bundle, on batches of any lengths."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mertric.bundle import encoder_graph
from mertric.providers import BATCH, FRAMES, PROVIDERS
from mertric.rows import stacked
from mertric.session import Session
from mertric.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.device import Device


class _Key(NamedTuple):
    """What one session is for; `clips` and `frames` are 0 where they may vary."""

    variant: str
    layers: tuple[int, ...]
    clips: int = 0
    frames: int = 0


class Transformer:
    """The transformer layers. Safe to use from several threads.

    Sessions are opened at their first use: one for each set of hidden states that is asked for, and each kind of
    batch.

    Parameters
    ----------
    bundle, device
        What runs where.
    attention
        ``fused``, ``portable`` or ``pointwise``, see `mertric_export.transformer`.

    Notes
    -----
    ``fused`` graphs take clips of one length; where a batch has several, its clips run one after the other.
    """

    def __init__(self, bundle: Bundle, *, device: Device, attention: str) -> None:
        self._bundle = bundle
        self._device = device
        self._attention = attention
        self._sessions: Sessions[_Key] = Sessions(partial(_open, bundle, device))
        self._unbounded: Transformer | None = None
        self._lock = threading.Lock()

    def states(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run the layers over a batch of clips of any lengths.

        Parameters
        ----------
        entries
            From `FrontEnd.entry`, each [frames, dim].
        layers
            Hidden states to return.

        Returns
        -------
        list of float32 [layers, frames, dim]
            For each clip what it would give alone.
        """
        longest = max(len(entry) for entry in entries)
        if self._device.provider.name == "tensorrt" and (longest > FRAMES[2] or len(entries) > BATCH):
            return self._beyond_profiles().states(entries, layers)
        unequal = any(len(entry) < longest for entry in entries)
        if unequal and self._attention == "fused":
            return [self.states([entry], layers)[0] for entry in entries]
        deeper = _deeper(layers)
        outputs = dict(zip(deeper, self._run(entries, deeper), strict=True)) if deeper else {}
        return [
            stacked([entry if layer == 0 else outputs[layer][index, : len(entry)] for layer in layers])
            for index, entry in enumerate(entries)
        ]

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Open a session for batches of just so many clips and frames, where the provider gains from it.

        Raises
        ------
        ProviderError
            The provider cannot. Batches then run as they would without it.
        """
        key = self._fixed(clips, frames, _deeper(layers))
        if key is not None and key.layers:
            self._sessions.open(key)

    def memory(self, clips: int, frames: int, layers: int) -> int:
        """Return about how many bytes the activations of a batch take, the longest clip having so many frames.

        At the widest there are a layer's input and output, queries, keys, values and what is attended to, and the
        feed-forward's inner dimension, four times as wide, before and after its GELU; beside them stand the hidden
        states asked for. The frames x frames matrix is not counted: no graph that the providers choose forms it, but
        TensorRT's.
        """
        wide = (6 + 2 * 4 + layers) * self._bundle.dim * np.dtype(np.float32).itemsize
        return clips * self._device.padded(frames) * wide

    def _run(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run clips padded to one length: for each layer float32 [batch, frames, dim]."""
        key = self._fixed(len(entries), max(len(entry) for entry in entries), layers)
        if key is None or key not in self._sessions:
            key = _Key(self._attention, layers)
        return self._sessions.open(key).run(self._inputs(key, entries))

    def _inputs(self, key: _Key, entries: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        """Pad a batch as its session takes it."""
        lengths = np.array([len(entry) for entry in entries], np.int32)
        if key.variant == "fused":
            return {"state_0": _batch(entries, lengths.max())}
        return {"state_0": _batch(entries, self._device.padded(lengths.max())), "lengths": lengths}

    def _beyond_profiles(self) -> Transformer:
        """Return what runs batches that TensorRT's engines are not built for: the same on CUDA."""
        with self._lock:
            if self._unbounded is None:
                device = replace(self._device, provider=PROVIDERS["cuda"])
                self._unbounded = Transformer(self._bundle, device=device, attention=device.provider.attention)
            return self._unbounded

    def _fixed(self, clips: int, frames: int, layers: tuple[int, ...]) -> _Key | None:
        """Name the session with fixed shapes that a batch could run in, if the provider has any use for one."""
        variant = self._device.fixed_attention
        return None if variant is None else _Key(variant, layers, clips, self._device.padded(frames))


def _open(bundle: Bundle, device: Device, key: _Key) -> Session:
    """Open a session. No method: an object must not be kept by the sessions that it keeps."""
    states = tuple((batch, frames, bundle.dim) for batch, frames in zip((1, 1, BATCH), FRAMES, strict=True))
    return Session(
        bundle.graphs(device.graphs) / encoder_graph(key.variant),
        [f"state_{layer}" for layer in key.layers],
        device=device,
        profiles={"state_0": (states[0], states[1], states[2]), "lengths": ((1,), (1,), (BATCH,))},
        sizes={"batch": key.clips, "frames": key.frames} if key.frames else {},
    )


def _deeper(layers: tuple[int, ...]) -> tuple[int, ...]:
    """Return the set of hidden states without number 0, which is what enters the first layer, in order."""
    return tuple(sorted({layer for layer in layers if layer > 0}))


def _batch(entries: Sequence[NDArray[np.float32]], frames: int) -> NDArray[np.float32]:
    """Pad clips to one length, without a copy where there is one that has it: float32 [batch, frames, dim]."""
    if len(entries) == 1 and len(entries[0]) == frames:
        return entries[0][None]
    batch = np.zeros((len(entries), frames, entries[0].shape[1]), np.float32)
    for row, entry in zip(batch, entries, strict=True):
        row[: len(entry)] = entry
    return batch
