"""Graphs that compute in 16-bit floating point where it is safe, and say so in their types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from onnx import TensorProto

from mertric.errors import ExportError
from mertric_export.graph import GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mertric_export.graph import WeightFile


def round_to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of finite numbers in bfloat16, each rounded to the nearest, of two equally near to the even one.

    A bfloat16 is the upper half of a float32.
    """
    bits = array.view(np.uint32)
    even = (bits >> 16) & 1
    return ((bits + (np.uint32(0x7FFF) + even)) >> 16).astype(np.uint16)


@dataclass(frozen=True, kw_only=True)
class NarrowType:
    """A 16-bit type.

    Attributes
    ----------
    kind : int
        Of `onnx.TensorProto`.
    name : str
    precision : str
        What `mertric export` calls it.
    largest : float
        Its largest number.
    round : callable
        Brings float32 to it.
    """

    kind: int
    name: str
    precision: str
    largest: float
    round: Callable[[NDArray[np.float32]], NDArray[Any]]


FLOAT16 = NarrowType(
    kind=TensorProto.FLOAT16,
    name="float16",
    precision="fp16",
    largest=float(np.finfo(np.float16).max),
    round=lambda array: array.astype(np.float16),
)
BFLOAT16 = NarrowType(
    kind=TensorProto.BFLOAT16,
    name="bfloat16",
    precision="bf16",
    largest=float(np.array(0x7F7F0000, np.uint32).view(np.float32)),
    round=round_to_bfloat16,
)


class NarrowBuilder(GraphBuilder):
    """Builds graphs with values in a 16-bit type, `narrow_type`, beside float32."""

    coarse = True
    joins_rows = True
    convolves = False
    narrow_type: ClassVar[NarrowType]

    def __init__(self, name: str, weights: WeightFile) -> None:
        super().__init__(name, weights)
        self._narrow: set[str] = set()
        self._widened: set[str] = set()

    def _to_narrow(self, value: str) -> str:
        """Bring a value to the 16-bit type, once."""
        if value in self._narrow:
            return value
        narrowed = f"{value}.{self.narrow_type.name}"
        if narrowed not in self._narrow:
            self.node(narrowed, "Cast", value, to=self.narrow_type.kind)
            self._narrow.add(narrowed)
        return narrowed

    def _to_float32(self, value: str) -> str:
        """Bring a value in the 16-bit type to float32, once."""
        widened = f"{value}.float32"
        if widened not in self._widened:
            self.node(widened, "Cast", value, to=TensorProto.FLOAT)
            self._widened.add(widened)
        return widened

    def _narrow_weight(self, name: str, array: NDArray[np.float32]) -> str:
        """Refer to a weight in the 16-bit type.

        Raises
        ------
        ExportError
            One of its values is beyond the type's range.
        """
        kind, largest = self.narrow_type, float(np.abs(array).max())
        if not largest <= kind.largest:
            raise ExportError(
                f"{name} holds {largest:g}; {kind.name} ends at {kind.largest:g}. Nothing was written. "
                f"Export this checkpoint without --precision {kind.precision}."
            )
        self._narrow.add(name)
        return self.wide_weight(name, kind.round(array), kind.kind)


class HalfBuilder(NarrowBuilder):
    """Builds graphs with products, convolutions, GELU and ``fused`` attention in float16, as their types say.

    Inputs and outputs, the fold's product, LayerNorms and what residuals are added to are in float32, and so is
    ``portable`` attention: scores, before their softmax, may be beyond float16, and only the kernels for ``fused``
    hold them in float32. What is computed from a value in float16 is in float16, up to `widen`.
    """

    narrow_type = FLOAT16

    def narrow(self, value: str) -> str:
        """Bring a value to float16."""
        return self._to_narrow(value)

    def widen(self, value: str) -> str:
        """Bring a value to float32."""
        return self._to_float32(value) if value in self._narrow else value

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        """Refer to a weight in float16; ExportError where it is beyond the range of that."""
        return self._narrow_weight(name, array)

    def nodes(
        self, name: str, op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> None:
        """Add a node, whose outputs are in float16 if one of its inputs is."""
        super().nodes(name, op, inputs, outputs, domain=domain, **attributes)
        if op != "Cast" and not self._narrow.isdisjoint(inputs):
            self._narrow.update(outputs)


class HalfClipsBuilder(HalfBuilder):
    """Builds the graph of whole clips in float16, with what ONNX Runtime's CUDA provider does fastest.

    The fold's product is in float16 too, its factors in two parts each.
    """

    coarse = False

    def folded(self, name: str, windows: str, weights: str) -> str:
        """Add the product in float16, of both factors in two parts, see `mertric.fold.FoldedClip.split`."""
        high, low = self._parts(windows)
        weights_high, weights_low = self._parts(weights)
        left = self.node(f"{name}.windows", "Concat", high, high, low, axis=-1)
        right = self.node(f"{name}.weights", "Concat", weights_high, weights_low, weights_high, axis=-2)
        return self.node(name, "MatMul", left, right)

    def _parts(self, value: str) -> tuple[str, str]:
        """Part a value into what float16 keeps of it and what it leaves, both in float16."""
        high = self._to_narrow(value)
        return high, self._to_narrow(self.node(f"{value}.rest", "Sub", value, self._to_float32(high)))

    def gelu(self, name: str, value: str, channels: int) -> str:
        """Add a GELU as the operator that has a bias, here 0: its kernel is twice as fast."""
        return self.biased_gelu(name, value, self.weight(f"zeros.{channels}", np.zeros(channels, np.float32)))


class HalfFixedBuilder(HalfClipsBuilder):
    """The same for shapes that do not change: cuDNN's convolutions take a while to get ready for each."""

    convolves_rows = True


class BrainBuilder(NarrowBuilder):
    """Builds graphs with products of weights in bfloat16, as their types say; all else is in float32.

    With 8 bits, every rounding counts. Rounded are both factors of a product, and its result, which ONNX Runtime gives
    in no other type. What takes a GPU little time stays in float32: sums with a bias, GELU, LayerNorm and residuals.

    There was little choice. ONNX Runtime's CUDA provider has no `Pad` in bfloat16 and, at this opset, no `Conv`; it has
    ``com.microsoft`` `MultiHeadAttention` only in later versions than the first that mertric supports; and a graph does
    not load with an operator that has no kernel. Attention in float32 keeps the operator that forms no
    frames x frames matrix. In float16 it would be faster, but that ends at 65504, and who asks for bfloat16 does so
    for its range.
    """

    narrow_type = BFLOAT16
    joins_attention = False

    def matrix(self, name: str, array: NDArray[np.float32], *, whole: NDArray[np.float32] | None = None) -> str:  # noqa: ARG002
        """Refer to a second factor in bfloat16; ExportError where it is beyond the range of that."""
        return self._narrow_weight(name, array)

    def product(self, name: str, value: str, matrix: str, bias: str | None = None) -> str:
        """Add the product in bfloat16, brought to float32, and there the bias."""
        product = self.node(f"{name}.narrow", "MatMul", self._to_narrow(value), matrix)
        widened = self._to_float32(product)
        return widened if bias is None else self.node(name, "Add", widened, bias)
