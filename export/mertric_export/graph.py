"""A small builder of ONNX graphs whose weights stand in one file that several graphs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

OPSET = 20
IR_VERSION = 10
END = 2**31 - 1
"""As the end of a slice: up to the last."""
MICROSOFT = "com.microsoft"
_ALIGNMENT = 65536
"""Bytes. What a memory map's offset must be a multiple of on Windows, and a multiple of a page elsewhere."""
_LARGE = 65536
"""Bytes. Tensors from this size on start at a multiple of `_ALIGNMENT`, so that they can be mapped."""


class WeightFile:
    """Weights as ONNX external data, appended to one file; a name is written once and can be used by any graph.

    Parameters
    ----------
    path
        The file to create. Graphs that refer to it must stand in the same directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._tensors: dict[str, TensorProto] = {}

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[Any], kind: int | None = None) -> TensorProto:
        """Write an array, unless `name` is there already, and return the tensor that refers to it.

        Its element type is the array's, or `kind` of `onnx.TensorProto` where the array holds bits that NumPy has no
        type for.
        """
        if name not in self._tensors:
            data = np.ascontiguousarray(array)
            alignment = _ALIGNMENT if data.nbytes >= _LARGE else 64
            self._file.seek(-self._file.tell() % alignment, 1)
            offset = self._file.tell()
            self._file.write(data.data)
            self._tensors[name] = _external(name, data, self._path.name, offset, kind)
        return self._tensors[name]


class GraphBuilder:
    """Collects nodes, weights, inputs and outputs, and makes a model of them.

    Everything is in float32 here. What another precision does otherwise is `matrix` and `product`, `weight`, and
    `narrow` and `widen`, which a description of a model calls where a lower precision may begin and must end. What a
    runtime does faster otherwise is `folded`, `gelu` and the flags.

    Parameters
    ----------
    name
        The graph's name.
    weights
        Where `weight` puts its arrays.
    """

    coarse: ClassVar[bool] = False
    """Whether products read values of so few bits that what they have in common is better taken off before."""
    joins_rows: ClassVar[bool] = False
    """Whether rows are put side by side for one product, which is rounded once, instead of adding two products up."""
    convolves: ClassVar[bool] = True
    """Whether the positional convolution is an operator, or products."""
    joins_attention: ClassVar[bool] = True
    """Whether attention may be one operator with the products of its queries, keys and values."""
    convolves_rows: ClassVar[bool] = False
    """Whether the front end's convolutions are operators, or products."""

    def __init__(self, name: str, weights: WeightFile) -> None:
        self._name = name
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dims: tuple[str | int, ...], kind: int = TensorProto.FLOAT) -> str:
        """Declare an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return name

    def output(self, value: str, name: str, dims: tuple[str | int, ...]) -> None:
        """Declare `value`, in float32, an output of the graph, under `name`."""
        self._nodes.append(helper.make_node("Identity", [self.widen(value)], [name], name=f"{name}/Identity"))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))

    def narrow(self, value: str) -> str:
        """Bring a value to the type of activations."""
        return value

    def widen(self, value: str) -> str:
        """Bring a value to float32."""
        return value

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        """Refer to a weight in the type of activations, which is written to the weights file at its first use."""
        return self.wide_weight(name, array)

    def wide_weight(self, name: str, array: NDArray[Any], kind: int | None = None) -> str:
        """Refer to a weight in the type that it has, see `WeightFile.add`."""
        self._initializers[name] = self._weights.add(name, array, kind)
        return name

    def matrix(self, name: str, array: NDArray[np.float32], *, whole: NDArray[np.float32] | None = None) -> str:  # noqa: ARG002
        """Refer to the second factor of a `product`, [in, out].

        Matrices that will be `joined` one above the other are rows of a `whole`, [more, out].
        """
        return self.weight(name, array)

    def scaled(self, name: str, matrix: str, factor: str) -> str:
        """Refer to a matrix times a number, by a node on constants."""
        return self.node(name, "Mul", matrix, factor)

    def joined(self, name: str, matrices: Sequence[str], axis: int) -> str:
        """Refer to matrices one above the other, or, for `axis` 1, side by side, by a node on constants."""
        return self.node(name, "Concat", *matrices, axis=axis)

    def following(self, name: str, pairs: str, channels: int) -> str:
        """Add the first halves of the next rows of `pairs` [batch, rows, 2 * channels]; zeros follow the last row."""
        return self.node(name, "Pad", pairs, self.integers(0, -1, 0, 0, 1, -channels))

    def folded(self, name: str, windows: str, weights: str) -> str:
        """Add the product of the first convolution, whose weights are each clip's own, [batch, columns, channels]."""
        return self.node(name, "MatMul", windows, weights)

    def gelu(self, name: str, value: str, channels: int) -> str:  # noqa: ARG002
        """Add a GELU, in its erf form, of a value with so many channels."""
        return self.node(name, "Gelu", value)

    def biased_gelu(self, name: str, value: str, bias: str) -> str:
        """Add the GELU of a value and a bias in one operator, of ONNX Runtime's own."""
        return self.node(name, "BiasGelu", value, bias, domain=MICROSOFT)

    def product(self, name: str, value: str, matrix: str, bias: str | None = None) -> str:
        """Add `value` @ `matrix` + `bias`."""
        if bias is None:
            return self.node(name, "MatMul", self.narrow(value), matrix)
        return self.node(name, "Add", self.product(f"{name}.product", value, matrix), bias)

    def integers(self, *values: int) -> str:
        """Refer to a constant vector of int64, kept inside the graph."""
        name = "int64_" + "_".join(map(str, values)).replace("-", "m")
        self._initializers[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def integer(self, value: int) -> str:
        """Refer to a constant int64 scalar, kept inside the graph."""
        name = f"int64_scalar_{value}"
        self._initializers[name] = numpy_helper.from_array(np.array(value, np.int64), name)
        return name

    def node(self, name: str, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, which is named like the node, and return that name."""
        self.nodes(name, op, inputs, [name], domain=domain, **attributes)
        return name

    def nodes(
        self, name: str, op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> None:
        """Add a node with any number of outputs."""
        self._nodes.append(helper.make_node(op, inputs, outputs, name=f"{name}/{op}", domain=domain, **attributes))

    def linear(self, name: str, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """Add `value` @ weight.T + bias, for a weight [out, in] as PyTorch stores it."""
        matrix = self.matrix(f"{name}.weight", weight.T)
        return self.product(name, value, matrix, self.weight(f"{name}.bias", bias))

    def layer_norm(
        self, name: str, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32], epsilon: float
    ) -> str:
        """Add a LayerNorm over the last axis, in float32."""
        scale, offset = self.wide_weight(f"{name}.weight", weight), self.wide_weight(f"{name}.bias", bias)
        return self.node(name, "LayerNormalization", self.widen(value), scale, offset, axis=-1, epsilon=epsilon)

    def model(self) -> onnx.ModelProto:
        """Make the model of what was collected."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        domains = {node.domain for node in self._nodes} - {""}
        opsets = [
            helper.make_opsetid("", OPSET),
            *(helper.make_opsetid(domain, 1) for domain in sorted(domains)),
        ]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mertric")


class PortableBuilder(GraphBuilder):
    """Builds the graphs in float32 for providers that may round it by themselves."""

    joins_rows = True


class ProductBuilder(GraphBuilder):
    """Builds the graphs in float32 for GPUs."""

    joins_rows = True
    convolves = False


def _external(name: str, array: NDArray[Any], location: str, offset: int, kind: int | None) -> TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype) if kind is None else kind,
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
