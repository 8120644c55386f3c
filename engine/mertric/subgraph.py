"""Cut an ONNX model down to some of its outputs, on the bytes of its protobuf message and without the onnx package.

A bundle's encoder graph has every hidden state as an output. What is not needed for the states asked for is
left out here, so that it is neither loaded nor run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# Field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_TENSOR_NAME = 8
_VALUE_INFO_NAME = 1

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def keep_outputs(model: bytes, outputs: Collection[str]) -> bytes:
    """Return a model with only the given outputs, and the nodes and initializers that they need.

    Parameters
    ----------
    model
        A serialised ``ModelProto`` whose graph has no subgraphs.
    outputs
        Names of outputs of its graph.

    Raises
    ------
    BundleError
        The bytes are not such a message, or the graph has no output of a given name.
    """
    try:
        return b"".join(
            _field(number, _keep_in_graph(payload, outputs)) if number == _MODEL_GRAPH else raw
            for number, payload, raw in _fields(model)
        )
    except (IndexError, UnicodeDecodeError) as error:
        raise BundleError("a graph of the bundle is not an ONNX model. Export the bundle again.") from error


def _keep_in_graph(graph: bytes, outputs: Collection[str]) -> bytes:
    fields = list(_fields(graph))
    missing = set(outputs) - {_name(p, _VALUE_INFO_NAME) for number, p, _ in fields if number == _GRAPH_OUTPUT}
    if missing:
        raise BundleError(f"a graph of the bundle has no output {', '.join(sorted(missing))}. Export the bundle again.")
    needed = set(outputs)
    kept = []
    for number, payload, raw in reversed(fields):
        if number == _GRAPH_NODE:
            if needed.isdisjoint(_names(payload, _NODE_OUTPUT)):
                continue
            needed.update(filter(None, _names(payload, _NODE_INPUT)))
        elif number == _GRAPH_OUTPUT:
            if _name(payload, _VALUE_INFO_NAME) not in outputs:
                continue
        elif number == _GRAPH_VALUE_INFO:
            continue
        kept.append((number, payload, raw))
    return b"".join(
        raw
        for number, payload, raw in reversed(kept)
        if number != _GRAPH_INITIALIZER or _name(payload, _TENSOR_NAME) in needed
    )


def _names(message: bytes, wanted: int) -> list[str]:
    return [payload.decode() for number, payload, _ in _fields(message) if number == wanted]


def _name(message: bytes, wanted: int) -> str:
    return _names(message, wanted)[0]


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield each field's number, its payload where it is length-delimited, and all its bytes."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        kind, payload = key & 7, b""
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _DELIMITED:
            length, position = _varint(message, position)
            payload = message[position : position + length]
            position += length
        else:
            raise IndexError(kind)
        if position > len(message):
            raise IndexError(position)
        yield key >> 3, payload, message[start:position]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def _field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited field."""
    header = bytearray()
    for value in (number << 3 | _DELIMITED, len(payload)):
        while value >= 0x80:
            header.append(value & 0x7F | 0x80)
            value >>= 7
        header.append(value)
    return bytes(header) + payload
