"""How long MPEG and Ogg files are by their own frames and pages, of which libsndfile trusts the first.

ISO/IEC 11172-3 and 13818-3 (headers of MPEG frames), the Xing and VBRI headers of their first frame, and RFC 3533
(Ogg's pages).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_KILOBITS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by whether it is MPEG 1, and the layer."""
_RATES = (44100, 48000, 32000)
_DELAY = 529
"""Samples by which the filters of layer 3 delay what they decode."""


@dataclass(frozen=True)
class _Frame:
    """What the header of an MPEG frame says.

    Attributes
    ----------
    size : int
        Bytes.
    samples, rate : int
        Of each channel, and in Hz.
    tag : int
        Where a Xing header would stand in it; 0 where there can be none.
    """

    size: int
    samples: int
    rate: int
    tag: int


@dataclass(frozen=True)
class Mpeg:
    """The frames of an MPEG file.

    Attributes
    ----------
    begin : int
        Where the first one with sound is.
    frames : int
        How many of these there are.
    seconds : float
        How long they last.
    told : bool
        One before them tells how many, in a way that libsndfile's decoder understands.
    """

    begin: int
    frames: int
    seconds: float
    told: bool


def walk_mpeg(data: bytes) -> Mpeg | None:
    """Count the frames of an MPEG file by their headers; None where it has none whose size they tell."""
    place, frames, seconds, begin, aligned = 0, 0, 0.0, -1, False
    count: int | None = None  # of frames, by the tag before them
    while 0 <= place <= len(data) - 4:
        if data[place : place + 3] == b"ID3":
            place += _tag_size(data, place)
            continue
        frame = _frame(data, place)
        aligned = frame is not None and (aligned or _follows(data, place + frame.size))
        if frame is None or not aligned:
            place = data.find(b"\xff", place + 1)
            continue
        if begin < 0 and count is None:
            count = _tag(data[place : place + frame.size], frame.tag)
            begin = place if count is None else -1
        elif begin < 0:
            begin = place
        if begin >= 0:
            frames, seconds = frames + 1, seconds + frame.samples / frame.rate
        place += frame.size
    return Mpeg(begin, frames, seconds, bool(count)) if begin >= 0 else None


def with_length(data: bytes, mpeg: Mpeg) -> tuple[bytes, int]:
    """Return an MPEG file, of layer 3, whose first frame tells how many follow it, and how many samples to skip.

    A decoder that is told a length leaves out the `_DELAY` that its filters have. A silent frame comes before the
    others for it to take that from: once the rest of it is skipped, all is as without a length, but for rounding.
    """
    frame = _frame(data, mpeg.begin)
    if frame is None or not frame.tag:
        return data, 0
    silent = bytearray(frame.size)
    silent[:4] = data[mpeg.begin : mpeg.begin + 4]
    silent[1] |= 1  # no checksum follows
    tag = b"Xing" + struct.pack(">II", 1, mpeg.frames + 1)
    header = silent[: frame.tag] + tag + silent[frame.tag + len(tag) :]
    return bytes(header + silent) + data[mpeg.begin :], frame.samples - _DELAY


def ogg_problem(data: bytes) -> str | None:
    """Say why an Ogg file is not one whole stream: one page begins it, and the last one is whole and ends it."""
    place, begun, ended = data.find(b"OggS"), 0, False
    end = place
    while 0 <= place <= len(data) - 27:
        begun += data[place + 5] >> 1 & 1
        ended = bool(data[place + 5] & 4)
        lacing = data[place + 27 : place + 27 + data[place + 26]]
        end = place + 27 + data[place + 26] + sum(lacing)
        place = data.find(b"OggS", end)
    if begun > 1:
        return "holds several streams, of which only the first can be read"
    if end > len(data) or place >= 0:
        return "is cut off in a page"
    return None if ended else "is cut off, or was recorded from a stream: its last page does not say that it ends"


def _frame(data: bytes, place: int) -> _Frame | None:
    """Read the header of an MPEG frame; None where there is none, or it does not tell the frame's size."""
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[place + 1] >> 3 & 3, 4 - (data[place + 1] >> 1 & 3)
    rate, padding = data[place + 2] >> 2 & 3, data[place + 2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or data[place + 2] >> 4 in (0, 15):
        return None
    full = version == 3
    bits = 1000 * _KILOBITS[full, layer][data[place + 2] >> 4]
    hertz = _RATES[rate] >> (0 if full else 1 if version == 2 else 2)
    samples = 384 if layer == 1 else 1152 if full or layer == 2 else 576
    size = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    mono = data[place + 3] >> 6 == 3
    sides = (17 if mono else 32) if full else (9 if mono else 17)
    return _Frame(size, samples, hertz, 4 + sides if layer == 3 else 0)


def _tag(frame: bytes, place: int) -> int | None:
    """Return the number of frames that a frame with a Xing or VBRI header tells, 0 for none; None if it has sound."""
    if place and frame[place : place + 4] in (b"Xing", b"Info"):
        flags, count = struct.unpack(">II", frame[place + 4 : place + 12].ljust(8, b"\0"))
        return int(count) if flags & 1 else 0
    return 0 if frame[36:40] == b"VBRI" else None  # libsndfile's decoder does not read it


def _tag_size(data: bytes, place: int) -> int:
    """Bytes of an ID3 tag, version 2, whose size is in four times 7 bits."""
    if place + 10 > len(data):
        return 10
    footer = 10 if data[place + 5] & 16 else 0
    return 10 + footer + sum(data[place + 6 + index] << 7 * (3 - index) for index in range(4))


def _follows(data: bytes, place: int) -> bool:
    """Whether a frame stands there, or the end of the file or a tag."""
    return place == len(data) or data[place : place + 3] in (b"ID3", b"TAG") or _frame(data, place) is not None
