"""The encoder: from audio to MERT's hidden states."""

from __future__ import annotations

import math
import operator
import os
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar

import numpy as np

from mertric.arguments import is_real, whole
from mertric.audio import from_array, to_mono
from mertric.audio_file import AudioFile
from mertric.bundle import Bundle, read_bundle
from mertric.choice import choose_device
from mertric.cores import cores
from mertric.embeddings import Embeddings, all_finite
from mertric.errors import AudioError, InputError, ProviderError
from mertric.native.suited import NATIVE, unsuited
from mertric.network import Network
from mertric.protocol import get_protocol
from mertric.providers import PROVIDERS
from mertric.stream import Stream
from mertric.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mertric.audio import Audio, Given
    from mertric.protocol import Protocol

_LARGE = 1 << 21
"""Bytes of samples or hidden states from which on a thread of its own looks at them."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Encoder:
    """A loaded model. Safe to use from several threads; get one from `mertric.load`.

    Parameters
    ----------
    bundle
        A bundle's directory.
    provider : str
        ``auto``, ``cuda``, ``tensorrt``, ``amx``, ``avx512``, ``openvino`` or ``cpu``.
    precision : str
        ``fp32``, or another that the provider computes in (see `mertric.providers`) and the bundle was exported in.
    threads : int or None
        Threads for inference, at most one for each of this machine's processors; None for one a core.
    chunk : int or None
        Frames per run of the front end and, where ONNX Runtime runs it, of the positional convolution, in stages; None
        for what the provider is fastest with. Any number gives the same result; it bounds memory.
    attention : str or None
        Which encoder graphs to run, ``fused``, ``portable`` or ``pointwise``, in stages; None for what the provider is
        fastest with. All give the same result, but TensorRT and OpenVINO do not run the first, and ``amx`` and
        ``avx512`` run none.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or of another format, or was not exported in the precision.
    DependencyError, ProviderError
        ONNX Runtime, the provider or the precision is not there, or the provider cannot run the model or `attention`.
    InputError
        `threads`, `chunk` or `attention` cannot be.
    """

    def __init__(
        self,
        bundle: Path | str,
        *,
        provider: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        chunk: int | None = None,
        attention: str | None = None,
    ) -> None:
        if chunk is not None:
            chunk = whole("chunk", chunk, "at least 1 frame")
        if threads is not None:
            most = os.cpu_count() or 1
            threads = whole("threads", threads, f"1 to {most}, as many as there are processors", most)
        if attention not in (None, "fused", "portable", "pointwise"):
            raise InputError(f"attention is {attention!r}; expected 'fused', 'portable' or 'pointwise'.")
        self.bundle: Bundle = read_bundle(bundle)
        refused = dict.fromkeys(self.bundle.refused.get(precision, {}), "the bundle refuses it")
        problem = unsuited(self.bundle)
        if attention is not None:
            problem = f"{NATIVE} run no encoder graphs, so attention cannot be {attention!r}"
        if problem is not None:
            refused |= {name: problem for name, one in PROVIDERS.items() if one.native}
        self._device = choose_device(provider, precision, threads=threads, refused=refused)
        if problem is not None and self._device.provider.native:
            raise ProviderError(f"{problem}. Choose another provider.")
        self.provider, self.precision, self.attention = self._device.provider.name, precision, attention
        self._network = Network(self.bundle, device=self._device, chunk=chunk, attention=attention)
        self._pool = ThreadPoolExecutor(self.readers, thread_name_prefix="mertric-clip")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Encoder holds sessions and threads of its process and is not sent to another: call mertric.load there, "
            "for instance in the initializer of a pool of processes."
        )

    @property
    def batch(self) -> int:
        """Clips at once that the provider is fastest with, in this precision."""
        return self._device.provider.batches.get(self.precision, 1)

    @property
    def readers(self) -> int:
        """Clips to decode and resample, and whose states to look at, at once, where many are embedded."""
        return min(self._device.provider.readers, cores())

    def alike(self, sizes: Sequence[int]) -> bool:
        """Whether clips of so many samples at the model's rate gain from a common batch, but for their number."""
        return self._network.alike(sizes)

    @property
    def layers(self) -> int:
        """Transformer layers; hidden states are 0 to this."""
        return self.bundle.layers

    def embed(
        self,
        audio: Given,
        *,
        sample_rate: int | None = None,
        layers: Sequence[int] | Literal["all"] | None = None,
        protocol: str = "paper",
        windows: Windows | None = None,
    ) -> Embeddings:
        """Compute hidden states.

        Parameters
        ----------
        audio
            A file, or an array [samples] or [channels, samples]; floating point at full scale 1, or int8, int16 or
            int32.
        sample_rate
            Hz, of an array; a file's own counts.
        layers
            Hidden states to return, each from 0, which enters the first layer, to `layers`, or ``"all"``. None returns
            the last.
        protocol
            ``paper`` rounds to 16-bit PCM and cuts at 6 minutes; ``float`` does neither.
        windows
            Attend within windows only, an approximation for long audio; None is exact.

        Returns
        -------
        Embeddings
            In float32, as computed, under either protocol.

        Raises
        ------
        AudioError
            The audio cannot be read, is empty, not finite or shorter than one frame, or an array has no rate.
        InputError
            A layer or the protocol is not known.
        ProviderError
            The provider failed, for instance for want of memory, or gave hidden states that are not finite.
        """
        return self.embed_samples(self.read(audio, sample_rate, get_protocol(protocol)), layers=layers, windows=windows)

    def embed_batch(
        self,
        audios: Sequence[Given],
        *,
        sample_rate: int | None = None,
        layers: Sequence[int] | Literal["all"] | None = None,
        protocol: str = "paper",
    ) -> list[Embeddings]:
        """Compute hidden states of several clips, of any lengths, in as few runs as the provider is fastest with.

        Takes and raises what `embed` does, but for windows. Each clip gets what it would get alone.
        """
        if isinstance(audios, (str, PathLike)):
            raise InputError(f"audios is {audios!r}; expected a sequence of clips, such as [{audios!r}].")
        chosen, rules = self.check_layers(layers), get_protocol(protocol)

        def read(numbered: tuple[int, Given]) -> NDArray[np.float32]:
            number, audio = numbered
            return self.read(audio, sample_rate, rules, name=f"array {number} of the batch")

        numbered = list(enumerate(audios, 1))
        files = any(isinstance(audio, (str, PathLike)) for audio in audios)
        ready = sample_rate == self.bundle.sample_rate and not files
        large = any(getattr(audio, "nbytes", 0) >= _LARGE for audio in audios)
        return self.embed_samples_batch(self._each(read, numbered, worth=large or not ready), layers=chosen)

    def stream(
        self,
        *,
        sample_rate: int,
        seconds: float = 5.0,
        overlap: float = 0.5,
        layers: Sequence[int] | Literal["all"] | None = None,
        protocol: str = "float",
    ) -> Stream:
        """Begin a stream: `Stream.push` takes samples as they come, and returns frames as soon as they are final.

        A clip is normalised over all its length, so nothing of it is known before its end. A stream is therefore
        made of windows, a whole number of frames apart, each embedded as a clip of its own. Each frame is taken from
        the window in which it stands farthest from an edge; the last window ends with the last frame. A stream
        shorter than a window is one clip. How the samples were cut into pushes changes nothing, to the bit.

        Parameters
        ----------
        sample_rate : int
            Hz, of what will be pushed.
        seconds : float
            Length of a window, rounded to whole frames.
        overlap : float
            Share of a window that the next one sees too, from 0 to below 1.
        layers
            See `embed`.
        protocol
            ``paper`` rounds to 16-bit PCM, ``float`` does not. Neither cuts: a stream has no length.

        Raises
        ------
        InputError
            The rate, the windows, a layer or the protocol cannot be.
        """
        return Stream(
            self,
            sample_rate=sample_rate,
            windows=Windows(seconds=seconds, overlap=overlap),
            layers=self.check_layers(layers),
            protocol=get_protocol(protocol),
        )

    def warm_up(
        self,
        seconds: Sequence[float] = (5.0,),
        *,
        batch: int = 1,
        layers: Sequence[int] | Literal["all"] | None = None,
    ) -> None:
        """Get ready for clips of known lengths, so that the first real one finds everything loaded.

        Embeds silence. A provider that gains from fixed shapes (`mertric.providers`) also gets a session for each of
        these lengths, with its own copy of the weights in memory: for a service that embeds the same lengths all day.
        The first clip of another length opens the session for all others. On CUDA a length takes a few seconds, in
        which the runs of other threads wait. While a graph is recorded, nothing else in the process, such as PyTorch or
        an encoder that is let go of, may take memory of a GPU or give it back.

        Parameters
        ----------
        seconds
            Lengths of a clip.
        batch
            Clips at once.
        layers
            Hidden states that will be asked for.
        """
        chosen = self.check_layers(layers)
        batch = whole("batch", batch, "at least 1 clip")
        if np.ndim(seconds) != 1:
            raise InputError(f"seconds is {seconds!r}; expected a sequence of lengths, such as [5.0].")
        for length in seconds:
            if not (is_real(length) and 0 <= length < math.inf):
                raise InputError(f"a clip of {length!r} s was asked for; expected 0 or more, and not infinite.")
            samples = np.zeros(max(round(length * self.bundle.sample_rate), self.bundle.receptive_field), np.float32)
            self._network.fix(batch, self.bundle.frames(samples.size), chosen)
            self._network.embed([samples] * batch, chosen)

    def read(
        self, audio: Given, sample_rate: int | None, protocol: Protocol, *, name: str = "array"
    ) -> NDArray[np.float32]:
        """Bring a file or an array, which messages call by `name`, to mono samples at the model's rate.

        Returns
        -------
        float32 [samples]
            Not to be written to: it may be the array that was given.

        Raises
        ------
        AudioError
            See `embed`.
        """
        if isinstance(audio, (str, PathLike)):
            with AudioFile(Path(audio), max_seconds=protocol.max_seconds) as file:
                return self.prepare(file, protocol)
        array = from_array(audio, sample_rate, max_seconds=protocol.max_seconds, name=name)
        return self.prepare(array, protocol)

    def prepare(self, audio: Audio | AudioFile, protocol: Protocol) -> NDArray[np.float32]:
        """Bring audio to mono samples at the model's rate: float32 [samples].

        Raises
        ------
        AudioError
            It is shorter than the receptive field, or a file cannot be decoded, is empty or not finite.
        """
        samples = to_mono(audio, self.bundle.sample_rate, protocol)
        self.require_frame(samples.size, audio.name)
        return samples

    def embed_samples(
        self,
        samples: NDArray[np.float32],
        *,
        layers: Sequence[int] | Literal["all"] | None = None,
        windows: Windows | None = None,
    ) -> Embeddings:
        """Compute hidden states of prepared samples: float32 [samples], mono, at the model's rate."""
        chosen = self.check_layers(layers)
        self.require_frame(samples.size, "the clip")
        if windows is None:
            return self._embeddings(self._network.embed([samples], chosen)[0], chosen)
        if not isinstance(windows, Windows):
            raise InputError(f"windows is {windows!r}; expected mertric.Windows(seconds=...), or None.")
        entry = self._network.entry(samples)
        frame_rate = self.bundle.sample_rate / self.bundle.hop
        return self._embeddings(windows.states(self._network, entry, chosen, frame_rate=frame_rate), chosen)

    def embed_samples_batch(
        self, clips: Sequence[NDArray[np.float32]], *, layers: Sequence[int] | Literal["all"] | None = None
    ) -> list[Embeddings]:
        """Compute hidden states of several clips of prepared samples, each as `embed_samples` takes it."""
        chosen = self.check_layers(layers)
        if not clips:
            return []
        for clip in clips:
            self.require_frame(clip.size, "the clip")
        hidden = self._network.embed(clips, chosen)
        large = any(states.nbytes >= _LARGE for states in hidden)
        return self._each(lambda states: self._embeddings(states, chosen), hidden, worth=large)

    def memory(self, clips: int, samples: int, layers: int = 1) -> int:
        """Return about how many bytes a batch takes beside the weights.

        Parameters
        ----------
        clips
            Clips in it.
        samples
            Of the longest.
        layers
            Hidden states asked for.
        """
        return self._network.memory(clips, self.bundle.frames(samples), layers)

    def require_frame(self, samples: int, name: str) -> None:
        """Raise AudioError where so many samples at the model's rate are less than a frame."""
        if self.bundle.frames(samples) == 0:
            raise AudioError(
                f"{name} is too short: {samples / self.bundle.sample_rate * 1000:.1f} ms, {samples} samples "
                f"at {self.bundle.sample_rate} Hz; the first frame needs {self.bundle.receptive_field}."
            )

    def _each(self, function: Callable[[Item], Result], items: Sequence[Item], *, worth: bool) -> list[Result]:
        """Results of a function for each clip of a batch, by `readers` threads where that is `worth` it."""
        if not worth or self.readers == 1 or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))

    def _embeddings(self, hidden: NDArray[np.float32], layers: tuple[int, ...]) -> Embeddings:
        wrong = [layer for layer, states in zip(layers, hidden, strict=True) if not all_finite(states)]
        if wrong:
            raise ProviderError(
                f"hidden state {wrong[0]} came out infinite or not a number in {self.precision} on {self.provider}: "
                "the weights give values that this precision does not hold. Choose fp32, or report it if that was it."
            )
        return Embeddings(hidden, layers, self.bundle.times(0, hidden.shape[1]))

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
        try:
            chosen = tuple(operator.index(layer) for layer in layers)
        except TypeError:
            raise InputError(f"layers is {layers!r}; expected 'all' or a sequence of whole numbers.") from None
        wrong = [layer for layer in chosen if layer not in range(self.layers + 1)]
        if wrong or not chosen or len(set(chosen)) != len(chosen):
            raise InputError(
                f"layers is {chosen}; expected different numbers from 0 to {self.layers}, the hidden states of "
                f"{self.bundle.model}."
            )
        return chosen
