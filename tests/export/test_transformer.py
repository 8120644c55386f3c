from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from checkpoints import SMALL, centred
from mertric_export.checkpoint import Checkpoint, read_checkpoint
from mertric_export.graph import WeightFile
from mertric_export.reference import _encoder
from mertric_export.synthetic import write_checkpoint
from mertric_export.transformer import VARIANTS, Variant, build_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def small(directory: Path, **changes: Any) -> Checkpoint:
    return read_checkpoint(write_checkpoint(directory, dataclasses.replace(SMALL, **changes), seed=9))


def build(directory: Path, checkpoint: Checkpoint, variant: Variant) -> Path:
    with WeightFile(directory / "w.bin") as weights:
        model = build_encoder(checkpoint.config, centred(checkpoint), weights, variant=variant)
    path = directory / f"{variant}.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path, full_check=True)
    return path


def feed(graph: onnxruntime.InferenceSession, clips: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """Inputs for clips [frames, dim] of any lengths; what lies past a clip's end is large."""
    frames = max(map(len, clips))
    states = [np.pad(clip, ((0, frames - len(clip)), (0, 0)), constant_values=50.0) for clip in clips]
    inputs = {"state_0": np.stack(states).astype(np.float32), "lengths": np.array([*map(len, clips)], np.int32)}
    return {entry.name: inputs[entry.name] for entry in graph.get_inputs()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"intermediate_size": 25},
        {"num_hidden_layers": 1, "num_attention_heads": 1, "layer_norm_eps": 1e-3},
        {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 10, "num_hidden_layers": 3},
    ],
)
def test_every_state_by_its_definition(tmp_path: Path, variant: Variant, stable: bool, changes: dict[str, Any]) -> None:
    checkpoint = small(tmp_path, do_stable_layer_norm=stable, **changes)
    features = np.random.default_rng(2).standard_normal((23, checkpoint.config.hidden_size)).astype(np.float32)
    first, *expected = _encoder(checkpoint.config, checkpoint.tensors, features.astype(np.float64))
    graph = onnxruntime.InferenceSession(build(tmp_path, checkpoint, variant))
    assert [output.name for output in graph.get_outputs()] == [f"state_{i}" for i in range(1, len(expected) + 1)]
    for got, state in zip(graph.run(None, feed(graph, [first])), expected, strict=True):
        np.testing.assert_allclose(got[0], state, atol=1e-5 * np.sqrt(np.mean(state**2)))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stable", [False, True])
def test_a_batch_of_clips_is_each_alone(tmp_path: Path, variant: Variant, stable: bool) -> None:
    checkpoint = small(tmp_path, do_stable_layer_norm=stable)
    graph = onnxruntime.InferenceSession(build(tmp_path, checkpoint, variant))
    lengths = [9, 9, 9] if variant == "fused" else [4, 9, 1]
    rng = np.random.default_rng(5)
    clips = [rng.standard_normal((length, 16)) for length in lengths]
    together = graph.run(None, feed(graph, clips))
    for index, clip in enumerate(clips):
        for got, alone in zip(together, graph.run(None, feed(graph, [clip])), strict=True):
            np.testing.assert_allclose(got[index, : len(clip)], alone[0], atol=1e-5)


def test_the_portable_graph_has_onnx_operators_only(tmp_path: Path) -> None:
    checkpoint = small(tmp_path)
    portable = onnx.load(build(tmp_path, checkpoint, "portable"), load_external_data=False)
    fused = onnx.load(build(tmp_path, checkpoint, "fused"), load_external_data=False)
    assert {node.domain for node in portable.graph.node} == {""}
    assert [node.op_type for node in fused.graph.node if node.domain] == ["MultiHeadAttention"] * 2
    assert "Softmax" not in {node.op_type for node in fused.graph.node}


def test_shapes_are_known_all_the_way(tmp_path: Path) -> None:
    """Shape inference knows the type of every value, and that batch and frames are free."""
    path = build(tmp_path, small(tmp_path), "portable")
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    known = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output)}
    assert {name for node in inferred.graph.node for name in node.output} <= known
    for value in (inferred.graph.input[0], *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "frames", 16]


def test_variants_share_their_weights(tmp_path: Path) -> None:
    checkpoint = small(tmp_path)
    sizes = []
    for variants in (["portable"], ["fused"], VARIANTS):
        with WeightFile(tmp_path / "w.bin") as weights:
            for variant in variants:
                build_encoder(checkpoint.config, centred(checkpoint), weights, variant=variant)
        sizes.append((tmp_path / "w.bin").stat().st_size)
    assert sizes[2] < 1.1 * max(sizes[:2])
