"""Graphs that compute in float16 where it is safe, and say so in their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from mertric.errors import ExportError
from mertric_export.graph import GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric_export.graph import WeightFile

_LARGEST = float(np.finfo(np.float16).max)


class HalfBuilder(GraphBuilder):
    """Builds graphs with products, convolutions, GELU and attention in float16, as their types say.

    Inputs and outputs, the fold's product, LayerNorms, softmax and what residuals are added to are in float32. What is
    computed from a value in float16 is in float16, up to `widen`.
    """

    def __init__(self, name: str, weights: WeightFile) -> None:
        super().__init__(name, weights)
        self._half: set[str] = set()

    def narrow(self, value: str) -> str:
        """Bring a value to float16."""
        if value in self._half:
            return value
        narrowed = f"{value}.half"
        if narrowed not in self._half:
            self.node(narrowed, "Cast", value, to=TensorProto.FLOAT16)
            self._half.add(narrowed)
        return narrowed

    def widen(self, value: str) -> str:
        """Bring a value to float32."""
        return self.node(f"{value}.single", "Cast", value, to=TensorProto.FLOAT) if value in self._half else value

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        """Refer to a weight in float16.

        Raises
        ------
        ExportError
            One of its values is beyond the range of float16.
        """
        largest = float(np.abs(array).max())
        if not largest <= _LARGEST:
            raise ExportError(
                f"{name} holds {largest:g}; float16 ends at {_LARGEST:g}. Nothing was written. "
                "Export this checkpoint without --precision fp16."
            )
        self._half.add(name)
        return self.wide_weight(name, array.astype(np.float16))

    def nodes(
        self, name: str, op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> None:
        """Add a node, whose outputs are in float16 if one of its inputs is."""
        super().nodes(name, op, inputs, outputs, domain=domain, **attributes)
        if op != "Cast" and not self._half.isdisjoint(inputs):
            self._half.update(outputs)
