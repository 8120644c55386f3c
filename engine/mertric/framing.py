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


@dataclass(frozen=True)
class _Frame:
    """What the header of an MPEG frame says.

    Attributes
    ----------
    size : int
        Bytes.
    seconds : float
        Of sound.
    tag : int
        Where a Xing header would stand in it; 0 where there can be none.
    """

    size: int
    seconds: float
    tag: int


@dataclass(frozen=True)
class Mpeg:
    """The frames of an MPEG file.

    Attributes
    ----------
    begin : int
        Where the first one is.
    frames : int
        How many there are, one that only tells the length not among them.
    seconds : float
        How long they last.
    told : bool
        The first one tells the length.
    """

    begin: int
    frames: int
    seconds: float
    told: bool


def walk_mpeg(data: bytes) -> Mpeg | None:
    """Count the frames of an MPEG file by their headers; None where it has none whose size they tell."""
    place, frames, seconds, begin, told, aligned = 0, 0, 0.0, -1, False, False
    while 0 <= place <= len(data) - 4:
        if data[place : place + 3] == b"ID3":
            place += _tag_size(data, place)
            continue
        frame = _frame(data, place)
        aligned = frame is not None and (aligned or _follows(data, place + frame.size))
        if frame is None or not aligned:
            place = data.find(b"\xff", place + 1)
            continue
        if begin < 0:
            begin = place
            told = data[place + frame.tag : place + frame.tag + 4] in (b"Xing", b"Info") or (
                data[place + 36 : place + 40] == b"VBRI"
            )
        if not (told and place == begin):
            frames, seconds = frames + 1, seconds + frame.seconds
        place += frame.size
    return Mpeg(begin, frames, seconds, told) if begin >= 0 else None


def with_length(data: bytes, mpeg: Mpeg) -> bytes:
    """Return an MPEG file, of layer 3, whose first frame tells how many follow it, from where its frames begin on."""
    frame = _frame(data, mpeg.begin)
    if frame is None or not frame.tag:
        return data
    header = bytearray(data[mpeg.begin : mpeg.begin + frame.size].ljust(frame.size, b"\0"))
    header[4:] = bytes(frame.size - 4)
    header[1] |= 1  # no checksum follows
    tag = b"Xing" + struct.pack(">II", 1, mpeg.frames)
    header[frame.tag : frame.tag + len(tag)] = tag
    return bytes(header) + data[mpeg.begin :]


def ogg_problem(data: bytes) -> str | None:
    """Say why an Ogg file is not one whole stream: one page begins it, and the last one ends it."""
    place, begun, ended = 0, 0, False
    while data[place : place + 4] == b"OggS" and place + 27 <= len(data):
        begun += data[place + 5] >> 1 & 1
        ended = bool(data[place + 5] & 4)
        lacing = data[place + 27 : place + 27 + data[place + 26]]
        place += 27 + data[place + 26] + sum(lacing)
    if begun > 1:
        return "holds several streams, of which only the first can be read"
    return None if ended and place <= len(data) else "is cut off: its last page does not end it"


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
    return _Frame(size, samples / hertz, 4 + sides if layer == 3 else 0)


def _tag_size(data: bytes, place: int) -> int:
    """Bytes of an ID3 tag, version 2, whose size is in four times 7 bits."""
    if place + 10 > len(data):
        return 10
    footer = 10 if data[place + 5] & 16 else 0
    return 10 + footer + sum(data[place + 6 + index] << 7 * (3 - index) for index in range(4))


def _follows(data: bytes, place: int) -> bool:
    """Whether a frame stands there, or the end of the file or a tag."""
    return place == len(data) or data[place : place + 3] in (b"ID3", b"TAG") or _frame(data, place) is not None
