from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.bound import BoundSession
from mertric.encoder import Encoder
from mertric.errors import AudioError, InputError
from mertric.providers import PROVIDERS, FixedShapes
from mertric.rows import joined
from mertric.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]

RATE = 24000


@pytest.mark.parametrize("attention", ["fused", "portable", "pointwise"])
def test_clips_of_any_lengths_give_what_they_give_alone(model: Any, sound: Sound, attention: str) -> None:
    encoder = Encoder(model.bundle, attention=attention)
    clips = [sound(seconds * RATE) for seconds in (1, 3, 5, 9)]
    together = encoder.embed_batch(clips, sample_rate=RATE, layers="all", protocol="float")
    for clip, got in zip(clips, together, strict=True):
        alone = encoder.embed(clip, sample_rate=RATE, layers="all", protocol="float")
        assert got.hidden.shape == alone.hidden.shape
        np.testing.assert_array_equal(got.times, alone.times)
        scale = np.sqrt(np.square(alone.hidden).mean(axis=(1, 2), keepdims=True))
        assert np.abs((got.hidden - alone.hidden) / scale).max() < 3e-5


def test_clips_that_are_read_and_looked_at_side_by_side(
    bundle: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give what they give alone, in their order, and the first error."""
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], readers=4))
    monkeypatch.setattr("mertric.encoder._LARGE", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    encoder = Encoder(bundle, provider="cpu")
    clips = [sound(size, size) for size in (9000, 5000, 7000, 5000, 6000)]
    for clip, got in zip(clips, encoder.embed_batch(clips, sample_rate=RATE, protocol="float"), strict=True):
        np.testing.assert_allclose(got.hidden, encoder.embed_samples(clip).hidden, atol=3e-5)
    with pytest.raises(AudioError, match="array 3 of the batch is too short"):
        encoder.embed_batch([*clips[:2], clips[0][:10], clips[0][:20]], sample_rate=RATE)


def test_clips_of_one_length(encoder: Encoder, sound: Sound) -> None:
    clips = [sound(RATE), 0.1 * sound(RATE)[::-1]]
    for clip, got in zip(clips, encoder.embed_batch(clips, sample_rate=RATE, layers=(2, 0)), strict=True):
        alone = encoder.embed(clip, sample_rate=RATE, layers=(2, 0))
        assert got.layers == (2, 0)
        np.testing.assert_allclose(got.hidden, alone.hidden, atol=2e-5)


def test_files_and_arrays_in_one_batch(encoder: Encoder, write_wav: Callable[..., Path], sound: Sound) -> None:
    path = write_wav("a.wav", sound(RATE), RATE)
    first, second = encoder.embed_batch([path, sound(2 * RATE)], sample_rate=RATE)
    np.testing.assert_allclose(first.hidden, encoder.embed(path).hidden, atol=2e-5)
    assert second.hidden.shape[1] == 149


def test_rows_that_are_shorter_end_in_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mertric.rows.np.empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    rows = [np.ones((2, 2), np.float32), np.ones((3, 2), np.float32)]
    np.testing.assert_array_equal(joined(rows, (2, 3, 2)), [[[1, 1], [1, 1], [0, 0]], [[1, 1]] * 3])


def test_no_clips(encoder: Encoder) -> None:
    assert encoder.embed_batch([]) == []


def test_one_bad_clip(encoder: Encoder, sound: Sound) -> None:
    with pytest.raises(AudioError, match="array 2 of the batch is too short"):
        encoder.embed_batch([sound(RATE), sound(399)], sample_rate=RATE)


def test_warm_up_opens_what_embed_needs(bundle: Path, monkeypatch: pytest.MonkeyPatch, sound: Sound) -> None:
    encoder = Encoder(bundle)
    encoder.warm_up([0.5, 0.001])
    monkeypatch.setattr("mertric.transformer.Session", None)
    assert encoder.embed(sound(RATE), sample_rate=RATE).hidden.shape == (1, 74, 64)


def test_warm_up_fixes_shapes_where_the_provider_gains_from_it(
    model: Any, monkeypatch: pytest.MonkeyPatch, sound: Sound
) -> None:
    """Clips of these lengths then run in the session of their shape, others in one for any; all give the same."""
    fixed = FixedShapes(attention={"fp32": "pointwise"})
    clips = [sound(RATE), sound(RATE - 3000), sound(RATE // 2)]
    expected = [Encoder(model.bundle).embed(clip, sample_rate=RATE, layers=(0, 2, 4)).hidden for clip in clips]
    monkeypatch.setitem(
        PROVIDERS, "cpu", replace(PROVIDERS["cpu"], attention="portable", multiples={"fp32": 32}, fixed=fixed)
    )
    encoder, ran = Encoder(model.bundle, provider="cpu"), []
    run = Session._run

    def spy(self: Session, inputs: Any) -> Any:
        if "lengths" in inputs:
            ran.append((self.name, inputs["state_0"].shape[:2]))
        return run(self, inputs)

    monkeypatch.setattr(Session, "_run", spy)
    encoder.warm_up([1.0], layers=(0, 2, 4))
    encoder.warm_up([1.0], layers=(0,))
    encoder.warm_up([1.0], batch=2, layers=(4,))
    assert [name for name, _ in ran] == ["encoder.pointwise.onnx"] * 4
    ran.clear()
    for clip, want in zip(clips, expected, strict=True):
        got = encoder.embed(clip, sample_rate=RATE, layers=(0, 2, 4)).hidden
        np.testing.assert_allclose(got, want, atol=3e-5)
    assert ran == [
        ("encoder.pointwise.onnx", (1, 96)),
        ("encoder.pointwise.onnx", (1, 96)),
        ("encoder.portable.onnx", (1, 64)),
    ]


@pytest.mark.parametrize(("kind", "step"), [(BoundSession, "__init__"), (BoundSession, "_run"), (Session, "_run")])
def test_a_provider_that_cannot_fix_shapes_says_so_and_goes_on(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, sound: Sound, kind: type, step: str
) -> None:
    fixed = FixedShapes(attention={"fp32": "portable"}, captured=kind is BoundSession)
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], multiples={"fp32": 32}, fixed=fixed))
    encoder = Encoder(bundle, provider="cpu")

    method = getattr(kind, step)

    def refuse(self: Any, *arguments: Any, **options: Any) -> Any:
        if kind is Session and any(array.any() for array in arguments[0].values()):
            return method(self, *arguments, **options)  # not the first run, on zeros
        raise RuntimeError("no graph was captured")

    monkeypatch.setattr(kind, step, refuse)
    with pytest.warns(UserWarning, match=r"no session for 1 clips of 74 frames: .*\(no graph was captured\)"):
        encoder.warm_up([1.0])
    assert encoder.embed(sound(RATE), sample_rate=RATE).hidden.shape == (1, 74, 64)


@pytest.mark.parametrize(
    "options",
    [{"batch": 0}, {"seconds": [float("nan")]}, {"seconds": [-1.0]}, {"seconds": ["5"]}, {"seconds": [None]}],
)
def test_what_cannot_be_warmed_up(encoder: Encoder, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        encoder.warm_up(**options)
