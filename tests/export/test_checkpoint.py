from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import GOLDEN, SMALL, calling, edit_json, load, save, torch_file
from checkpoints import TorchFile as HostileFile
from mertric.errors import CheckpointError, ConfigurationError
from mertric_export.checkpoint import read_checkpoint
from mertric_export.layout import POSITIONAL_WEIGHT, WEIGHT_NORM_SPELLINGS, tensor_shapes
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]

MAGNITUDE, DIRECTION = WEIGHT_NORM_SPELLINGS[0]
QUERY = "encoder.layers.1.attention.q_proj.weight"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "small", SMALL)


def edit(directory: Path, change: Callable[[Tensors], object]) -> Path:
    tensors = load(directory)
    change(tensors)
    save(directory, tensors)
    return directory


def as_torch(directory: Path, change: Callable[[Tensors], object] = lambda _: None) -> Path:
    tensors = load(directory)
    change(tensors)
    torch_file(tensors).write(directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    return directory


def as_shards(directory: Path, whole: str = "model.safetensors") -> Path:
    tensors = load(directory)
    stem, ending = whole.split(".")
    names = [f"{stem}-0000{number}-of-00002.{ending}" for number in (1, 2)]
    weight_map = {tensor: names[index % 2] for index, tensor in enumerate(tensors)}
    for name in names:
        part = {key: tensors[key] for key, file in weight_map.items() if file == name}
        save(directory, part, name) if ending == "safetensors" else torch_file(part).write(directory / name)
    (directory / f"{whole}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()
    return directory


def assert_same(one: Path, other: Path) -> None:
    first, second = read_checkpoint(one).tensors, read_checkpoint(other).tensors
    assert list(first) == list(second)
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name], err_msg=name)


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "twin", SMALL)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conv_bias": True},
        {"feat_extract_norm": "layer"},
        {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
        {"feat_proj_layer_norm": False},
        {"conv_dim": (4, 6), "conv_kernel": (7, 3), "conv_stride": (4, 2)},
        {"num_conv_pos_embeddings": 9},
    ],
)
def test_every_family_is_read_whole(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **changes)
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, config))
    assert checkpoint.config == config
    assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == tensor_shapes(config)
    assert all(tensor.dtype == np.float32 for tensor in checkpoint.tensors.values())
    stored = load(tmp_path)
    for name in checkpoint.tensors.keys() - {POSITIONAL_WEIGHT}:
        np.testing.assert_array_equal(checkpoint.tensors[name], stored[name])


