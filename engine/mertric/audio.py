"""Audio in memory, and from audio to mono samples at the model's rate."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mertric.arguments import is_rate
from mertric.errors import AudioError
from mertric.resample import HIGHEST_RATE, Resampler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from mertric.audio_file import AudioFile
    from mertric.protocol import Protocol

Given: TypeAlias = "PathLike[str] | str | ArrayLike"
"""Audio as callers have it: a file's path, or samples [samples] or [channels, samples]."""
_BLOCK = 1 << 18
"""Samples that are averaged and resampled at once."""
_TOO_LOUD = 2.0
"""Times full scale from which on a clip is not just a little over it, but has another scale."""
_LOUDEST = 1e30
"""Magnitude beyond which a sample is taken for damage: sums and squares of larger ones overflow."""


@dataclass(frozen=True)
class Audio:
    """Decoded audio.

    Attributes
    ----------
    samples : float32 [channels, samples]
        Full scale is 1.
    sample_rate : int
        Hz.
    name : str
        What messages call it: the file's path, or "array".
    """

    samples: NDArray[np.float32]
    sample_rate: int
    name: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(self.samples.shape[1] / self.sample_rate)

    def cut(self, seconds: float) -> Audio:
        """Return the first seconds of it."""
        return Audio(self.samples[:, : round(seconds * self.sample_rate)], self.sample_rate, self.name)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield it in parts, float32 [channels, samples]."""
        for start in range(0, self.samples.shape[1], _BLOCK):
            yield self.samples[:, start : start + _BLOCK]


def from_array(
    samples: ArrayLike, sample_rate: int | None, *, max_seconds: float | None = None, name: str = "array"
) -> Audio:
    """Take samples [samples] or [channels, samples] as audio, see `as_channels`.

    Raises
    ------
    AudioError
        The sample rate is missing, or the array has another shape or dtype, is empty or not finite.
    """
    if isinstance(samples, (bytes, bytearray)) or hasattr(samples, "read"):
        raise AudioError(
            f"{name} is of type {type(samples).__name__}; expected a path or samples. Decode it, for instance by "
            "soundfile.read(file, dtype='float32', always_2d=True), and give the transposed samples and their rate."
        )
    if sample_rate is None:
        raise AudioError("an array of samples needs its rate: pass sample_rate=, in Hz.")
    if not is_rate(sample_rate):
        raise AudioError(f"sample_rate is {sample_rate!r}; expected a positive whole number of Hz.")
    array = as_channels(samples, name)
    if array.shape[0] > array.shape[1] > 0:
        raise AudioError(
            f"{name} has shape {array.shape}, more channels than samples; expected [channels, samples]. Transpose it."
        )
    if max_seconds is not None:
        array = array[:, : round(max_seconds * sample_rate)]
    audio = Audio(array, int(sample_rate), name)
    require_sound(name, array.size, sum(map(count_damaged, audio.blocks())))
    return audio


def as_channels(samples: ArrayLike, name: str = "array") -> NDArray[np.float32]:
    """Take samples [samples] or [channels, samples] as float32 [channels, samples].

    Integers of 8, 16 and 32 bits are scaled to full scale 1. Those of 64 bits and Python's own are refused: no audio
    uses their range, so they would be scaled to silence.

    Raises
    ------
    AudioError
        The array has another shape or dtype, or samples that are masked.
    """
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise AudioError(
            f"{name} cannot be made one of numbers ({error}); expected [samples] or [channels, samples]."
        ) from error
    if array.ndim not in (1, 2):
        raise AudioError(f"{name} has shape {array.shape}; expected [samples] or [channels, samples].")
    if np.ma.is_masked(samples):
        raise AudioError(f"{name} has masked samples; expected all of them. Fill them in, or leave them out.")
    given = hasattr(samples, "dtype") or array.dtype != np.dtype(int)  # else it is Python's, of 32 bits on some systems
    if array.dtype.kind == "i" and array.dtype.itemsize <= 4 and given:
        array = array / -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        dtype = array.dtype if given else "int, Python's"
        raise AudioError(
            f"{name} has dtype {dtype}; expected floating point at full scale 1, int8, int16 or int32. "
            "Convert it to one of these, or divide by its own full scale, such as 32768 for 16 bits."
        )
    with np.errstate(over="ignore"):
        return np.atleast_2d(array).astype(np.float32, copy=False)


def mix(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average channels, [channels, samples] to [samples], one after the other: a piece gives what it gives in a whole.

    NumPy's own mean adds in an order that depends on the array's shape and layout.
    """
    return np.asarray(reduce(np.add, samples) / np.float32(len(samples)), np.float32)


