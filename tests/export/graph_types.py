"""Types of all values of a graph, by the rules of its operators, ONNX Runtime's own among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    import onnx

_FIXED = {"Shape": TensorProto.INT64, "Less": TensorProto.BOOL, "MatMulIntegerToFloat": TensorProto.FLOAT}
_SAME = {"Add", "Sub", "Mul", "Div", "Max", "MatMul", "Conv", "Concat", "LayerNormalization"}
_SAME |= {"SkipLayerNormalization", "BiasGelu", "Attention", "MultiHeadAttention"}


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of each value; operators that take one type must get one."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        given = [types[name] for name in node.input if name]
        if node.op_type in _SAME:
            assert len(set(given)) == 1, f"{node.name} takes {given}"
        types |= dict.fromkeys(node.output, _FIXED.get(node.op_type, given[0]))
        if node.op_type == "Cast":
            types[node.output[0]] = next(one.i for one in node.attribute if one.name == "to")
        elif node.op_type in ("Where", "DequantizeLinear"):
            types[node.output[0]] = given[1]
        elif node.op_type == "QuantizeLinear":
            types[node.output[0]] = given[2]
    return types
