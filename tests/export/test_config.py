from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checkpoints import SMALL, edit_json
from mertric.errors import CheckpointError, ConfigurationError
from mertric_export.config import MertConfig, read_config
from mertric_export.synthetic import PRESETS, TINY, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "small", SMALL)


def edit(directory: Path, **changes: object) -> Path:
    edit_json(directory / "config.json", **changes)
    return directory


def test_presets_have_the_released_sizes() -> None:
    small, large = PRESETS["m-a-p/MERT-v1-95M"], PRESETS["m-a-p/MERT-v1-330M"]
    assert (small.hidden_size, small.num_hidden_layers, small.head_dim) == (768, 12, 64)
    assert (large.hidden_size, large.num_hidden_layers, large.head_dim) == (1024, 24, 64)
    assert not small.do_stable_layer_norm
    assert large.do_stable_layer_norm
    assert {small.sample_rate, large.sample_rate} == {24000}


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (120_000, 374)])
def test_frames_follow_from_hop_and_receptive_field(samples: int, frames: int) -> None:
    assert (TINY.hop, TINY.receptive_field) == (320, 400)
    assert TINY.frames(samples) == frames


def test_what_is_written_is_read(tmp_path: Path) -> None:
    config = MertConfig(
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=5,
        conv_dim=(4, 6),
        conv_kernel=(7, 3),
        conv_stride=(4, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        feat_proj_layer_norm=False,
        num_conv_pos_embeddings=9,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        layer_norm_eps=1e-6,
        sample_rate=16000,
    )
    assert read_config(write_checkpoint(tmp_path, config)) == config


def test_absent_fields_have_huberts_defaults(directory: Path) -> None:
    optional = [
        "conv_bias",
        "feat_extract_norm",
        "feat_proj_layer_norm",
        "do_stable_layer_norm",
        "layer_norm_eps",
    ]
    optional += ["hidden_act", "feat_extract_activation", "feature_extractor_cqt", "deepnorm", "sample_rate"]
    assert read_config(edit(directory, **dict.fromkeys(optional, ...))) == SMALL


def test_attention_relax_is_the_identity(directory: Path) -> None:
    assert read_config(edit(directory, attention_relax=32.0)) == SMALL


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feature_extractor_cqt", True),
        ("deepnorm", True),
        ("conv_pos_batch_norm", True),
        ("add_adapter", True),
        ("adapter_attn_dim", 16),
        ("hidden_act", "relu"),
        ("hidden_act", "gelu_new"),
        ("feat_extract_activation", "swish"),
        ("feat_extract_norm", "batch"),
        ("model_type", "wavlm"),
        ("hidden_size", "16"),
        ("hidden_size", 0),
        ("num_hidden_layers", True),
        ("conv_dim", 8),
        ("conv_kernel", [10, 3.0]),
        ("conv_bias", "false"),
        ("do_stable_layer_norm", 1),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", float("nan")),
        ("num_attention_heads", 3),
        ("num_conv_pos_embedding_groups", 5),
        ("sample_rate", 16000),
        ("hidden_size", ...),
        ("num_attention_heads", ...),
        ("conv_stride", ...),
    ],
)
def test_what_is_not_supported_is_refused_by_name(directory: Path, field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"\b{field}\b"):
        read_config(edit(directory, **{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("do_normalize", False),
        ("feature_extractor_type", "WhisperFeatureExtractor"),
        ("feature_size", 80),
        ("sampling_rate", 24000.5),
        ("sampling_rate", ...),
    ],
)
def test_the_preprocessor_is_held_to_as_well(directory: Path, field: str, value: Any) -> None:
    edit_json(directory / "preprocessor_config.json", **{field: value})
    with pytest.raises(ConfigurationError, match=rf"{field}.*preprocessor_config\.json|preprocessor.*{field}"):
        read_config(directory)


def test_convolutions_must_be_as_many_in_each_list(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match="conv_dim, conv_kernel and conv_stride have 7, 6, 7"):
        read_config(edit(directory, conv_kernel=[10, 3, 3, 3, 3, 2]))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_missing_or_damaged_file_is_named(directory: Path, name: str) -> None:
    for content in ("{", "[1]", "\udcff"):
        (directory / name).write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            read_config(directory)
    (directory / name).unlink()
    with pytest.raises(CheckpointError, match=r"does not exist.*A checkpoint holds"):
        read_config(directory)