def to_mono(audio: Audio | AudioFile, sample_rate: int, protocol: Protocol) -> NDArray[np.float32]:
    """Average the channels, resample and round as the protocol says: float32 [samples] at `sample_rate` Hz.

    That goes block by block, so that beside the audio only what is returned takes memory. Mono samples that need
    nothing done are returned as they are: the result is not to be written to. Where rounding cuts off a lot, there is a
    warning.

    Raises
    ------
    AudioError
        The sample rate is above `HIGHEST_RATE`, or a file cannot be decoded, is empty or not finite.
    """
    if audio.sample_rate > HIGHEST_RATE:
        raise AudioError(
            f"{audio.name} has a sample rate of {audio.sample_rate} Hz; expected at most {HIGHEST_RATE}. If its header "
            "is damaged, render it again."
        )
    if isinstance(audio, Audio) and len(audio.samples) == 1 and audio.sample_rate == sample_rate and not protocol.pcm16:
        return np.ascontiguousarray(audio.samples[0])
    resampler = Resampler(audio.sample_rate, sample_rate)
    joined = bytearray()  # it grows where it lies
    peak = 0.0
    for block in _resampled(audio, resampler):
        peak = max(peak, peak_of(block))
        joined += protocol.prepare(block).data
    warn_of_scale(audio.name, peak, protocol)
    return np.frombuffer(joined, np.float32)


def peak_of(samples: NDArray[np.float32]) -> float:
    """The largest magnitude; 0 of none."""
    return max(float(samples.max(initial=0)), -float(samples.min(initial=0)))


def warn_of_scale(name: str, peak: float, protocol: Protocol) -> bool:
    """Warn where a protocol's rounding cuts off a lot of what has this peak, and say whether it does."""
    too_loud = protocol.pcm16 and peak >= _TOO_LOUD
    if too_loud:
        warnings.warn(
            f"{name} peaks at {peak:.3g} times full scale, and protocol {protocol.name} cuts off what is beyond "
            "it. Scale it and its partner down, or use protocol float.",
            stacklevel=3,
        )
    return too_loud


def _resampled(audio: Audio | AudioFile, resampler: Resampler) -> Iterator[NDArray[np.float32]]:
    for block in audio.blocks():
        yield resampler.push(mix(block))
    yield resampler.finish()


def require_sound(name: str, samples: int, bad: int) -> None:
    """Raise where audio has no samples, or some, `bad` of them, that are damaged."""
    if not samples:
        raise AudioError(f"{name} holds no samples. Leave it out, or render it again.")
    if bad:
        raise AudioError(
            f"{name} holds {bad} samples that are NaN, infinite or beyond {_LOUDEST:g}; expected none. Render it again."
        )


def count_damaged(samples: NDArray[np.float32]) -> int:
    """Count the samples that are NaN, infinite or of no magnitude that sound has."""
    with np.errstate(invalid="ignore"):
        if samples.size and samples.min() >= -_LOUDEST and samples.max() <= _LOUDEST:
            return 0  # the rule, told without a copy of them
        return samples.size - int(np.count_nonzero(np.abs(samples) <= _LOUDEST))
