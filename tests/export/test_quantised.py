from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from checkpoints import SMALL, centred
from graph_types import value_types
from mertric_export import export
from mertric_export.checkpoint import read_checkpoint
from mertric_export.graph import WeightFile
from mertric_export.quantised import PortableQuantisedBuilder, QuantisedBuilder
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]


BUILDERS = [QuantisedBuilder, PortableQuantisedBuilder]


def multiply(
    directory: Path,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    builder: type[QuantisedBuilder] = QuantisedBuilder,
) -> tuple[Array, onnx.ModelProto]:
    """Run a graph of one product, and return its result and the graph."""
    with WeightFile(directory / "w.bin") as weights:
        graph = builder("g", weights)
        value = graph.input("x", ("batch", "rows", weight.shape[0]))
        added = None if bias is None else graph.weight("bias", bias)
        product = graph.product("p", value, graph.matrix("w", weight), added)
        graph.output(product, "y", ("batch", "rows", weight.shape[1]))
        model = graph.model()
    path = directory / "g.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path, full_check=True)
    (result,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return result, onnx.load(path)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("spread", ["normal", "heavy", "extreme"])
def test_a_product_has_14_bits(tmp_path: Path, spread: str, builder: type[QuantisedBuilder]) -> None:
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, 37, 256)), rng.standard_normal((256, 48))
    if spread == "heavy":
        x, weight = x**3, weight**3
    if spread == "extreme":  # every level at an end: what saturates a processor's 16-bit sums
        x, weight = np.ones_like(x), np.where(weight > -1, 1.0, -1.0)
    bias = rng.standard_normal(48).astype(np.float32)
    got, _ = multiply(tmp_path, x.astype(np.float32), weight.astype(np.float32), bias, builder)
    exact = x.astype(np.float32).astype(float) @ weight.astype(np.float32) + bias
    steps = np.abs(x).max(axis=-1, keepdims=True) * np.abs(weight).max(axis=0) * np.sqrt(256)
    assert (np.abs(got - exact) / steps).max() < 2.0**-13


@pytest.mark.parametrize("builder", BUILDERS)
def test_rows_and_columns_of_any_size(tmp_path: Path, builder: type[QuantisedBuilder]) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 6, 32)).astype(np.float32) * np.array([[1e-30], [1e-6], [1], [1e6], [1e30], [0]], "f4")
    weight = rng.standard_normal((32, 5)).astype(np.float32) * np.array([1e-6, 1, 1e6, 0, 1], np.float32)
    got, _ = multiply(tmp_path, x, weight, builder=builder)
    scale = np.linalg.norm(x.astype(float), axis=-1)[..., None] * np.linalg.norm(weight.astype(float), axis=0)
    np.testing.assert_array_less(np.abs(got - x.astype(float) @ weight), 3e-4 * scale + 1e-300)


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_row_does_not_depend_on_others(tmp_path: Path, builder: type[QuantisedBuilder]) -> None:
    rng = np.random.default_rng(5)
    x, weight = rng.standard_normal((3, 9, 64)).astype(np.float32), rng.standard_normal((64, 7)).astype(np.float32)
    x[1] *= 1000
    together, _ = multiply(tmp_path, x, weight, builder=builder)
    for index in range(3):
        alone, _ = multiply(tmp_path, x[index : index + 1, :4], weight, builder=builder)
        np.testing.assert_array_equal(together[index, :4], alone[0])


def test_levels_leave_room_for_16_bit_sums(tmp_path: Path) -> None:
    """Two products of a level of a row, at most 127, and one of a column, at most 127, fit 16 bits."""
    rng = np.random.default_rng(6)
    _, model = multiply(tmp_path, np.ones((1, 1, 64), np.float32), rng.standard_normal((64, 9)).astype(np.float32))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert tensors["w.coarse"].dtype == tensors["w.both"].dtype == np.int8
    assert (np.abs(tensors["w.coarse"]).max(axis=0) == 127).all()
    assert np.abs(tensors["w.both"][64:]).max() <= 63
    most = tensors["level.63.zero"] + 1 / tensors["level.63.coarse"]
    assert 2 * most * 127 < 2**15


