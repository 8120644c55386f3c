"""The encoder: from audio to MERT's hidden states."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mertric.audio import from_array, read_audio, to_mono
from mertric.bundle import FRONTEND, Bundle, encoder_graph, read_bundle
from mertric.errors import AudioError, InputError, ProviderError
from mertric.fold import fold
from mertric.protocol import get_protocol
from mertric.session import Session, resolve_provider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from mertric.audio import Audio
    from mertric.protocol import Protocol

CHUNK = 128
"""Frames per run of the front end."""


@dataclass(frozen=True)
class Embeddings:
    """Hidden states of one clip.

    Attributes
    ----------
    hidden : float32 [layers, frames, dim]
    layers : tuple of int
        Which hidden state each of `hidden` is.
    times : float64 [frames]
        Seconds; the middle of what each frame's convolutions see.
    """

    hidden: NDArray[np.float32]
    layers: tuple[int, ...]
    times: NDArray[np.float64]


class Encoder:
    """A loaded model. Safe to use from several threads; get one from `mertric.load`.

    Parameters
    ----------
    bundle
        A bundle's directory.
    provider : str
        ``auto`` or ``cpu``.
    precision : str
        ``fp32``.
    threads : int or None
        Threads for inference; None for one a core.
    chunk : int
        Frames per run of the front end. Any number gives the same result; it bounds memory.
    variant : str
        Which encoder graph to run: ``fused`` or ``portable``. Both give the same result.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or of another format.
    DependencyError, ProviderError
        ONNX Runtime, the provider or the precision is not there.
    """

    def __init__(
        self,
        bundle: Path | str,
        *,
        provider: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        chunk: int = CHUNK,
        variant: str = "fused",
    ) -> None:
        if chunk < 1:
            raise InputError(f"chunk is {chunk}; expected at least 1 frame.")
        self.bundle: Bundle = read_bundle(bundle)
        self.provider = resolve_provider(provider)
        if precision != self.bundle.precision:
            raise ProviderError(
                f"precision {precision!r} was asked for; {self.bundle.path} holds {self.bundle.precision!r}."
            )
        self._chunk = chunk
        self._threads = threads
        self._graph = encoder_graph(variant)
        self._sessions: dict[tuple[int, ...], Session] = {}
        self._lock = threading.Lock()
        with ThreadPoolExecutor(2) as pool:
            check = pool.submit(self.bundle.check_files)
            frontend = pool.submit(self._open, FRONTEND, ["features"])
            check.result()
            self._frontend = frontend.result()
        self._first = self.bundle.first_convolution()

    @property
    def layers(self) -> int:
        """Transformer layers; hidden states are 0 to this."""
        return self.bundle.layers

    def embed(
        self,
        audio: Path | str | ArrayLike,
        *,
        sample_rate: int | None = None,
        layers: Sequence[int] | Literal["all"] | None = None,
        protocol: str = "paper",
    ) -> Embeddings:
        """Compute hidden states.

        Parameters
        ----------
        audio
            A file, or an array [samples] or [channels, samples]; floating point at full scale 1, or integers.
        sample_rate
            Hz, for an array.
        layers
            Hidden states to return, each from 0 to `layers`, or ``"all"``. None returns the last.
        protocol
            ``paper`` rounds to 16-bit PCM and cuts at 6 minutes; ``float`` does neither.

        Returns
        -------
        Embeddings
            In float32, as computed, under either protocol.

        Raises
        ------
        AudioError
            The audio cannot be read, is empty, not finite or shorter than one frame.
        InputError
            A layer or the protocol is not known.
        """
        rules = get_protocol(protocol)
        if isinstance(audio, (str, Path)):
            decoded = read_audio(audio, max_seconds=rules.max_seconds)
        else:
            decoded = from_array(audio, sample_rate, max_seconds=rules.max_seconds)
        return self.embed_samples(self.prepare(decoded, rules), layers=layers)

    def prepare(self, audio: Audio, protocol: Protocol) -> NDArray[np.float32]:
        """Bring decoded audio to mono samples at the model's rate.

        Raises
        ------
        AudioError
            It is shorter than the receptive field.
        """
        samples = to_mono(audio, self.bundle.sample_rate, protocol)
        if self.bundle.frames(samples.size) == 0:
            raise AudioError(
                f"{audio.name} is too short: {audio.seconds * 1000:.1f} ms, {samples.size} samples at "
                f"{self.bundle.sample_rate} Hz; the first frame needs {self.bundle.receptive_field}."
            )
        return samples

    def embed_samples(
        self, samples: NDArray[np.float32], *, layers: Sequence[int] | Literal["all"] | None = None
    ) -> Embeddings:
        """Compute hidden states of prepared samples: float32 [samples], mono, at the model's rate."""
        chosen = self.check_layers(layers)
        features = self._features(samples)
        states = self._encoder(chosen).run({"features": features[None]})
        times = (np.arange(len(features)) * self.bundle.hop + self.bundle.receptive_field / 2) / self.bundle.sample_rate
        hidden = states[0] if len(states) == 1 else np.concatenate(states)
        return Embeddings(hidden, chosen, times)

    def check_layers(self, layers: Sequence[int] | Literal["all"] | None) -> tuple[int, ...]:
        """Return the layers asked for as a tuple.

        Raises
        ------
        InputError
            None are asked for, or one is not a hidden state of this model.
        """
        if layers is None:
            return (self.layers,)
        if isinstance(layers, str):
            if layers != "all":
                raise InputError(f"layers is {layers!r}; expected 'all' or a sequence of numbers.")
            return tuple(range(self.layers + 1))
        chosen = tuple(layers)
        wrong = [layer for layer in chosen if layer not in range(self.layers + 1)]
        if wrong or not chosen or len(set(chosen)) != len(chosen):
            raise InputError(
                f"layers is {chosen}; expected different numbers from 0 to {self.layers}, the hidden states of "
                f"{self.bundle.model}."
            )
        return chosen

    def _features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the front end over chunks: float32 [frames, dim]."""
        clip = fold(self._first, samples)
        frames, rows = self.bundle.frames(samples.size), self.bundle.rows_per_frame
        features = np.empty((frames, self.bundle.dim), np.float32)
        for start in range(0, frames, self._chunk):
            count = min(self._chunk, frames - start)
            windows = clip.windows(start * rows, (count + 1) * rows)
            inputs = {"windows": windows[None], "weights": clip.weights[None]}
            features[start : start + count] = self._frontend.run(inputs)[0][0]
        return features

    def _encoder(self, layers: tuple[int, ...]) -> Session:
        with self._lock:
            if layers not in self._sessions:
                outputs = [f"state_{layer}" for layer in layers]
                self._sessions[layers] = self._open(self._graph, outputs)
            return self._sessions[layers]

    def _open(self, graph: str, outputs: list[str]) -> Session:
        return Session(self.bundle.path / graph, outputs, provider=self.provider, threads=self._threads)
