from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from checkpoints import SMALL, centred
from graph_types import value_types
from mertric.errors import ExportError
from mertric_export import export
from mertric_export.checkpoint import read_checkpoint
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.graph import WeightFile
from mertric_export.narrow import BFLOAT16, BrainBuilder, HalfBuilder, NarrowBuilder, round_to_bfloat16
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

HALF, BRAIN, SINGLE = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT
FILES = {
    "fp32": ["frontend", "positions", "encoder.fused", "encoder.portable", "encoder.pointwise", "clips"],
    "fp16": ["frontend", "positions", "encoder.fused", "encoder.portable", "clips", "clips.fixed"],
    "bf16": ["frontend", "positions", "encoder.fused", "clips"],
}
EVERY = [(precision, file) for precision, files in FILES.items() for file in files]
CLIPS = [one for one in EVERY if one[1].startswith("clips")]
FOR_CUDA = [one for one in EVERY if one[1] not in ("encoder.portable", "encoder.pointwise")]
DOUBLE, INTEGER, BOOLEAN = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL
CUDA = {
    "Add": {SINGLE, HALF, BRAIN, DOUBLE, INTEGER},
    "Attention": {SINGLE, HALF},
    "BiasGelu": {SINGLE, HALF},
    "Cast": {SINGLE, HALF, BRAIN, DOUBLE, INTEGER, BOOLEAN},
    "Concat": {SINGLE, HALF, BRAIN, DOUBLE, INTEGER},
    "Conv": {SINGLE, HALF},
    "Div": {DOUBLE, INTEGER},
    "Gather": {SINGLE, HALF},
    "Gelu": {SINGLE, HALF},
    "Identity": {SINGLE, HALF, BRAIN},
    "LayerNormalization": {SINGLE, HALF, BRAIN},
    "Less": {INTEGER, BOOLEAN},
    "MatMul": {SINGLE, HALF, BRAIN, DOUBLE},
    "Max": {DOUBLE},
    "Mul": {DOUBLE, INTEGER},
    "MultiHeadAttention": {SINGLE, HALF},
    "Pad": {SINGLE, HALF},
    "Range": {INTEGER},
    "ReduceSum": {DOUBLE},
    "Reshape": {SINGLE, HALF, BRAIN, DOUBLE},
    "Shape": {SINGLE, HALF, DOUBLE, INTEGER},
    "SkipLayerNormalization": {SINGLE},
    "Slice": {SINGLE, HALF, BRAIN, DOUBLE},
    "Sqrt": {DOUBLE},
    "Squeeze": {INTEGER},
    "Sub": {SINGLE, HALF, DOUBLE, INTEGER},
    "Transpose": {SINGLE, HALF, BRAIN, DOUBLE},
    "Unsqueeze": {INTEGER},
    "Where": {BOOLEAN, DOUBLE},
}
"""Types of the data, by docs/OperatorKernels.md of ONNX Runtime, CUDAExecutionProvider, at the opset of the graphs, in
every version from 1.20 on; in 1.31.1 they ran."""


