"""The graphs of whole clips, on the CPU: against a float64 forward pass, and against the stages."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import SMALL, errors, export_graphs
from mertric.bundle import read_bundle
from mertric.clips import Clips
from mertric.encoder import Encoder
from mertric.errors import ProviderError
from mertric.providers import PROVIDERS
from mertric_export.checkpoint import read_checkpoint
from mertric_export.emulation import runnable
from mertric_export.reference import hidden_states
from mertric_export.synthetic import write_checkpoint
from mertric_export.whole import WholeEncoder, whole_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mertric_export.checkpoint import Checkpoint

    Sound = Callable[..., Any]

BOUNDS = {"fp32": 1e-5, "fp16": 4e-2, "bf16": 0.3}
"""Largest error over rms of any hidden state."""
FAMILIES: list[dict[str, Any]] = [
    {},
    {"do_stable_layer_norm": True},
    {"feat_extract_norm": "layer", "conv_bias": True},
    {"feat_proj_layer_norm": False, "num_conv_pos_embeddings": 9, "do_stable_layer_norm": True},
    {"conv_dim": (4, 6), "conv_kernel": (7, 3), "conv_stride": (40, 2), "intermediate_size": 37},
    {"conv_dim": (5,), "conv_kernel": (400,), "conv_stride": (320,)},
]


def checkpoint_of(changes: dict[str, Any], home: Path) -> Checkpoint:
    return read_checkpoint(write_checkpoint(home / "source", dataclasses.replace(SMALL, **changes), seed=2))


@pytest.mark.parametrize("changes", FAMILIES)
@pytest.mark.parametrize("precision", BOUNDS)
def test_every_family(tmp_path: Path, sound: Sound, changes: dict[str, Any], precision: str) -> None:
    checkpoint = checkpoint_of(changes, tmp_path)
    bundle = export_graphs(checkpoint, tmp_path / "bundle", ["fp32"] if precision == "fp32" else ["fp32", precision])
    clips = [sound(5000, 1), 3 * sound(5000, 2)[::-1]]
    expected = [np.stack(hidden_states(checkpoint, clip)) for clip in clips]
    with runnable(bundle, provider="cpu", precision=precision) as (directory, run_as):
        whole = whole_clips(read_bundle(directory), run_as)
        layers = tuple(range(checkpoint.config.num_hidden_layers + 1))
        for right, got in zip(expected, whole.states(clips, layers), strict=True):
            assert (errors(got, right) < BOUNDS[precision]).all()
        whole.fix(1, read_bundle(directory).frames(5000), layers)
        (got,) = whole.states(clips[1:], layers)
        assert (errors(got, expected[1]) < BOUNDS[precision]).all()
        opened = {(key.clips, session.name) for key, session in whole._sessions.items()}
        assert opened == {(0, "clips.onnx"), (1, "clips.fixed.onnx" if precision == "fp16" else "clips.onnx")}


@pytest.mark.parametrize("changes", [FAMILIES[0], FAMILIES[4]])
def test_every_sample_counts(tmp_path: Path, sound: Sound, changes: dict[str, Any]) -> None:
    """GroupNorm sees windows that no frame does: every length from a frame's first sample to its last is right."""
    checkpoint = checkpoint_of(changes, tmp_path)
    config = checkpoint.config
    whole = whole_clips(read_bundle(export_graphs(checkpoint, tmp_path / "bundle", ["fp32"])), "fp32")
    for size in (*range(config.receptive_field, config.receptive_field + config.hop, 9), 1043, 1044, 1999, 2000):
        clip = sound(size, size) + np.linspace(0, 3, size, dtype=np.float32)
        right = np.stack(hidden_states(checkpoint, clip))
        (got,) = whole.states([clip], tuple(range(config.num_hidden_layers + 1)))
        assert (errors(got, right) < 1e-5).all(), size
        assert whole._blocks(config.frames(size)) * whole._stride >= size


