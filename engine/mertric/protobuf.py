"""Protobuf messages as bytes, as far as ONNX models take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: its number, its payload if it is length-delimited, its value if a number, all its bytes."""

    number: int
    payload: bytes
    value: int
    raw: bytes


def fields(message: bytes) -> Iterator[Field]:
    """Yield a message's fields.

    Raises
    ------
    IndexError
        The bytes are no such message.
    """
    position = 0
    while position < len(message):
        start = position
        key, position = varint(message, position)
        kind, payload, value = key & 7, b"", 0
        if kind == _VARINT:
            value, position = varint(message, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _DELIMITED:
            length, position = varint(message, position)
            payload = message[position : position + length]
            position += length
        else:
            raise IndexError(kind)
        if position > len(message):
            raise IndexError(position)
        yield Field(key >> 3, payload, value, message[start:position])


def texts(message: bytes, wanted: int) -> list[str]:
    """Return a field's payloads as text."""
    return [field.payload.decode() for field in fields(message) if field.number == wanted]


def varint(message: bytes, position: int) -> tuple[int, int]:
    """Read a number, and return it and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def encode(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited field."""
    header = bytearray()
    for value in (number << 3 | _DELIMITED, len(payload)):
        while value >= 0x80:
            header.append(value & 0x7F | 0x80)
            value >>= 7
        header.append(value)
    return bytes(header) + payload