def test_one_input_is_quantised_once(tmp_path: Path) -> None:
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = QuantisedBuilder("g", weights)
        value = graph.input("x", (1, 4))
        for name in "qkv":
            graph.product(name, value, graph.matrix(f"{name}.weight", np.ones((4, 4), np.float32)))
        operators = [node.op_type for node in graph.model().graph.node]
    assert operators.count("QuantizeLinear") == 2
    assert operators.count("MatMulIntegerToFloat") == 6


@pytest.mark.parametrize("axis", [0, 1])
def test_parts_of_a_matrix_are_joined_and_scaled(tmp_path: Path, axis: int) -> None:
    """As weights are that several graphs share."""
    rng = np.random.default_rng(7)
    x, whole = rng.standard_normal((1, 5, 12)).astype(np.float32), rng.standard_normal((12, 8)).astype(np.float32)
    parts = np.split(whole, 2, axis=axis)
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = PortableQuantisedBuilder("g", weights)
        value = graph.input("x", ("batch", "rows", 12))
        names = [
            graph.matrix(f"w{index}", part, whole=whole if axis == 0 else None) for index, part in enumerate(parts)
        ]
        joined = graph.scaled("twice", graph.joined("w", names, axis), graph.wide_weight("two", np.float32(2)))
        graph.output(graph.product("p", value, joined), "y", ("batch", "rows", 8))
        model = graph.model()
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    (got,) = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(got, 2 * x @ whole, atol=3e-3)


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_first_half_of_the_next_row(tmp_path: Path, builder: type[QuantisedBuilder]) -> None:
    rng = np.random.default_rng(8)
    x, weight = rng.standard_normal((2, 5, 6)).astype(np.float32), rng.standard_normal((3, 4)).astype(np.float32)
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = builder("g", weights)
        value = graph.input("x", ("batch", "rows", 6))
        graph.product("all", value, graph.matrix("unused", np.ones((6, 1), np.float32)))
        moved = graph.following("moved", value, 3)
        graph.output(graph.product("p", moved, graph.matrix("w", weight)), "y", ("batch", "rows", 4))
        model = graph.model()
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    (got,) = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(got[:, :-1], x[:, 1:, :3] @ weight, atol=2e-3)
    assert (got[:, -1] == 0).all()


@pytest.mark.parametrize("file", ["frontend.portable", "encoder.portable"])
def test_openvino_finds_every_product_between_levels(tmp_path: Path, file: str) -> None:
    """All but the folded first convolution and attention multiply what `DequantizeLinear` gives, perhaps moved."""
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "source", SMALL))
    export._write_graphs(checkpoint.config, centred(checkpoint), tmp_path / "graphs", "int8")
    model = onnx.load(tmp_path / "graphs" / f"{file}.onnx", load_external_data=False)
    made = {output: node for node in model.graph.node for output in node.output}

    def source(name: str) -> str:
        node = made.get(name)
        return source(node.input[0]) if node is not None and node.op_type == "Pad" else getattr(node, "op_type", "")

    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    plain = [node.name for node in products if {source(name) for name in node.input} != {"DequantizeLinear"}]
    assert all(name.endswith(("similarity/MatMul", "mixed/MatMul")) or name == "conv0.product/MatMul" for name in plain)
    assert len(products) - len(plain) == (3 * (2 * 4 + 2 + 1) if file.startswith("frontend") else 3 * 2 * 6)
    assert not {node.domain for node in model.graph.node} - {""}


@pytest.mark.parametrize("file", ["frontend", "positions", "encoder.fused"])
def test_only_products_are_of_integers(tmp_path: Path, file: str) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "source", SMALL))
    export._write_graphs(checkpoint.config, centred(checkpoint), tmp_path / "graphs", "int8")
    model = onnx.load(tmp_path / "graphs" / f"{file}.onnx", load_external_data=False)
    types = value_types(model)
    products = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    assert products == (["conv0.product/MatMul"] if file == "frontend" else [])
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gelu", "LayerNormalization", "MultiHeadAttention", "Add", "Mul"):
            assert types[node.input[0]] == TensorProto.FLOAT, node.name
