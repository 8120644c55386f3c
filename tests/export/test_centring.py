from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import norm

from checkpoints import SMALL, centred, random_means
from mertric.encoder import Encoder
from mertric_export import centring, export
from mertric_export.centring import centre, measure_means
from mertric_export.checkpoint import Checkpoint, read_checkpoint
from mertric_export.emulation import runnable
from mertric_export.layout import tensor_shapes
from mertric_export.manifest import write_manifest
from mertric_export.reference import _linear, _normalize, hidden_states
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Means = Mapping[str, NDArray[np.float64]]


def small(directory: Path, *, stable: bool) -> Checkpoint:
    config = dataclasses.replace(SMALL, do_stable_layer_norm=stable)
    return read_checkpoint(write_checkpoint(directory / "source", config, seed=4))


def sound(samples: int = 9000) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal(samples).astype(np.float32)


def bundle(directory: Path, checkpoint: Checkpoint, means: Means, precision: str = "fp32") -> Path:
    tensors = centre(checkpoint.config, checkpoint.tensors, means)
    directory.mkdir()
    for one in {"fp32", precision}:
        export._write_graphs(checkpoint.config, tensors, directory / one, one)
    export._write_fold(checkpoint, directory / "fold.npz")
    provenance = export.Provenance(model="m")
    write_manifest(directory, export._manifest(checkpoint, provenance, directory, sorted({"fp32", precision})))
    return directory


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("variant", ["fused", "portable", "pointwise"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_any_means_give_the_same_hidden_states(tmp_path: Path, stable: bool, variant: str, scale: float) -> None:
    checkpoint = small(tmp_path, stable=stable)
    expected = np.stack(hidden_states(checkpoint, sound()))
    means = random_means(checkpoint.config, scale=scale)
    encoder = Encoder(bundle(tmp_path / "bundle", checkpoint, means), provider="cpu", attention=variant)
    got = encoder.embed_samples(sound(), layers="all").hidden
    np.testing.assert_allclose(got, expected, atol=1e-5 * max(1, scale))


@pytest.mark.parametrize("stable", [False, True])
def test_means_are_those_of_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stable: bool) -> None:
    checkpoint = small(tmp_path, stable=stable)
    clips = [sound(5000), sound(9000)]
    monkeypatch.setattr(centring, "_music", lambda rate: clips if rate == 24_000 else [])
    means = measure_means(checkpoint)
    layers = [f"encoder.layers.{index}" for index in range(SMALL.num_hidden_layers)]
    names = ("attention", "feed_forward", "feed_forward.output_dense")
    assert set(means) == {f"{layer}.{name}" for layer in layers for name in names}
    states = [hidden_states(checkpoint, clip) for clip in clips]
    for index, layer in enumerate(layers):
        entered = [_normalize(checkpoint.tensors, f"{layer}.layer_norm", x[index], 1e-5) for x in states]
        read = entered if stable else [x[index] for x in states]
        expected = np.mean([x.mean(axis=0) for x in read], axis=0)
        np.testing.assert_allclose(means[f"{layer}.attention"], expected, atol=1e-12)


def test_the_inner_mean_is_that_after_gelu(tmp_path: Path) -> None:
    """By hand, of one frame, which is its own mean."""
    checkpoint = small(tmp_path, stable=False)
    means: dict[str, NDArray[np.float64]] = {}
    hidden_states(checkpoint, sound(400), visit=lambda name, x: means.update({name: x.mean(axis=0)}))
    branch = "encoder.layers.1.feed_forward"
    inner = _linear(checkpoint.tensors, f"{branch}.intermediate_dense", means[branch])
    np.testing.assert_allclose(means[f"{branch}.output_dense"], inner * norm.cdf(inner), atol=1e-12)


@pytest.mark.parametrize("stable", [False, True])
def test_what_enters_products_is_less_its_mean(tmp_path: Path, stable: bool) -> None:
    checkpoint = small(tmp_path, stable=stable)
    means = random_means(checkpoint.config, scale=1)
    tensors = centre(checkpoint.config, checkpoint.tensors, means)
    layers = [f"encoder.layers.{index}" for index in range(SMALL.num_hidden_layers)]
    branches = [f"{layer}.{part}" for layer in layers for part in ("attention", "feed_forward")]
    norms = [f"{layer}.{name}" for layer in layers for name in ("layer_norm", "final_layer_norm")]
    if not stable:
        np.testing.assert_allclose(tensors["encoder.layers.0.mean"], means[branches.pop(0)], atol=1e-6)
    for name, branch in zip(norms, branches, strict=False):
        np.testing.assert_allclose(
            tensors[f"{name}.bias"], checkpoint.tensors[f"{name}.bias"] - means[branch], atol=1e-6
        )


@pytest.mark.parametrize("stable", [False, True])
def test_only_biases_change(tmp_path: Path, stable: bool) -> None:
    checkpoint = small(tmp_path, stable=stable)
    tensors = centred(checkpoint)
    known = tensor_shapes(checkpoint.config)
    gone = {
        name for name in known if name.endswith(("k_proj.bias", "v_proj.bias", "out_proj.bias", "output_dense.bias"))
    }
    assert known.keys() - tensors.keys() == gone
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    for name in known.keys() - gone:
        assert tensors[name].shape == known[name]
        if name.endswith("weight"):
            np.testing.assert_array_equal(tensors[name], checkpoint.tensors[name])
    assert ("encoder.layers.1.mean" in tensors) != stable


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("stable", [False, True])
def test_what_all_frames_share_costs_no_precision(tmp_path: Path, stable: bool, precision: str) -> None:
    """With activations far from 0 in every frame, roundings are as large as these, unless their mean is taken off."""
    checkpoint = small(tmp_path, stable=stable)
    tensors = dict(checkpoint.tensors)
    for name in tensors:
        if "encoder.layers" in name and name.endswith("layer_norm.bias"):
            tensors[name] = tensors[name] + np.float32(50)
    last = (
        "encoder.layer_norm.bias" if stable else f"encoder.layers.{SMALL.num_hidden_layers - 1}.final_layer_norm.bias"
    )
    tensors[last] = checkpoint.tensors[last]
    checkpoint = dataclasses.replace(checkpoint, tensors=tensors)
    expected = hidden_states(checkpoint, sound())[-1]
    errors = []
    measured = measure_means(checkpoint)
    for number, means in enumerate((measured, {name: 0 * mean for name, mean in measured.items()})):
        directory = bundle(tmp_path / f"bundle{number}", checkpoint, means, precision)
        with runnable(directory, provider="cpu", precision=precision) as (path, run_as):
            got = Encoder(path, provider="cpu", precision=run_as).embed_samples(sound()).hidden[0]
        errors.append(np.abs(got - expected).max())
    assert 4 * errors[0] < errors[1]
