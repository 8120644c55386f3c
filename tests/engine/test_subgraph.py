from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mertric.bundle import FRONTEND, encoder_graph
from mertric.errors import BundleError
from mertric.subgraph import keep_outputs

if TYPE_CHECKING:
    from pathlib import Path


def kept(path: Path, outputs: list[str]) -> onnx.ModelProto:
    return onnx.load_from_string(keep_outputs(path.read_bytes(), outputs))


@pytest.mark.parametrize("variant", ["fused", "portable", "pointwise"])
def test_lower_layers_need_fewer_nodes(bundle: Path, variant: str) -> None:
    path = bundle / "fp32" / encoder_graph(variant)
    graphs = [kept(path, [f"state_{layer}"]).graph for layer in range(1, 5)]
    nodes = [len(graph.node) for graph in graphs]
    weights = [len(graph.initializer) for graph in graphs]
    a_layer = nodes[1] - nodes[0]
    assert a_layer > 10
    assert nodes == [nodes[0] + layer * a_layer for layer in range(3)] + [nodes[2] + a_layer - 1]  # with no mean to add
    assert weights == sorted(set(weights))
    for layer, graph in enumerate(graphs, 1):
        assert not any(f"layers.{layer}." in node.name for node in graph.node)
        assert [output.name for output in graph.output] == [f"state_{layer}"]


def test_only_what_is_used_is_kept(bundle: Path) -> None:
    graph = kept(bundle / "fp32" / encoder_graph("fused"), ["state_1", "state_3"]).graph
    used = {name for node in graph.node for name in node.input}
    made = {name for node in graph.node for name in node.output}
    assert {tensor.name for tensor in graph.initializer} == used - made - {"state_0"}
    assert {output.name for output in graph.output} == {"state_1", "state_3"}
    assert [entry.name for entry in graph.input] == ["state_0"]
    assert not any(node.name.startswith("state_2") for node in graph.node)


def test_all_outputs_keep_the_model_as_it_is(bundle: Path) -> None:
    graphs = sorted(bundle.glob("fp32/*.onnx"))
    assert len(graphs) >= 3
    for path in graphs:
        whole = onnx.load(path, load_external_data=False)
        assert kept(path, [output.name for output in whole.graph.output]) == whole


def test_opsets_and_producer_stay(bundle: Path) -> None:
    path = bundle / "fp32" / encoder_graph("fused")
    whole, part = onnx.load(path, load_external_data=False), kept(path, ["state_1"])
    assert part.opset_import == whole.opset_import
    assert (part.ir_version, part.producer_name) == (whole.ir_version, whole.producer_name)


def test_intermediate_shapes_are_dropped_and_optional_inputs_stand() -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "top"], ["y"]),
        helper.make_node("Neg", ["y"], ["z"]),
        helper.make_node("Abs", ["y"], ["other"]),
    ]
    value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y", "z", "other")}
    top = numpy_helper.from_array(numpy_helper.to_array(helper.make_tensor("t", 1, [], [1.0])), "top")
    graph = helper.make_graph(
        nodes, "g", [value["x"]], [value["z"], value["other"]], [top], value_info=[value["y"], value["other"]]
    )
    model = helper.make_model(graph)
    part = onnx.load_from_string(keep_outputs(model.SerializeToString(), ["z"])).graph
    assert [node.op_type for node in part.node] == ["Clip", "Neg"]
    assert not part.value_info
    onnx.checker.check_graph(part, onnx.checker.DEFAULT_CONTEXT)


def test_an_output_that_is_not_there(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no output state_7, state_9\. Export the bundle again"):
        kept(bundle / "fp32" / encoder_graph("fused"), ["state_9", "state_1", "state_7"])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        keep_outputs(content, [])
    except BundleError as error:
        assert "is not an ONNX model. Export the bundle again" in str(error)


def test_a_cut_model_is_refused(bundle: Path) -> None:
    content = (bundle / "fp32" / FRONTEND).read_bytes()
    with pytest.raises(BundleError, match="not an ONNX model"):
        keep_outputs(content[: len(content) // 2], ["features"])
