"""Hidden states of audio that comes in pieces: each frame as soon as nothing that follows can change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.audio import as_channels, count_damaged, mix, peak_of, require_sound, warn_of_scale
from mertric.embeddings import Embeddings
from mertric.errors import AudioError, InputError
from mertric.resample import Resampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from mertric.encoder import Encoder
    from mertric.protocol import Protocol
    from mertric.windows import Span, Windows

MOST_CHANNELS = 64
"""A push of more channels is taken for [samples, channels]."""
USUAL_CHANNELS = 8
"""So is one of more than these that has fewer samples, if not a single one."""


class Stream:
    """A signal on its way through an encoder; get one from `Encoder.stream`, which says what comes out.

    Not to be used by several threads at once; but many streams may share one encoder. However long it is, a stream
    keeps the samples of a window and of what the next one sees beyond it, and the hidden states of one window.

    Parameters
    ----------
    encoder
        Embeds the windows, one at a time: in a batch the last bits would depend on what was pushed together.
    sample_rate : int
        Hz, of what is pushed.
    windows
        Their length and overlap.
    layers
        Hidden states to return.
    protocol
        Rounds the samples. Its cut is left out.

    Raises
    ------
    InputError
        The sample rate cannot be, see `mertric.resample.Resampler`.
    """

    def __init__(
        self, encoder: Encoder, *, sample_rate: int, windows: Windows, layers: tuple[int, ...], protocol: Protocol
    ) -> None:
        self._encoder, self._bundle = encoder, encoder.bundle
        self._windows, self._layers, self._protocol = windows, layers, protocol
        self._length = windows.length(self._bundle.sample_rate / self._bundle.hop)
        self._resampler = Resampler(sample_rate, self._bundle.sample_rate)
        self._channels: int | None = None
        self._warned = False  # of another scale
        self._ended = False  # no more samples are taken
        self._finished = False  # all frames were returned
        self._start = 0  # the newest window's first frame
        self._taken = 0  # frames that were returned
        self._window: NDArray[np.float32] | None = None  # the newest window's hidden states
        self._pieces: list[NDArray[np.float32]] = []  # samples from the newest window's start on
        self._size = 0  # of all pieces

    def push(self, samples: ArrayLike) -> Embeddings:
        """Take samples, and return the frames that have become final.

        Parameters
        ----------
        samples
            [samples] or [channels, samples], as many as there are, or none; floating point at full scale 1, or
            int8, int16 or int32. Every push has as many channels; of more than 8 come no fewer samples, or one.

        Returns
        -------
        Embeddings
            The next frames, or none. Times count from the stream's beginning.

        Raises
        ------
        AudioError
            The samples have another shape, dtype or number of channels, or are not finite; they are left out.
        InputError
            The stream is finished.
        ProviderError
            The provider failed, for instance for want of memory, or gave hidden states that are not finite.
        """
        frames = self._add(self._resampler.push(self._mono(samples)))
        return self._take(self._windows.settled(frames, self._length))

    def finish(self) -> Embeddings:
        """End the stream, and return the rest of its frames. Where a provider fails, it can be called again.

        Raises
        ------
        AudioError
            The stream is shorter than a frame.
        InputError
            The stream is finished.
        ProviderError
            The provider failed, for instance for want of memory, or gave hidden states that are not finite.
        """
        if self._finished:
            self._require_open()
        if not self._ended:
            self._add(self._resampler.finish())
            self._ended = True
        self._encoder.require_frame(self._size, "the stream")
        rest = self._take(self._windows.spans(self._bundle.frames(self._size), self._length))
        self._finished = True
        return rest

    def _mono(self, samples: ArrayLike) -> NDArray[np.float32]:
        self._require_open()
        array = as_channels(samples, "the push")
        channels, count = array.shape
        turned = channels > max(count, USUAL_CHANNELS) and count > 1
        if not 0 < channels <= MOST_CHANNELS or turned:
            raise AudioError(
                f"the push has shape {array.shape}; expected [samples], or [channels, samples] with 1 to "
                f"{MOST_CHANNELS} channels. Transpose it."
            )
        if count and channels != (self._channels or channels):
            raise AudioError(
                f"the push has {channels} channels, the ones before it had {self._channels}; expected as many in all "
                "of a stream. Mix them, or begin another stream."
            )
        if count:
            require_sound("the push", array.size, count_damaged(array))
        self._channels = channels if count else self._channels
        return mix(array)

    def _require_open(self) -> None:
        if self._ended:
            raise InputError("the stream is finished. Begin another: encoder.stream(sample_rate=...).")

    def _add(self, samples: NDArray[np.float32]) -> int:
        """Keep samples at the model's rate, and return how many frames there are from the newest window's start on."""
        if samples.size:
            self._warned = self._warned or warn_of_scale("the stream", peak_of(samples), self._protocol)
            self._pieces.append(self._protocol.prepare(samples))
            self._size += samples.size
        return self._bundle.frames(self._size)

    def _take(self, spans: Sequence[Span]) -> Embeddings:
        """Return what has not been returned of spans that count from the newest window's start."""
        first = self._taken - self._start
        end = spans[-1].end if spans else first
        hidden = np.empty((len(self._layers), end - first, self._bundle.dim), np.float32)
        newest, window = 0, self._window
        for span in spans:
            if window is None or span.start > newest:
                newest, window = span.start, self._embed(span.start)
            begin = max(span.begin, first)
            hidden[:, begin - first : span.end - first] = window[:, begin - span.start : span.end - span.start]
        times = self._bundle.times(self._taken, self._start + end)
        self._drop(newest)
        self._window, self._start, self._taken = window, self._start + newest, self._start + end
        return Embeddings(hidden, self._layers, times)

    def _embed(self, start: int) -> NDArray[np.float32]:
        """Return a window's hidden states."""
        first = start * self._bundle.hop
        end = first + (self._length - 1) * self._bundle.hop + self._bundle.receptive_field
        return self._encoder.embed_samples(self._joined()[first:end], layers=self._layers).hidden

    def _drop(self, frames: int) -> None:
        """Let the samples before a frame go."""
        if frames:
            self._pieces = [self._joined()[frames * self._bundle.hop :].copy()]
            self._size = self._pieces[0].size

    def _joined(self) -> NDArray[np.float32]:
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0]
