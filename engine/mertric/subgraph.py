"""Cut an ONNX model down to some of its outputs, on the bytes of its protobuf message and without the onnx package.

A bundle's encoder graph has every hidden state as an output. What is not needed for the states asked for is
left out here, so that it is neither loaded nor run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.errors import BundleError
from mertric.protobuf import encode, fields, texts

if TYPE_CHECKING:
    from collections.abc import Collection

# Field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_TENSOR_NAME = 8
_VALUE_INFO_NAME = 1


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
            encode(field.number, _keep_in_graph(field.payload, outputs)) if field.number == _MODEL_GRAPH else field.raw
            for field in fields(model)
        )
    except (IndexError, UnicodeDecodeError) as error:
        raise BundleError("a graph of the bundle is not an ONNX model. Export the bundle again.") from error


def _keep_in_graph(graph: bytes, outputs: Collection[str]) -> bytes:
    parts = list(fields(graph))
    missing = set(outputs) - {_name(part.payload, _VALUE_INFO_NAME) for part in parts if part.number == _GRAPH_OUTPUT}
    if missing:
        raise BundleError(f"a graph of the bundle has no output {', '.join(sorted(missing))}. Export the bundle again.")
    needed = set(outputs)
    kept = []
    for part in reversed(parts):
        if part.number == _GRAPH_NODE:
            if needed.isdisjoint(texts(part.payload, _NODE_OUTPUT)):
                continue
            needed.update(filter(None, texts(part.payload, _NODE_INPUT)))
        elif part.number == _GRAPH_OUTPUT:
            if _name(part.payload, _VALUE_INFO_NAME) not in outputs:
                continue
        elif part.number == _GRAPH_VALUE_INFO:
            continue
        kept.append(part)
    return b"".join(
        part.raw
        for part in reversed(kept)
        if part.number != _GRAPH_INITIALIZER or _name(part.payload, _TENSOR_NAME) in needed
    )


def _name(message: bytes, wanted: int) -> str:
    return texts(message, wanted)[0]