def test_names_and_shapes_are_huberts() -> None:
    config = dataclasses.replace(SMALL, feat_extract_norm="layer", conv_bias=True, num_hidden_layers=1)
    layer = {"conv.weight", "conv.bias", "layer_norm.weight", "layer_norm.bias"}
    expected = {f"feature_extractor.conv_layers.{index}.{name}" for index in range(7) for name in layer}
    affine = ["feature_projection.layer_norm", "feature_projection.projection", "encoder.pos_conv_embed.conv"]
    affine += ["encoder.layer_norm", "encoder.layers.0.layer_norm", "encoder.layers.0.final_layer_norm"]
    affine += [f"encoder.layers.0.attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    affine += [f"encoder.layers.0.feed_forward.{name}" for name in ("intermediate_dense", "output_dense")]
    expected |= {f"{name}.{part}" for name in affine for part in ("weight", "bias")}
    shapes = tensor_shapes(config)
    assert shapes.keys() == expected
    assert shapes["feature_extractor.conv_layers.0.conv.weight"] == (8, 1, 10)
    assert shapes["feature_extractor.conv_layers.6.conv.weight"] == (8, 8, 2)
    assert shapes["feature_projection.projection.weight"] == (16, 8)
    assert shapes[POSITIONAL_WEIGHT] == (16, 4, 16)
    assert shapes["encoder.layers.0.feed_forward.intermediate_dense.weight"] == (24, 16)
    plain = tensor_shapes(dataclasses.replace(SMALL, num_hidden_layers=1)).keys()
    names = {"layer_norm.weight", "layer_norm.bias"}
    gone = {f"feature_extractor.conv_layers.{index}.{name}" for index in range(1, 7) for name in names}
    assert plain == expected - gone - {f"feature_extractor.conv_layers.{index}.conv.bias" for index in range(7)}


def test_weight_norm_is_folded(directory: Path) -> None:
    stored = load(directory)
    direction, magnitude = stored[DIRECTION].astype(np.float64), stored[MAGNITUDE].astype(np.float64)
    folded = read_checkpoint(directory).tensors[POSITIONAL_WEIGHT]
    for tap in range(SMALL.num_conv_pos_embeddings):
        np.testing.assert_allclose(np.linalg.norm(folded[..., tap]), abs(magnitude[0, 0, tap]), rtol=1e-6)
        scale = magnitude[0, 0, tap] / np.linalg.norm(direction[..., tap])
        np.testing.assert_array_equal(folded[..., tap], (direction[..., tap] * scale).astype(np.float32))


def test_both_spellings_of_weight_norm_and_the_folded_weight_agree(directory: Path, twin: Path) -> None:
    def respell(tensors: Tensors) -> None:
        for old, new in zip(*WEIGHT_NORM_SPELLINGS, strict=True):
            tensors[new] = tensors.pop(old)

    assert_same(directory, edit(twin, respell))
    folded = read_checkpoint(directory).tensors[POSITIONAL_WEIGHT]

    def fold(tensors: Tensors) -> None:
        for name in WEIGHT_NORM_SPELLINGS[1]:
            del tensors[name]
        tensors[POSITIONAL_WEIGHT] = folded

    assert_same(directory, edit(twin, fold))


def test_all_file_formats_agree(directory: Path, twin: Path) -> None:
    assert_same(directory, as_shards(twin))


def test_shards_of_torch_agree(directory: Path, twin: Path) -> None:
    assert_same(directory, as_shards(twin, "pytorch_model.bin"))
    assert len(read_checkpoint(twin).files) == 2


def test_the_torch_file_agrees(directory: Path, twin: Path) -> None:
    assert_same(directory, as_torch(twin))


@pytest.mark.parametrize("prefix", ["hubert.", "mert_model.", "model.", "module.", "model.hubert."])
def test_a_wrapping_models_prefix_is_taken_off(directory: Path, twin: Path, prefix: str) -> None:
    tensors = {prefix + name: tensor for name, tensor in load(twin).items()}
    save(twin, tensors)
    assert_same(directory, twin)


def test_training_only_tensors_may_be_absent(directory: Path, twin: Path) -> None:
    assert "masked_spec_embed" not in read_checkpoint(directory).tensors
    assert_same(directory, edit(twin, lambda tensors: tensors.pop("masked_spec_embed")))


def test_digests(directory: Path, twin: Path) -> None:
    checkpoint = read_checkpoint(directory)
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoint.sha256 == digest
    assert checkpoint.files == {"model.safetensors": digest}
    shards = read_checkpoint(as_shards(twin))
    listing = ""
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert shards.files[name] == hashlib.sha256((twin / name).read_bytes()).hexdigest()
        listing += f"{shards.files[name]}  {name}\n"
    assert shards.sha256 == hashlib.sha256(listing.encode()).hexdigest()


def test_safetensors_goes_before_torch_unless_asked_otherwise(directory: Path) -> None:
    tensors = load(directory)
    tensors[QUERY] = tensors[QUERY] + 1
    torch_file(tensors).write(directory / "pytorch_model.bin")
    assert list(read_checkpoint(directory).files) == ["model.safetensors"]
    asked = read_checkpoint(directory, weights="pytorch_model.bin")
    assert list(asked.files) == ["pytorch_model.bin"]
    np.testing.assert_array_equal(asked.tensors[QUERY], tensors[QUERY])


@pytest.mark.parametrize("rewrite", [edit, as_torch])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(QUERY), rf"1 missing: {QUERY} \[16, 16\]\."),
        (lambda t: t.pop(MAGNITUDE), rf"1 missing: {MAGNITUDE} \[1, 1, 16\]"),
        (lambda t: (t.pop(MAGNITUDE), t.pop(DIRECTION)), rf"1 missing: {POSITIONAL_WEIGHT} \[16, 4, 16\]"),
        (
            lambda t: t.update({QUERY: t[QUERY][:, :8].copy()}),
            rf"1 misshapen: {QUERY} \[16, 8\], expected \[16, 16\]",
        ),
        (
            lambda t: t.update({MAGNITUDE: np.ones((16, 1, 1), np.float32)}),
            rf"1 misshapen: {MAGNITUDE} \[16, 1, 1\], expected \[1, 1, 16\]",
        ),
        (
            lambda t: t.update(masked_spec_embed=np.ones(3, np.float32)),
            r"1 misshapen: masked_spec_embed \[3\], expected \[16\]",
        ),
        (
            lambda t: t.update({"lm_head.weight": np.ones((2, 3), np.float32)}),
            r"1 unknown: lm_head.weight \[2, 3\]",
        ),
        (
            lambda t: t.update({WEIGHT_NORM_SPELLINGS[1][0]: t[MAGNITUDE]}),
            rf"1 unknown: {WEIGHT_NORM_SPELLINGS[1][0]}",
        ),
        (lambda t: t.update({POSITIONAL_WEIGHT: t[DIRECTION]}), rf"1 unknown: {POSITIONAL_WEIGHT}"),
        (lambda t: t.update(final_proj=t.pop(QUERY)), rf"1 missing: {QUERY} .* 1 unknown: final_proj"),
        (lambda t: t[QUERY].__setitem__((0, 0), np.nan), f"1 not finite: {QUERY}"),
        (lambda t: t[QUERY].__setitem__((0, 0), np.inf), f"1 not finite: {QUERY}"),
        (lambda t: t[DIRECTION][..., 3].fill(0), "a tap whose weights are all zero"),
        (lambda t: t.update({f"hubert.{QUERY}": t[QUERY]}), f"{QUERY} twice, with and without a prefix"),
    ],
)
def test_tensors_that_do_not_match_are_listed(
    directory: Path, rewrite: Callable[..., Path], change: Callable[[Tensors], object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(rewrite(directory, change))


def test_a_long_list_is_cut_and_counted(directory: Path) -> None:
    edit_json(directory / "config.json", num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"32 missing: encoder\.layers\.2.*; and 12 more\."):
        read_checkpoint(directory)


def test_no_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no weights; expected one of model\.safetensors, .*hub id"):
        read_checkpoint(directory)


def test_the_configuration_comes_first(directory: Path) -> None:
    edit_json(directory / "config.json", feature_extractor_cqt=True)
    (directory / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="feature_extractor_cqt"):
        read_checkpoint(directory)


def test_a_hostile_pickle_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    HostileFile(description=calling("os", "system", "true")).write(directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"asks for os\.system, which is no part of a tensor"):
        read_checkpoint(directory)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "no readable weight_map"),
        ({"weight_map": 3}, "no readable weight_map"),
        ({"weight_map": {"a": 3}}, "no readable weight_map"),
        ({"weight_map": {}}, "names no files"),
        ({"weight_map": {"a": "../model.safetensors"}}, "not plain ones"),
        ({"weight_map": {"a": "C:\\model.safetensors"}}, "not plain ones"),
        ({"weight_map": {"a": "absent.safetensors"}}, "absent.safetensors cannot be read"),
        (
            {"weight_map": {"a": "model-00001-of-00002.safetensors"}},
            "does not hold what .*they differ in: a, ",
        ),
    ],
)
def test_an_index_that_lies_is_refused(directory: Path, index: dict[str, Any], message: str) -> None:
    as_shards(directory)
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(directory)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not here")
@pytest.mark.parametrize("name", ["tiny-mert-95m", "tiny-mert-330m"])
def test_golden_checkpoints_are_read(name: str) -> None:
    checkpoint = read_checkpoint(GOLDEN / name)
    assert checkpoint.config.do_stable_layer_norm == (name == "tiny-mert-330m")
    assert len(checkpoint.tensors) == 81
    assert list(checkpoint.files) == ["pytorch_model.bin"]


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("spelling", [0, 1])
def test_agrees_with_torchs_own_weight_norm(directory: Path, spelling: int, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(tensor).to(getattr(torch, dtype)) for name, tensor in load(directory).items()}
    magnitude, direction = state.pop(MAGNITUDE), state.pop(DIRECTION)
    state |= dict(zip(WEIGHT_NORM_SPELLINGS[spelling], (magnitude, direction), strict=True))
    torch.save(state, directory / "pytorch_model.bin")
    tensors = read_checkpoint(directory, weights="pytorch_model.bin").tensors
    expected = torch._weight_norm(direction.double(), magnitude.double(), 2).float().numpy()
    np.testing.assert_allclose(tensors.pop(POSITIONAL_WEIGHT), expected, rtol=3e-7)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, state[name].float().numpy(), err_msg=name)


def test_integers_are_no_weights(directory: Path, twin: Path) -> None:
    tensors: dict[str, Any] = load(directory)
    name = "encoder.layers.0.attention.q_proj.weight"
    tensors[name] = (100 * tensors[name]).astype(np.int64)
    torch_file(tensors).write(twin / "pytorch_model.bin")
    (twin / "model.safetensors").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=rf"1 not floating point: {name}"):
        read_checkpoint(twin, weights="pytorch_model.bin")


def test_a_heads_tensors_are_named_with_what_to_do(directory: Path) -> None:
    """Also where the only fault is a counter, which the file may hold."""
    edit(directory, lambda t: t.update({"lm_head.bias": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointError, match=r"1 unknown: lm_head\.bias \[3\]\. If they are a head's, .*save the enc"):
        read_checkpoint(directory)
    edit(directory, lambda t: t.pop(QUERY))
    with pytest.raises(CheckpointError, match=r"Use the config\.json and the weights of one and the same"):
        read_checkpoint(directory)


def test_weights_beside_an_adapter_are_not_the_model(directory: Path) -> None:
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"has an adapter_config\.json.*merge_and_unload"):
        read_checkpoint(directory)
