from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import GOLDEN, SMALL
from mertric.errors import InputError
from mertric_export.checkpoint import Checkpoint, read_checkpoint
from mertric_export.reference import hidden_states
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def clip(samples: int = 4000) -> NDArray[np.float64]:
    time = np.arange(samples) / 24000
    return 0.1 + 0.3 * np.sin(2e4 * time**2) + 0.05 * np.random.default_rng(5).standard_normal(samples)


def checkpoint(directory: Path, **changes: Any) -> Checkpoint:
    return read_checkpoint(write_checkpoint(directory, dataclasses.replace(SMALL, **changes), seed=3))


def rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(x * x)))


def test_shapes(tmp_path: Path) -> None:
    states = hidden_states(checkpoint(tmp_path), clip(4000))
    assert len(states) == 3
    assert {(state.shape, state.dtype) for state in states} == {((12, 16), np.dtype(np.float64))}
    assert hidden_states(checkpoint(tmp_path), clip(400))[0].shape == (1, 16)


def test_offset_and_gain_change_nothing(tmp_path: Path) -> None:
    small, audio = checkpoint(tmp_path), clip()
    for one, other in zip(hidden_states(small, audio), hidden_states(small, 100 * audio - 3), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("stable", [False, True])
def test_the_last_state_is_normalised(tmp_path: Path, stable: bool) -> None:
    small = checkpoint(tmp_path, do_stable_layer_norm=stable)
    name = "encoder.layer_norm" if stable else "encoder.layers.1.final_layer_norm"
    last = hidden_states(small, clip())[-1]
    standard = (last - small.tensors[f"{name}.bias"]) / small.tensors[f"{name}.weight"]
    np.testing.assert_allclose(standard.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(standard.var(axis=1), 1, atol=1e-3)


def test_every_weight_but_the_keys_bias_matters(tmp_path: Path) -> None:
    """A bias of the keys adds the same to every score of a query, so the softmax takes it away."""
    small = checkpoint(tmp_path, conv_bias=True, feat_extract_norm="layer")
    expected = hidden_states(small, clip(1500))[-1]
    for name, tensor in small.tensors.items():
        changed = dataclasses.replace(small, tensors={**small.tensors, name: np.roll(tensor, 1)})
        difference = rms(hidden_states(changed, clip(1500))[-1] - expected)
        assert (difference > 1e-6) != name.endswith("k_proj.bias"), name


@pytest.mark.parametrize(
    ("stable", "norm", "expected"),
    [
        (False, "group", [1.0321501, 0.5396283, 0.2153874]),
        (False, "layer", [0.1499912, -2.9234168, -0.4907714]),
        (True, "group", [0.2554471, 0.0465921, 0.6011078]),
        (True, "layer", [-0.3988873, -3.117809, 0.1369015]),
    ],
)
def test_values_stay(tmp_path: Path, stable: bool, norm: str, expected: list[float]) -> None:
    """Computed by this very function when it agreed with transformers in float64 (below)."""
    small = checkpoint(tmp_path, do_stable_layer_norm=stable, feat_extract_norm=norm)
    time = np.arange(1200)
    last = hidden_states(small, np.sin(time * time / 3e3) + time / 2e3)[-1]
    np.testing.assert_allclose(last[1, :3], expected, atol=1e-6)


@pytest.mark.parametrize("samples", [np.zeros(399), np.zeros((2, 4000)), np.array(1.0), np.r_[np.zeros(4000), np.nan]])
def test_what_is_no_clip_is_refused(tmp_path: Path, samples: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="expected one dimension of at least 400 finite values"):
        hidden_states(checkpoint(tmp_path), samples)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not here")
@pytest.mark.parametrize("excerpt", [1, 12])
@pytest.mark.parametrize("name", ["tiny-mert-95m", "tiny-mert-330m"])
def test_golden_hidden_states(name: str, excerpt: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    audio, _ = soundfile.read(GOLDEN / "audio24k" / "target" / f"target_fileid_{excerpt}.wav")
    states = hidden_states(read_checkpoint(GOLDEN / name), audio)
    with np.load(GOLDEN / f"{name}_target_{excerpt}.npz") as golden:
        assert len(states[0]) == golden["frames"]
        np.testing.assert_allclose([rms(state) for state in states], golden["layer_rms"], rtol=1e-5)
        for layer, expected in zip((0, 4), golden["hidden"], strict=True):
            difference = np.abs(states[layer][::25] - expected).max()
            assert difference < 5e-6 * golden["layer_rms"][layer]


@pytest.mark.oracle
@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize(
    "changes",
    [
        {"conv_bias": False},
        {"conv_bias": True},
        {"feat_proj_layer_norm": False, "num_conv_pos_embeddings": 9, "layer_norm_eps": 1e-3},
        {"conv_dim": (4, 6), "conv_kernel": (7, 3), "conv_stride": (40, 8)},
    ],
)
def test_agrees_with_transformers_in_float64(tmp_path: Path, stable: bool, norm: str, changes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    mine = checkpoint(tmp_path, do_stable_layer_norm=stable, feat_extract_norm=norm, **changes)
    config = transformers.HubertConfig(
        **dataclasses.asdict(mine.config), conv_pos_batch_norm=False, attn_implementation="eager"
    )
    model = transformers.HubertModel.from_pretrained(tmp_path, config=config).double().eval()
    audio = clip()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    inputs = extractor.zero_mean_unit_var_norm([audio], None)[0]
    with torch.no_grad():
        theirs = model(torch.from_numpy(inputs)[None], output_hidden_states=True).hidden_states
    states = hidden_states(mine, audio)
    assert len(theirs) == len(states)
    for state, expected in zip(states, theirs, strict=True):
        assert np.abs(state - expected[0].numpy()).max() < 1e-6 * rms(state)