@pytest.fixture(scope="module", params=["group", "layer"])
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the graphs of each precision and family, ``post`` and ``stable``."""
    home = tmp_path_factory.mktemp("graphs")
    for name, stable in (("post", False), ("stable", True)):
        norm = request.param
        config = dataclasses.replace(SMALL, do_stable_layer_norm=stable, feat_extract_norm=norm, conv_bias=True)
        checkpoint = read_checkpoint(write_checkpoint(home / f"{name}.source", config))
        for precision in FILES:
            (home / precision).mkdir(exist_ok=True)
            export._write_graphs(checkpoint.config, centred(checkpoint), home / precision / name, precision)
    return home


def load(graphs: Path, precision: str, family: str, file: str) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Load a graph, and find the type of each value."""
    model = onnx.load(graphs / precision / family / f"{file}.onnx", load_external_data=False)
    return model, value_types(model)


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize(("precision", "file"), EVERY)
def test_types_are_what_the_builder_says(graphs: Path, family: str, precision: str, file: str) -> None:
    onnx.checker.check_model(graphs / precision / family / f"{file}.onnx", full_check=True)
    model, types = load(graphs, precision, family, file)
    narrow = {
        "fp32": {},
        "fp16": dict.fromkeys(("MatMul", "Conv", "Gelu", "BiasGelu"), HALF),
        "bf16": {"MatMul": BRAIN},
    }[precision]
    given = {"lengths": TensorProto.INT32, "sizes": INTEGER}
    for value in (*model.graph.input, *model.graph.output):
        assert types[value.name] == given.get(value.name, SINGLE)
    sensitive = ["similarity/MatMul", "mixed/MatMul"]
    if precision == "bf16":
        sensitive.append("pos.product/MatMul")
    if not (precision == "fp16" and file.startswith("clips")):  # where both factors are in two parts
        sensitive.append("conv0.product/MatMul")
    for node in model.graph.node:
        kinds = {types[name] for name in node.input if name and types[name] in (SINGLE, HALF, BRAIN, DOUBLE)}
        if node.name.startswith("fold."):
            assert kinds <= {DOUBLE} or node.op_type in ("Cast", "Shape"), node.name
        elif node.name.endswith(tuple(sensitive)) or node.op_type.endswith(("LayerNormalization", "Softmax")):
            assert kinds == {SINGLE}, node.name
        elif node.op_type in ("MatMul", "Conv", "Gelu", "BiasGelu"):
            assert kinds == {narrow.get(node.op_type, SINGLE)}, node.name
        elif node.op_type in ("MultiHeadAttention", "Attention"):
            assert kinds == {HALF if precision == "fp16" else SINGLE}


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize(
    ("precision", "file"),
    [one for one in EVERY if one not in CLIPS and one[1] not in ("frontend", "encoder.pointwise")],
)
def test_residuals_are_added_in_float32(graphs: Path, family: str, precision: str, file: str) -> None:
    model, types = load(graphs, precision, family, file)
    ends = ("out_proj.sum/Add", "output_dense.sum/Add", "output_dense.residual/Add", "positioned/Add")
    residuals = [node for node in model.graph.node if node.name.endswith(ends)]
    assert len(residuals) == (1 if file == "positions" else 2 * SMALL.num_hidden_layers)
    assert {types[name] for node in residuals for name in (*node.input, *node.output)} == {SINGLE}


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize(("precision", "file"), CLIPS)
def test_whole_clips_add_residuals_within_their_norms(graphs: Path, family: str, precision: str, file: str) -> None:
    model, types = load(graphs, precision, family, file)
    norms = [node for node in model.graph.node if node.op_type == "SkipLayerNormalization"]
    assert len(norms) == 2 * SMALL.num_hidden_layers
    assert {types[name] for node in norms for name in (*node.input, *node.output) if name} == {SINGLE}


@pytest.mark.parametrize("family", ["post", "stable"])
@pytest.mark.parametrize(("precision", "file"), FOR_CUDA)
def test_cuda_runs_every_operator_in_its_type(graphs: Path, family: str, precision: str, file: str) -> None:
    model, types = load(graphs, precision, family, file)
    for node in model.graph.node:
        assert types[node.input[0]] in CUDA[node.op_type], node.name
        assert types[node.output[0]] in CUDA[node.op_type], node.name


def test_only_graphs_for_onnx_runtime_itself_have_its_operators(graphs: Path) -> None:
    for path in graphs.glob("*/*/*.onnx"):
        model = onnx.load(path, load_external_data=False)
        custom = {node.op_type for node in model.graph.node if node.domain}
        expected = {"MultiHeadAttention"} if path.stem == "encoder.fused" else set()
        if path.stem.startswith("clips"):
            attention = "MultiHeadAttention" if path.parts[-3] == "bf16" else "Attention"
            expected = {attention, "BiasGelu", "SkipLayerNormalization"}
        assert custom == expected


@pytest.mark.parametrize("family", ["post", "stable"])
def test_weights_are_stored_in_float16_but_those_of_norms_and_residuals(graphs: Path, family: str) -> None:
    for path in (graphs / "fp16" / family).glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            parts = (
                r"layer_norm",
                r"\.norm\.",
                r"mask\.",
                r"residual",
                r"inner_image",
                r"layers\.\d+\.mean",
                r"^one$",
                r"^fold\.constant",
            )
            kind = SINGLE if any(re.search(part, tensor.name) for part in parts) else HALF
            if tensor.name.startswith("int64"):
                kind = INTEGER
            elif tensor.name.startswith("fold.") and kind == HALF:
                kind = DOUBLE
            assert tensor.data_type == kind, tensor.name