def test_silence_and_one_layer(model: Any) -> None:
    encoder = Encoder(model.bundle, provider="cpu")
    silence = np.zeros(3000, np.float32)
    (got,) = whole_clips(encoder.bundle, "fp32").states([silence], (2,))
    np.testing.assert_allclose(got, encoder.embed_samples(silence, layers=[2]).hidden, atol=2e-5)


@pytest.mark.parametrize("kind", [np.float64, np.float16, ">f4"])
def test_samples_of_other_types_and_strides(model: Any, sound: Sound, kind: Any) -> None:
    clips = whole_clips(read_bundle(model.bundle), "fp32")
    samples = sound(6000).astype(kind)[::2]
    (got,) = clips.states([samples], (2,))
    (right,) = clips.states([samples.astype(np.float32)], (2,))
    np.testing.assert_array_equal(got, right)


@pytest.fixture
def whole_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the CPU run clips whole up to this number of frames."""
    frames = 160
    monkeypatch.setitem(PROVIDERS, "cpu", dataclasses.replace(PROVIDERS["cpu"], clips=frames, batches={"fp32": 4}))
    return frames


def test_clips_of_one_length_run_together_and_long_ones_in_stages(
    model: Any, sound: Sound, whole_on_the_cpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [sound(size, size) for size in (24000, 5000, 24003, 60000, 24000, 5000)]
    staged = Encoder(model.bundle, provider="cpu", attention="fused")
    expected = [staged.embed_samples(clip, layers="all").hidden for clip in clips]
    ran: list[list[int]] = []
    states = Clips.states

    def spy(self: Clips, some: Sequence[Any], layers: tuple[int, ...]) -> Any:
        ran.append([clip.size for clip in some])
        return states(self, some, layers)

    monkeypatch.setattr(Clips, "states", spy)
    encoder = Encoder(model.bundle, provider="cpu")
    for got, right in zip(encoder.embed_samples_batch(clips, layers="all"), expected, strict=True):
        assert (errors(got.hidden, right) < 3e-5).all()
    assert ran == [[24000, 24003], [24000], [5000, 5000]]  # 74 frames each, of which 160 hold two, and 15


@pytest.mark.parametrize("most", [2, 0])
def test_clips_that_memory_does_not_hold(
    model: Any, sound: Sound, whole_on_the_cpu: int, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """They run in smaller batches, and where even one is too much, in stages; what failed once is not tried again."""
    ran: list[int] = []
    states = Clips.states

    def short(self: Clips, some: Sequence[Any], layers: tuple[int, ...]) -> Any:
        ran.append(len(some))
        if len(some) > most:
            raise ProviderError("out of memory")
        return states(self, some, layers)

    monkeypatch.setattr(Clips, "states", short)
    clips = [sound(5000, seed) for seed in range(5)]
    encoder, staged = (Encoder(model.bundle, provider="cpu", attention=kind) for kind in (None, "fused"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        batches = [*encoder.embed_samples_batch(clips), *encoder.embed_samples_batch(clips)]
        assert ran == ([5, 2, 2, 1, 2, 2, 1] if most else [5, 2, 1])
        shorter = encoder.embed_samples(clips[0][:4000]).hidden.shape
    for clip, got in zip(clips * 2, batches, strict=True):
        assert (errors(got.hidden, staged.embed_samples(clip).hidden) < 3e-5).all()
    said = [str(one.message) for one in told]
    reason = "frames and more run in stages: out of memory"
    assert said == ([] if most else [f"clips of {frames} {reason}" for frames in (15, 12)])
    assert (shorter, ran[-1]) == ((1, 12, 64), 1)


def test_what_another_thread_found_too_much_is_not_tried_again(
    model: Any, sound: Sound, whole_on_the_cpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(model.bundle, provider="cpu")

    def short(*_: Any) -> Any:
        encoder._network._most = 20  # as a batch that failed beside this one left it
        raise ProviderError("out of memory")

    monkeypatch.setattr(Clips, "states", short)
    with pytest.warns(UserWarning, match="run in stages: out of memory"):
        encoder.embed_samples(sound(20000))  # of 61 frames
    assert encoder._network._most == 20


def test_a_graph_that_fails_where_there_are_no_stages_is_an_error(model: Any, sound: Sound, tmp_path: Path) -> None:
    bundle = shutil.copytree(model.bundle, tmp_path / "bundle")
    encoder = WholeEncoder(bundle)
    (bundle / "fp32" / "clips.onnx").unlink()
    with pytest.raises(ProviderError, match=r"there is no clips.onnx in fp32"):
        encoder.embed_samples(sound(5000))


def test_whole_clips_by_name(model: Any, sound: Sound) -> None:
    clip = sound(5000, 1)
    whole, staged = WholeEncoder(model.bundle), Encoder(model.bundle, provider="cpu")
    assert (errors(whole.embed_samples(clip).hidden, staged.embed_samples(clip).hidden) < 3e-5).all()
    assert [session.name for session in whole._whole._sessions.values()] == ["clips.onnx"]


def test_one_session_for_each_set_of_layers(model: Any, sound: Sound) -> None:
    """Whichever order they are asked for in."""
    clip = sound(5000, 1)
    whole, staged = WholeEncoder(model.bundle), Encoder(model.bundle, provider="cpu")
    for encoder in (whole, staged):
        expected = encoder.embed_samples(clip, layers=(0, 1, 2)).hidden
        got = encoder.embed_samples(clip, layers=(2, 0, 1)).hidden
        np.testing.assert_array_equal(got, expected[[2, 0, 1]])
    assert len(whole._whole._sessions) == 1
    assert len(staged._network._transformer._sessions) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 100, 399])
def test_memory_of_less_than_a_frame(model: Any, whole_on_the_cpu: int, size: int) -> None:
    assert Encoder(model.bundle, provider="cpu").memory(1, size) > 0


def test_stages_get_the_memory_that_whole_clips_held(
    model: Any, sound: Sound, whole_on_the_cpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(model.bundle, provider="cpu")
    encoder.embed_samples(sound(5000))
    whole = encoder._network._clips
    assert whole is not None
    assert len(whole._sessions) == 1
    monkeypatch.setattr("mertric.session.joined", lambda *_: np.zeros(1, np.float32))
    with pytest.warns(UserWarning, match="clips of 15 frames and more run in stages"):
        encoder.embed_samples(sound(5000))
    assert len(whole._sessions) == 0


@pytest.mark.parametrize("options", [{"chunk": 50}, {"attention": "fused"}])
def test_who_asks_for_stages_gets_them(
    model: Any, sound: Sound, whole_on_the_cpu: int, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(Clips, "states", None)
    assert Encoder(model.bundle, provider="cpu", **options).embed_samples(sound(5000)).hidden.shape == (1, 15, 64)


def test_memory_of_whole_clips(model: Any, whole_on_the_cpu: int) -> None:
    """The first convolution's values before and after its GELU, float32, and the states asked for."""
    encoder = Encoder(model.bundle, provider="cpu")
    channels, dim, frames = 32, 64, 74
    one = 2 * 64 * (frames + 2) * channels * 4 + 4 * frames * dim
    assert encoder.memory(1, 24000) == one
    assert encoder.memory(2, 24000) == 2 * one
    assert encoder.memory(3, 24000) == 2 * one  # the third runs after them


def test_warming_up_fixes_whole_clips(
    model: Any, sound: Sound, whole_on_the_cpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed: list[tuple[int, int]] = []
    fix = Clips.fix

    def spy(self: Clips, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        fixed.append((clips, frames))
        fix(self, clips, frames, layers)

    monkeypatch.setattr(Clips, "fix", spy)
    encoder = Encoder(model.bundle, provider="cpu")
    encoder.warm_up([1.0, 3.0], batch=3)
    assert fixed == [(2, 74)]  # of which 160 frames hold two, and of 3 s not even one
