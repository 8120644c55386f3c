"""From a file or an array to mono samples at the model's rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import AudioError
from mertric.resample import resample

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from soundfile import SoundFile

    from mertric.protocol import Protocol

SUFFIXES = frozenset(
    (
        ".wav",
        ".flac",
        ".ogg",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".caf",
        ".w64",
        ".rf64",
        ".bwf",
    )
)
"""Endings of the files that a folder is searched for."""


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


def read_audio(path: Path | str, *, max_seconds: float | None = None) -> Audio:
    """Decode an audio file: WAV, FLAC, OGG, Opus, MP3, AIFF and what else libsndfile reads.

    Parameters
    ----------
    path
        The file.
    max_seconds
        Read no more than this from its beginning.

    Raises
    ------
    AudioError
        The file is missing, is not audio, is empty, or holds samples that are not finite.
    """
    import soundfile

    with _open(Path(path)) as file:
        frames = -1 if max_seconds is None else round(max_seconds * file.samplerate)
        try:
            samples = file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise _undecodable(Path(path), error) from error
        rate = file.samplerate
    return _checked(Audio(np.ascontiguousarray(samples.T), rate, str(path)))


def duration(path: Path | str) -> float:
    """Return the duration of an audio file in seconds, from its header.

    Raises
    ------
    AudioError
        The file is missing or is not audio.
    """
    with _open(Path(path)) as file:
        return float(file.frames / file.samplerate)


def from_array(samples: ArrayLike, sample_rate: int | None, *, max_seconds: float | None = None) -> Audio:
    """Take samples [samples] or [channels, samples] as audio; integers are scaled to full scale 1.

    Raises
    ------
    AudioError
        The sample rate is missing, or the array has another shape or dtype, is empty or not finite.
    """
    if sample_rate is None:
        raise AudioError("an array of samples needs its rate: pass sample_rate=, in Hz.")
    if not (sample_rate > 0 and float(sample_rate).is_integer()):
        raise AudioError(f"sample_rate is {sample_rate!r}; expected a positive whole number of Hz.")
    array = as_channels(samples)
    if array.shape[0] > array.shape[1] > 0:
        raise AudioError(
            f"audio has shape {array.shape}, more channels than samples; expected [channels, samples]. Transpose it."
        )
    if max_seconds is not None:
        array = array[:, : round(max_seconds * sample_rate)]
    return _checked(Audio(array, int(sample_rate), "array"))


def as_channels(samples: ArrayLike) -> NDArray[np.float32]:
    """Take samples [samples] or [channels, samples] as float32 [channels, samples]; integers are scaled to 1.

    Raises
    ------
    AudioError
        The array has another shape or dtype.
    """
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise AudioError(
            f"audio cannot be made an array ({error}); expected [samples] or [channels, samples]."
        ) from error
    if array.ndim not in (1, 2):
        raise AudioError(f"audio has shape {array.shape}; expected [samples] or [channels, samples].")
    if np.issubdtype(array.dtype, np.signedinteger):
        array = array / -float(np.iinfo(array.dtype).min)
    elif not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"audio has dtype {array.dtype}; expected floating point or signed integers.")
    with np.errstate(over="ignore"):
        return np.atleast_2d(array).astype(np.float32)


def mix(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average channels, [channels, samples] to [samples], one after the other: a piece gives what it gives in a whole.

    NumPy's own mean adds in an order that depends on the array's shape and layout.
    """
    return np.asarray(reduce(np.add, samples) / np.float32(len(samples)), np.float32)


def to_mono(audio: Audio, sample_rate: int, protocol: Protocol) -> NDArray[np.float32]:
    """Average the channels, resample and round as the protocol says: float32 [samples] at `sample_rate` Hz."""
    return protocol.prepare(resample(mix(audio.samples), audio.sample_rate, sample_rate))


def require_finite(samples: NDArray[np.float32], name: str) -> None:
    """Raise unless all samples are finite."""
    if not np.isfinite(samples).all():
        count = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioError(
            f"{name} holds {count} samples that are NaN or infinite; expected finite ones. Render it again."
        )


def _checked(audio: Audio) -> Audio:
    if not audio.samples.size:
        raise AudioError(f"{audio.name} holds no samples. Leave it out, or render it again.")
    require_finite(audio.samples, audio.name)
    return audio


def _open(path: Path) -> SoundFile:
    import soundfile

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise AudioError(f"{path} {what}; expected an audio file. Check the path.")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: Exception) -> AudioError:
    return AudioError(
        f"{path} ({path.stat().st_size} bytes) cannot be decoded as audio ({error}). Expected WAV, FLAC, OGG, Opus, "
        "MP3 or AIFF; re-encode it or leave it out."
    )