@pytest.mark.parametrize("family", ["post", "stable"])
def test_factors_are_stored_in_bfloat16(graphs: Path, family: str) -> None:
    for path in (graphs / "bf16" / family).glob("*.onnx"):
        twins = (graphs / "fp32" / family).glob(f"{path.stem}*.onnx")
        exact = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for twin in twins
            for tensor in onnx.load(twin).graph.initializer
        }
        model = onnx.load(path)
        products = [node for node in model.graph.node if node.op_type == "MatMul" and not node.name.startswith("fold.")]
        factors = {node.input[1] for node in products} - {"weights", "folded"}
        joins = [node for node in model.graph.node if node.op_type == "Concat" and node.output[0] in factors]
        factors |= {name for node in joins for name in node.input}
        for tensor in model.graph.initializer:
            narrow = tensor.name in factors
            assert (tensor.data_type == BRAIN) == narrow, tensor.name
            if narrow:
                bits = np.frombuffer(tensor.raw_data, np.uint16).astype(np.uint32) << 16
                stored = bits.view(np.float32).reshape(tensor.dims)
                assert (np.abs(stored - exact[tensor.name]) <= 2.0**-8 * np.abs(exact[tensor.name])).all(), tensor.name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 0x3F80),
        (-2.5, 0xC020),
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (1 + 2**-8, 0x3F80),  # in the middle: down to the even one
        (1 + 3 * 2**-8, 0x3F82),  # in the middle: up to the even one
        (1 + 2**-8 + 2**-20, 0x3F81),
        (1 + 2**-8 - 2**-20, 0x3F80),
        (2 - 2**-20, 0x4000),  # a carry into the exponent
        (2.0**-133, 0x0001),  # the smallest
        (2.0**-135, 0x0000),
        (BFLOAT16.largest, 0x7F7F),
    ],
)
def test_rounding_to_bfloat16(value: float, expected: int) -> None:
    assert round_to_bfloat16(np.array([value], np.float32)) == expected


def test_rounding_to_bfloat16_gives_the_nearest() -> None:
    scales = 10.0 ** np.arange(-20, 20)[:, None]
    values = (np.random.default_rng(0).standard_normal((40, 500)) * scales).astype(np.float32)
    bits = round_to_bfloat16(values).astype(np.int64)
    near, below, above = (((bits + step) << 16).astype(np.uint32).view(np.float32) for step in (0, -1, 1))
    for other in (below, above):
        assert (np.abs(near - values) <= np.abs(other - values)).all()


@pytest.mark.parametrize("builder", [HalfBuilder, BrainBuilder])
def test_a_value_is_cast_once_and_only_if_it_must(tmp_path: Path, builder: type[NarrowBuilder]) -> None:
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = builder("g", weights)
        value = graph.input("x", ("n", 4))
        matrices = [graph.matrix(name, np.eye(4, dtype=np.float32)) for name in "ab"]
        one, two = (graph.product(f"{name}.product", value, name) for name in matrices)
        total = graph.node("sum", "Add", graph.widen(one), graph.widen(two))
        again = graph.node("again", "Add", total, graph.widen(one))
        graph.output(graph.node("y", "Add", again, value), "z", ("n", 4))
        assert graph.widen(value) == value
        casts = [node.input[0] for node in graph.model().graph.node if node.op_type == "Cast"]
    assert casts[0] == "x"
    assert len(casts) == len(set(casts)) == 3


@pytest.mark.parametrize(
    ("precision", "value", "end"),
    [
        *(("fp16", value, "float16 ends at 65504") for value in (7e4, -7e4, np.inf, np.nan)),
        *(("bf16", value, r"bfloat16 ends at 3.38953e\+38") for value in (3.4e38, -3.4e38, -np.inf, np.nan)),
    ],
)
def test_a_weight_beyond_its_type_is_refused(tmp_path: Path, precision: str, value: float, end: str) -> None:
    source = write_checkpoint(tmp_path / "source", SMALL)
    checkpoint = read_checkpoint(source)
    name = "encoder.layers.1.attention.k_proj.weight"
    tensor = checkpoint.tensors[name].copy()
    tensor[3, 5] = value
    spoilt = dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, name: tensor})
    with pytest.raises(ExportError, match=rf"{name} holds \S+; {end}.*without --precision {precision}"):
        export._write_graphs(spoilt.config, centred(spoilt), tmp_path / "graphs", precision)


def test_masks_stay_within_their_type(tmp_path: Path) -> None:
    """The mask is added in float32, where its value is far from the end of the range, and takes part in a softmax."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    bundle = export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"))
    model = onnx.load(bundle.path / "fp32" / "encoder.portable.onnx")
    (outside,) = (onnx.numpy_helper.to_array(one) for one in model.graph.initializer if one.name == "mask.outside")
    assert np.isfinite(2 * outside)
