"""The graphs of a bundle at work: from samples to hidden states, chunk by chunk and in ragged batches."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.bundle import FRONTEND, POSITIONS, encoder_graph
from mertric.errors import InputError
from mertric.fold import fold
from mertric.providers import FRAMES
from mertric.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.fold import FoldedClip
    from mertric.providers import Profile
    from mertric.session import Device

BATCH = 8
"""Clips in a batch that TensorRT's engines are built for, at most."""
CHUNK = 128
"""Frames per run of the front end and of the positional convolution, at most."""


class Network:
    """A bundle's sessions. Safe to use from several threads.

    Parameters
    ----------
    bundle
        Its files are checked while they are loaded.
    device
        Where it runs.
    chunk
        Frames per run of the local graphs. Any number gives the same result; it bounds memory.
    attention
        ``fused`` or ``portable``, see `mertric_export.transformer`.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int, attention: str) -> None:
        self._bundle = bundle
        self._device = device
        self._chunk = chunk
        self._portable = attention == "portable"
        self._encoders: dict[tuple[str, tuple[int, ...]], Session] = {}
        self._lock = threading.Lock()
        self._first = bundle.first_convolution()
        with ThreadPoolExecutor(2) as pool:
            check = pool.submit(bundle.check_files)
            frontend = pool.submit(self._open, FRONTEND, ["features"])
            positions = pool.submit(self._open, POSITIONS, ["state_0"])
            check.result()
            self._frontend, self._positions = frontend.result(), positions.result()

    def entry(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what enters the first layer, float32 [frames, dim], for samples [samples] at the model's rate."""
        frames, dim = self._bundle.frames(samples.size), self._bundle.dim
        clip = fold(self._first, samples)
        before, padding = self._bundle.position_taps // 2, self._bundle.position_taps - 1
        features = np.zeros((frames + padding, dim), np.float32)
        for start, count in _chunks(frames, self._chunk):
            features[before + start : before + start + count] = self._features(clip, start, count)
        entry = np.empty((frames, dim), np.float32)
        for start, count in _chunks(frames, self._chunk):
            window = features[start : start + count + padding]
            entry[start : start + count] = self._positions.run({"features": window[None]})[0][0]
        return entry

    def states(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run the encoder over a batch of clips of any lengths.

        Parameters
        ----------
        entries
            From `entry`, each [frames, dim].
        layers
            Hidden states to return.

        Returns
        -------
        list of float32 [layers, frames, dim]
            For each clip what it would give alone.
        """
        deeper = tuple(layer for layer in layers if layer > 0)
        lengths = np.array([len(entry) for entry in entries], np.int32)
        outputs = dict(zip(deeper, self._run(entries, lengths, deeper), strict=True)) if deeper else {}
        return [
            _stacked([entry if layer == 0 else outputs[layer][index, : len(entry)] for layer in layers])
            for index, entry in enumerate(entries)
        ]

    def _features(self, clip: FoldedClip, start: int, count: int) -> NDArray[np.float32]:
        """Run the front end for `count` frames from `start`: float32 [count, dim]."""
        rows = self._bundle.rows_per_frame
        windows = clip.windows(start * rows, (count + 1) * rows)
        (features,) = self._frontend.run({"windows": windows[None], "weights": clip.weights[None]})
        return np.asarray(features[0])

    def _run(
        self, entries: Sequence[NDArray[np.float32]], lengths: NDArray[np.int32], layers: tuple[int, ...]
    ) -> list[NDArray[np.float32]]:
        """Run the encoder on clips padded to the longest: for each layer float32 [batch, frames, dim]."""
        if len(entries) == 1:
            batch = entries[0][None]
        else:
            batch = np.zeros((len(entries), lengths.max(), self._bundle.dim), np.float32)
            for row, entry in zip(batch, entries, strict=True):
                row[: len(entry)] = entry
        if self._device.provider.name == "tensorrt" and (lengths.max() > FRAMES[2] or len(entries) > BATCH):
            raise InputError(
                f"{len(entries)} clips of up to {lengths.max()} frames were given; TensorRT's engines take {BATCH} of "
                f"{FRAMES[2]}. Use windows, smaller batches, or provider='cuda'."
            )
        ragged = lengths.min() < lengths.max()
        variant = "portable" if self._portable else "ragged" if ragged else "fused"
        inputs: dict[str, NDArray[Any]] = {"state_0": batch}
        if variant != "fused":
            inputs["lengths"] = lengths
        return self._encoder(variant, layers).run(inputs)

    def _encoder(self, variant: str, layers: tuple[int, ...]) -> Session:
        with self._lock:
            if (variant, layers) not in self._encoders:
                outputs = [f"state_{layer}" for layer in layers]
                self._encoders[variant, layers] = self._open(encoder_graph(variant), outputs)
            return self._encoders[variant, layers]

    def _open(self, graph: str, outputs: list[str]) -> Session:
        return Session(self._bundle.path / graph, outputs, device=self._device, profiles=self._profiles(graph))

    def _profiles(self, graph: str) -> dict[str, Profile]:
        """Return the least, best and greatest shape of each of a graph's inputs."""
        dim = self._bundle.dim
        if graph == FRONTEND:
            taps, channels = self._first.weight.shape[1] + 1, self._first.weight.shape[0]
            rows = [self._bundle.rows_per_frame * (count + 1) for count in (1, self._chunk, self._chunk)]
            weights = (1, taps, channels)
            return {"windows": _profile((1, row, taps) for row in rows), "weights": (weights, weights, weights)}
        if graph == POSITIONS:
            halo = self._bundle.position_taps - 1
            return {"features": _profile((1, count + halo, dim) for count in (1, self._chunk, self._chunk))}
        batches = (1, 1, BATCH)
        return {
            "state_0": _profile((batch, frames, dim) for batch, frames in zip(batches, FRAMES, strict=True)),
            "lengths": _profile((batch,) for batch in batches),
        }


def _chunks(frames: int, most: int) -> list[tuple[int, int]]:
    """Part frames into as few chunks as can be, as even as can be: their starts and lengths."""
    bounds = np.linspace(0, frames, -(-frames // most) + 1).round().astype(int).tolist()
    return [(start, end - start) for start, end in pairwise(bounds)]


def _profile(shapes: Iterable[tuple[int, ...]]) -> Profile:
    least, best, greatest = shapes
    return least, best, greatest


def _stacked(states: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put states [frames, dim] on a first axis, without a copy where there is one only."""
    return states[0][None] if len(states) == 1 else np.stack(states)
