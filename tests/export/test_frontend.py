from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from checkpoints import SMALL
from mertric.errors import ConfigurationError
from mertric_export.checkpoint import Checkpoint, read_checkpoint
from mertric_export.frontend import alignment, build_frontend
from mertric_export.graph import WeightFile
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mertric_export.config import MertConfig


def small(directory: Path, **changes: Any) -> Checkpoint:
    return read_checkpoint(write_checkpoint(directory, dataclasses.replace(SMALL, **changes), seed=4))


def session(directory: Path, checkpoint: Checkpoint) -> onnxruntime.InferenceSession:
    with WeightFile(directory / "w.bin") as weights:
        model = build_frontend(checkpoint.config, checkpoint.tensors, weights)
    path = directory / "frontend.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path, full_check=True)
    return onnxruntime.InferenceSession(path)


def inputs(config: MertConfig, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Windows of the first convolution for a whole clip, with the rows that no frame sees filled with anything."""
    taps, stride = config.conv_kernel[0], config.conv_stride[0]
    rows = alignment(config) * (frames + 1)
    windows = np.full((1, rows, taps + 1), 7.0, np.float32)
    windows[..., -1] = 1
    found = np.lib.stride_tricks.sliding_window_view(samples, taps)[::stride][:rows]
    windows[0, : len(found), :-1] = found
    return windows


def test_the_graph_has_what_it_says(tmp_path: Path) -> None:
    graph = session(tmp_path, small(tmp_path))
    described = {entry.name: (entry.shape, entry.type) for entry in (*graph.get_inputs(), *graph.get_outputs())}
    assert described == {
        "windows": (["batch", "rows", "columns"], "tensor(float)"),
        "weights": (["batch", "columns", 8], "tensor(float)"),
        "features": (["batch", "frames", 16], "tensor(float)"),
    }


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conv_bias": True},
        {"feat_proj_layer_norm": False},
        {"conv_dim": (4, 6), "conv_kernel": (7, 3), "conv_stride": (4, 2)},
        {"conv_dim": (4, 6, 8, 2), "conv_kernel": (4, 2, 3, 2), "conv_stride": (3, 2, 2, 2), "conv_bias": True},
        {"conv_dim": (5,), "conv_kernel": (6,), "conv_stride": (3,), "conv_bias": True},
    ],
)
def test_convolutions_by_their_definition(tmp_path: Path, changes: dict[str, Any], norm: str) -> None:
    from mertric_export.reference import _convolve, _gelu, _linear, _normalize

    checkpoint = small(tmp_path, feat_extract_norm=norm, **changes)
    config, tensors = checkpoint.config, checkpoint.tensors
    rng = np.random.default_rng(6)
    frames = 5
    samples = rng.standard_normal(config.receptive_field + (frames - 1) * config.hop).astype(np.float32)
    folded = rng.standard_normal((1, config.conv_kernel[0] + 1, config.conv_dim[0])).astype(np.float32)
    graph = session(tmp_path, checkpoint)
    (got,) = graph.run(["features"], {"windows": inputs(config, samples, frames), "weights": folded})

    x = _convolve(samples[:, None].astype(float), folded[0, :-1].T[:, None], config.conv_stride[0]) + folded[0, -1]
    for index in range(len(config.conv_dim)):
        layer = f"feature_extractor.conv_layers.{index}"
        if index:
            x = _convolve(x, tensors[f"{layer}.conv.weight"], config.conv_stride[index])
            x = x + tensors[f"{layer}.conv.bias"] if config.conv_bias else x
        x = _gelu(_normalize(tensors, f"{layer}.layer_norm", x, 1e-5) if norm == "layer" else x)
    if config.feat_proj_layer_norm:
        x = _normalize(tensors, "feature_projection.layer_norm", x, config.layer_norm_eps)
    expected = _linear(tensors, "feature_projection.projection", x)
    assert got.shape == (1, frames, config.hidden_size) == (1, *expected.shape)
    np.testing.assert_allclose(got[0], expected, atol=2e-5 * np.sqrt(np.mean(expected**2)))


def test_a_batch_is_its_clips(tmp_path: Path) -> None:
    checkpoint = small(tmp_path)
    graph = session(tmp_path, checkpoint)
    rng = np.random.default_rng(1)
    windows = rng.standard_normal((3, 64 * 4, 11)).astype(np.float32)
    weights = rng.standard_normal((3, 11, 8)).astype(np.float32)
    (together,) = graph.run(None, {"windows": windows, "weights": weights})
    for index in range(3):
        one = slice(index, index + 1)
        (alone,) = graph.run(None, {"windows": windows[one], "weights": weights[one]})
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


def test_alignment() -> None:
    assert alignment(SMALL) == 64
    assert alignment(dataclasses.replace(SMALL, conv_dim=(4, 6), conv_kernel=(7, 3), conv_stride=(40, 2))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv_stride": (5, 2, 2, 3, 2, 2, 2)},
            r"conv_stride is \[5, 2, 2, 3, 2, 2, 2\]; after the first .* only 2 is",
        ),
        ({"conv_kernel": (10, 3, 3, 4, 3, 2, 2)}, r"conv_kernel is \[10, 3, 3, 4.* only 2 or 3 is"),
        ({"conv_kernel": (10, 3, 3, 1, 3, 2, 2)}, "only 2 or 3 is supported, as in every MERT-v1 model"),
    ],
)
def test_other_convolutions_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = dataclasses.replace(SMALL, **changes)
    with pytest.raises(ConfigurationError, match=message):
        alignment(config)
    with pytest.raises(ConfigurationError, match=message), WeightFile(tmp_path / "w.bin") as weights:
        build_frontend(config, {}, weights)
