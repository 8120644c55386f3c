"""The weights of an ONNX model that stand in a file beside it, without the onnx package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mertric.errors import BundleError
from mertric.protobuf import fields, texts, varint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_EXTERNAL = 1, 2, 8, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_FLOAT = 1


class _Place(NamedTuple):
    """Where a tensor stands: its file, its first byte and its shape."""

    path: Path
    offset: int
    shape: tuple[int, ...]


class Initializers(Mapping[str, "NDArray[np.float32]"]):
    """A graph's float32 weights by name, each mapped from its file for as long as it is held.

    Parameters
    ----------
    graph
        An ONNX file. Weights that stand in it itself, or are of another type, are left out.

    Raises
    ------
    BundleError
        It is not an ONNX model, or, of a weight that is asked for, its file is not there or too short.
    """

    def __init__(self, graph: Path) -> None:
        self._graph = graph
        self._places: dict[str, _Place] = {}
        try:
            for model in fields(graph.read_bytes()):
                if model.number == _MODEL_GRAPH:
                    for part in fields(model.payload):
                        if part.number == _GRAPH_INITIALIZER:
                            self._add(part.payload)
        except (OSError, IndexError, KeyError, ValueError) as error:
            raise BundleError(f"{graph} is not an ONNX model ({error!r}). Export the bundle again.") from error

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        path, offset, shape = self._places[name]
        try:
            return np.memmap(path, np.float32, "r", offset, shape)
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{name} of {self._graph} is not in {path} ({error}). Export the bundle again."
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _add(self, tensor: bytes) -> None:
        """Note where a tensor stands."""
        shape: list[int] = []
        kind, external = 0, {}
        for number, payload, value, _ in fields(tensor):
            if number == _TENSOR_DIMS:
                shape += _numbers(payload) if payload else [value]
            elif number == _TENSOR_TYPE:
                kind = value
            elif number == _TENSOR_EXTERNAL:
                external[texts(payload, _ENTRY_KEY)[0]] = texts(payload, _ENTRY_VALUE)[0]
        if kind == _FLOAT and external:
            path = self._graph.parent / external["location"]
            self._places[texts(tensor, _TENSOR_NAME)[0]] = _Place(path, int(external.get("offset", 0)), tuple(shape))


def _numbers(packed: bytes) -> list[int]:
    numbers, position = [], 0
    while position < len(packed):
        number, position = varint(packed, position)
        numbers.append(number)
    return numbers
