from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from mertric_export.graph import GraphBuilder, WeightFile

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, tensor: onnx.TensorProto) -> np.ndarray:  # type: ignore[type-arg]
    return numpy_helper.to_array(tensor, base_dir=str(path.parent))


def place(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def test_weights_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    rng = np.random.default_rng(0)
    arrays = {
        "small": rng.standard_normal(3).astype(np.float32),
        "large": rng.standard_normal((200, 100)).astype(np.float32),
        "transposed": rng.standard_normal((5, 7)).astype(np.float32).T,
        "scalar": np.array(0.125, np.float32),
        "after": rng.standard_normal(17).astype(np.float32),
    }
    with WeightFile(path) as weights:
        tensors = {name: weights.add(name, array) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read(path, tensor).reshape(arrays[name].shape), arrays[name])
    starts = {name: int(place(tensor)["offset"]) for name, tensor in tensors.items()}
    assert all(start % 64 == 0 for start in starts.values())
    assert starts["large"] % 65536 == 0
    assert place(tensors["small"])["location"] == "w.bin"


def test_a_name_is_written_once(tmp_path: Path) -> None:
    array = np.ones(1000, np.float32)
    with WeightFile(tmp_path / "w.bin") as weights:
        first = weights.add("a", array)
        assert weights.add("a", array) is first
        one, other = GraphBuilder("one", weights), GraphBuilder("other", weights)
        assert one.weight("a", array) == other.weight("a", array) == "a"
    assert (tmp_path / "w.bin").stat().st_size == array.nbytes


def test_a_graph_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    scale, offset = rng.standard_normal(4).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = GraphBuilder("g", weights)
        value = graph.input("x", ("batch", "time", 6))
        linear = graph.linear("linear", value, weight, bias)
        normed = graph.layer_norm("norm", linear, scale, offset, 1e-5)
        folded = graph.node("folded", "Reshape", normed, graph.integers(0, -1, 2))
        graph.output(folded, "y", ("batch", "half", 2))
        model = graph.model()
    path = tmp_path / "g.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path, full_check=True)
    x = rng.standard_normal((2, 3, 6)).astype(np.float32)
    (got,) = onnxruntime.InferenceSession(path).run(["y"], {"x": x})
    product = x @ weight.T + bias
    centred = product - product.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt(product.var(axis=-1, keepdims=True) + 1e-5) * scale + offset
    np.testing.assert_allclose(got, expected.reshape(2, 6, 2), atol=1e-5)


def test_only_the_domains_used_are_declared(tmp_path: Path) -> None:
    with WeightFile(tmp_path / "w.bin") as weights:
        plain, fused = GraphBuilder("plain", weights), GraphBuilder("fused", weights)
        for graph in (plain, fused):
            graph.output(graph.input("x", (1,)), "y", (1,))
        fused.node("z", "FastGelu", "x", domain="com.microsoft")
        assert [opset.domain for opset in plain.model().opset_import] == [""]
        assert [opset.domain for opset in fused.model().opset_import] == ["", "com.microsoft"]


def test_integers_of_the_same_value_are_one(tmp_path: Path) -> None:
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = GraphBuilder("g", weights)
        assert graph.integers(0, -1) == graph.integers(0, -1) != graph.integers(0, 1)
        assert graph.integers(-1) != graph.integers(1)
        kept = {t.name: numpy_helper.to_array(t).tolist() for t in graph.model().graph.initializer}
    assert sorted(kept.values()) == [[-1], [0, -1], [0, 1], [1]]


def test_the_file_is_closed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), WeightFile(tmp_path / "w.bin") as weights:
        raise RuntimeError
    with pytest.raises(ValueError, match="closed file"):
        weights.add("a", np.ones(1, np.float32))
