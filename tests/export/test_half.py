from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from checkpoints import SMALL
from graph_types import value_types
from mertric.errors import ExportError
from mertric_export import export
from mertric_export.checkpoint import read_checkpoint
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.graph import WeightFile
from mertric_export.half import HalfBuilder
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
FILES = ["frontend", "positions", "encoder.fused", "encoder.ragged", "encoder.portable"]
# ONNX Runtime's docs/OperatorKernels.md, CUDAExecutionProvider, at the opset of the graphs: types of the data.
CUDA = {
    name: {HALF, SINGLE}
    for name in (
        *("Add", "Cast", "Conv", "Gelu", "Identity", "LayerNormalization", "MatMul", "MultiHeadAttention"),
        *("Pad", "Reshape", "Slice", "Transpose"),
    )
}


@pytest.fixture(scope="module", params=["group", "layer"])
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fp16 graphs of each family, ``post`` and ``stable``."""
    home = tmp_path_factory.mktemp("graphs")
    for name, stable in (("post", False), ("stable", True)):
        norm = request.param
        config = dataclasses.replace(SMALL, do_stable_layer_norm=stable, feat_extract_norm=norm, conv_bias=True)
        checkpoint = read_checkpoint(write_checkpoint(home / f"{name}.source", config))
        export._write_graphs(checkpoint, home / name, "fp16")
    return home


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize("file", FILES)
def test_types_are_what_the_builder_says(graphs: Path, family: str, file: str) -> None:
    path = graphs / family / f"{file}.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    types = value_types(model)
    for value in (*model.graph.input, *model.graph.output):
        assert types[value.name] == (TensorProto.INT32 if value.name == "lengths" else SINGLE)
    for node in model.graph.node:
        kinds = {types[name] for name in node.input if types[name] in (HALF, SINGLE)}
        if node.op_type in ("LayerNormalization", "Softmax") or node.name == "conv0.product/MatMul":
            assert kinds == {SINGLE}, node.name
        elif node.op_type in ("MatMul", "Conv", "Gelu", "MultiHeadAttention"):
            assert kinds == {HALF}, node.name


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize("file", ["positions", *FILES[2:]])
def test_residuals_are_added_in_float32(graphs: Path, family: str, file: str) -> None:
    model = onnx.load(graphs / family / f"{file}.onnx", load_external_data=False)
    types = value_types(model)
    ends = ("out_proj.sum/Add", "output_dense.sum/Add", "output_dense.residual/Add", "positioned/Add")
    residuals = [node for node in model.graph.node if node.name.endswith(ends)]
    assert len(residuals) == (1 if file == "positions" else 2 * SMALL.num_hidden_layers)
    assert {types[name] for node in residuals for name in (*node.input, *node.output)} == {SINGLE}


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize("file", FILES[:-1])
def test_cuda_runs_every_operator_in_its_type(graphs: Path, family: str, file: str) -> None:
    model = onnx.load(graphs / family / f"{file}.onnx", load_external_data=False)
    types = value_types(model)
    for node in model.graph.node:
        assert types[node.input[0]] in CUDA[node.op_type], node.name
        assert types[node.output[0]] in CUDA[node.op_type], node.name


def test_the_portable_graph_has_onnx_operators_only(graphs: Path) -> None:
    for path in graphs.glob("*/*.onnx"):
        model = onnx.load(path, load_external_data=False)
        custom = {node.op_type for node in model.graph.node if node.domain}
        assert custom == ({"MultiHeadAttention"} if path.stem in ("encoder.fused", "encoder.ragged") else set())


@pytest.mark.parametrize("family", ["post", "stable"])
def test_weights_are_stored_in_float16_but_those_of_norms(graphs: Path, family: str) -> None:
    for path in (graphs / family).glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            wide = "layer_norm" in tensor.name or ".norm." in tensor.name or tensor.name.startswith("mask.")
            kinds = {TensorProto.INT64} if tensor.name.startswith("int64") else {SINGLE} if wide else {HALF}
            assert tensor.data_type in kinds, tensor.name


def test_a_value_is_cast_once_and_only_if_it_must(tmp_path: Path) -> None:
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = HalfBuilder("g", weights)
        value = graph.input("x", ("n", 4))
        narrowed = graph.narrow(value)
        assert graph.narrow(value) == graph.narrow(narrowed) == narrowed
        assert graph.widen(value) == value
        graph.output(graph.node("y", "Gelu", narrowed), "z", ("n", 4))
        casts = [node.input[0] for node in graph.model().graph.node if node.op_type == "Cast"]
    assert casts == ["x", "y"]


@pytest.mark.parametrize("value", [7e4, -7e4, np.inf])
def test_a_weight_beyond_float16_is_refused(tmp_path: Path, value: float) -> None:
    source = write_checkpoint(tmp_path / "source", SMALL)
    checkpoint = read_checkpoint(source)
    name = "encoder.layers.1.attention.k_proj.weight"
    tensor = checkpoint.tensors[name].copy()
    tensor[3, 5] = value
    spoilt = dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, name: tensor})
    with pytest.raises(ExportError, match=rf"{name} holds \S+; float16 ends at 65504.*without --precision fp16"):
        export._write_graphs(spoilt, tmp_path / "graphs", "fp16")


def test_masks_stay_within_their_type(tmp_path: Path) -> None:
    """The mask is added in float32, where its value is far from the end of the range, and takes part in a softmax."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    bundle = export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"))
    model = onnx.load(bundle.path / "fp32" / "encoder.portable.onnx")
    (outside,) = (onnx.numpy_helper.to_array(one) for one in model.graph.initializer if one.name == "mask.outside")
    assert np.isfinite(2 * outside)
