"""Audio files, decoded block by block."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mertric.audio import Audio, count_damaged, require_sound
from mertric.errors import AudioError
from mertric.framing import Mpeg, ogg_problem, walk_mpeg, with_length

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray
    from soundfile import SoundFile

_BLOCK = 1 << 19
"""Samples that are decoded at once, of all channels together."""
_UNKNOWN = 2**63 - 1
"""Frames of a file whose header does not tell them, such as a FLAC file that was written into a pipe."""
_LOST = re.compile(r"^ *(data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""Where libsndfile tells how many bytes a header promises, of samples or of all, and how many there are."""
_LONG = "riff"
"""Which of these is in 64 bits, that of W64."""
_FEWER = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
"""Where it tells how many frames RF64 has, and how many its header promises."""
_MISCOUNTED = 64
"""Bytes more than there are that a header may promise: some writers count the header too."""
_PLACEHOLDER = 0x7F000000
"""Bytes from which on one in 32 bits promises what was not known yet when it was written, as into a pipe."""
_LONG_PLACEHOLDER = 1 << 62
"""And of one in 64 bits."""
_LAYER_3 = "MPEG_LAYER_III"
_SLACK = 0.25
"""Seconds that an MPEG decoder may leave out at both ends."""


class AudioFile:
    """An open audio file: WAV, FLAC, OGG, Opus, MP3, AIFF and what else libsndfile reads. A context manager.

    Parameters
    ----------
    path
        The file.
    max_seconds
        Read no more than this from its beginning.

    Attributes
    ----------
    name : str
        Its path.
    sample_rate : int
        Hz.

    Raises
    ------
    AudioError
        The file is missing or is not audio.
    """

    def __init__(self, path: Path | str, *, max_seconds: float | None = None) -> None:
        self._path, self._max_seconds = Path(path), max_seconds
        self._file = _open(self._path)
        self._mpeg: Mpeg | None = None
        self._guessed, skipped = self._file.frames == _UNKNOWN, 0
        if self._file.subtype.startswith("MPEG"):
            self._file, self._mpeg, skipped = _whole_mpeg(self._path, self._file)
            self._guessed = self._mpeg is None or not (self._mpeg.told or skipped)
        self.name = str(path)
        self.sample_rate = int(self._file.samplerate)
        frames = int(self._file.frames) - skipped
        self._frames = frames if max_seconds is None else min(frames, round(max_seconds * self.sample_rate))

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def seconds(self) -> float:
        """Duration of what is read, by the file's header, or, where that does not tell it, by decoding.

        Raises
        ------
        AudioError
            It has to be decoded and cannot be.
        """
        frames = self._frames
        if self._file.frames == _UNKNOWN:
            with AudioFile(self._path, max_seconds=self._max_seconds) as again:
                frames = sum(block.shape[1] for block in again.blocks())
        return frames / self.sample_rate

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Decode the file once, and yield float32 [channels, samples], full scale 1.

        Raises
        ------
        AudioError
            The file cannot be decoded; or, once all of it is, it is empty or holds samples that are damaged, see
            `mertric.audio.count_damaged`. None of those are yielded, and nothing that follows them.
        """
        import soundfile

        left = self._frames
        count = bad = 0
        wanted = got = max(1, _BLOCK // self._file.channels)
        while got == wanted and left > 0:  # a short block is the last: what follows a damaged part has lost its place
            wanted = min(left, wanted)
            try:
                block = self._file.read(wanted, dtype="float32", always_2d=True).T
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise _undecodable(self._path, error) from error
            got = block.shape[1]
            left -= got
            count += block.size
            bad += count_damaged(block)
            if got and not bad:
                yield block
        require_sound(self.name, count, bad)
        self._require_whole(self._frames - left)

    def _require_whole(self, frames: int) -> None:
        """Raise where fewer frames could be decoded than there are: what follows a gap stands in the wrong place."""
        slack = round(_SLACK * self.sample_rate) if self._mpeg else 0
        if frames == self._file.frames and (lost := _LOST.search(self._file.extra_info)):
            claimed, there = int(lost[2]), int(lost[3])
            if there + _MISCOUNTED < claimed < (_LONG_PLACEHOLDER if lost[1] == _LONG else _PLACEHOLDER):
                raise AudioError(
                    f"{self.name} is cut off: its header promises {claimed} bytes, the file holds {there}. Copy or "
                    "render it again, or leave it out."
                )
        fewer = _FEWER.search(self._file.extra_info)
        if fewer and frames == self._file.frames and int(fewer[1]) < int(fewer[2]):
            raise AudioError(
                f"{self.name} is cut off: its header promises {fewer[2]} frames, the file holds {fewer[1]}. Copy or "
                "render it again, or leave it out."
            )
        if not self._guessed and frames + slack < self._frames:
            raise AudioError(
                f"{self.name} is damaged: {frames / self.sample_rate:.2f} s of it can be decoded, its header says "
                f"{self._frames / self.sample_rate:.2f} s. Render it again or leave it out."
            )
        if self._max_seconds is not None and frames >= round(self._max_seconds * self.sample_rate):
            return
        if self._mpeg is not None and self._mpeg.seconds > frames / self.sample_rate + _SLACK:
            raise AudioError(
                f"{self.name} holds {self._mpeg.seconds:.2f} s, of which {frames / self.sample_rate:.2f} s can be "
                "decoded, as of files that were joined. Encode it again or leave it out."
            )
        if self._file.format == "OGG" and (problem := ogg_problem(_content(self._path))):
            raise AudioError(f"{self.name} {problem}. Copy or encode it again, or leave it out.")


def read_audio(path: Path | str, *, max_seconds: float | None = None) -> Audio:
    """Decode an audio file into memory; takes and raises what `AudioFile` and its `blocks` do."""
    joined = bytearray()  # it grows where it lies, and no header has to be trusted
    channels = 1
    with AudioFile(path, max_seconds=max_seconds) as file:
        for block in file.blocks():
            channels = len(block)
            joined += np.ascontiguousarray(block.T).data
    return Audio(np.frombuffer(joined, np.float32).reshape(-1, channels).T, file.sample_rate, file.name)


def _open(path: Path) -> SoundFile:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
            raise AudioError(f"{path} {what}; expected an audio file. Check the path.")
    except OSError as error:
        raise _unreadable(path, error) from error
    return _decoder(_given(path), path)


def _decoder(source: Path | bytes | io.BytesIO, path: Path) -> SoundFile:
    import soundfile

    try:
        file = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise _undecodable(path, error) from error
    file.seekable = lambda: False  # else it seeks after each block, which fails at the end of files of unknown length
    return file


def _whole_mpeg(path: Path, file: SoundFile) -> tuple[SoundFile, Mpeg | None, int]:
    """Count an MPEG file's frames, and open it anew with their number in front where it does not tell its length.

    libsndfile would guess it from the first ones, and read no further. The last result is how many samples of each
    channel, which are not the file's, have been read already.
    """
    import soundfile

    data = _content(path)
    mpeg = walk_mpeg(data)
    if mpeg is None or mpeg.told or file.subtype != _LAYER_3:
        return file, mpeg, 0
    file.close()
    content, skipped = with_length(data, mpeg)
    again = _decoder(io.BytesIO(content), path)
    try:
        again.read(skipped, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        again.close()
        raise _undecodable(path, error) from error
    return again, mpeg, skipped


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _given(path: Path) -> Path | bytes:
    """Return a path as libsndfile opens any: where names are bytes, they need not be text."""
    return path if sys.platform == "win32" else os.fsencode(path)


def _unreadable(path: Path, error: OSError) -> AudioError:
    return AudioError(f"{path} cannot be read ({error.strerror or error}). Check the path and its permissions.")


def _undecodable(path: Path, error: Exception) -> AudioError:
    """Say why libsndfile fails, or, as it does not tell that from damage, that the file cannot be read."""
    reason = str(getattr(error, "error_string", error)).rstrip(".")  # without the path
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as refused:
        return _unreadable(path, refused)
    return AudioError(
        f"{path} ({size} bytes) cannot be decoded as audio ({reason}). Expected WAV, FLAC, OGG, Opus, "
        "MP3 or AIFF; re-encode it or leave it out."
    )
