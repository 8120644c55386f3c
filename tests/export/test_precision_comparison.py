from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.clip_scores import score
from mertric.encoder import Encoder
from mertric.errors import AudioError, PairingError
from mertric.music import GRADES
from mertric_export import comparison
from mertric_export.comparison import compare, layer_groups, relative_changes
from mertric_export.material import Material, made_up_music, read_material

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("expected", "got", "changes"),
    [
        ([1.0, 2.0], [1.1, 1.9], [0.1, 0.05]),
        ([0.0, 2.0], [0.0, 2.0], [0, 0]),
        ([0.0, 2.0], [0.01, 2.0], [0.1, 0]),
        ([1e-9, 2.0], [2e-9, 2.0], [1e-8, 0]),
        ([0.0, 0.0], [0.0, 0.0], [0, 0]),
        ([0.0, 0.0], [0.0, 1e-9], [0, np.inf]),
        ([1.0, 1.0], [1.0, np.nan], [0, np.nan]),
    ],
)
def test_changes(expected: list[float], got: list[float], changes: list[float]) -> None:
    np.testing.assert_allclose(relative_changes(np.array(expected), np.array(got)), changes, rtol=1e-6, atol=1e-15)


def test_an_encoder_is_itself(bundle: Path, encoder: Encoder) -> None:
    rng = np.random.default_rng(1)
    clips: dict[str, Any] = {name: 0.1 * rng.standard_normal(30000) for name in "abc"}
    found = compare(encoder, Encoder(bundle), Material(description="m", clips=clips, pairs=(("a", "b"), ("a", "c"))))
    assert (found.pairs, found.material) == (2, "m")
    assert found.max_error_over_rms < 1e-4
    assert found.mert_mse < 1e-4


def test_figures_by_their_definition(models: dict[str, Any]) -> None:
    """Another model stands for another precision."""
    rng = np.random.default_rng(2)
    clips: dict[str, Any] = {name: 0.1 * rng.standard_normal(30000) for name in "abc"}
    pairs = (("a", "b"), ("c", "b"))
    encoders = [Encoder(models[family].bundle) for family in ("95m", "330m")]
    found = compare(*encoders, Material(description="m", clips=clips, pairs=pairs))
    largest, relative = [], []
    for clip in clips.values():
        one, other = (encoder.embed(clip, sample_rate=44100, layers="all").hidden for encoder in encoders)
        for state, wrong in zip(one, other, strict=True):
            largest.append(np.abs(wrong - state).max() / np.sqrt(np.mean(state**2)))
            relative.append(np.linalg.norm(wrong - state) / np.linalg.norm(state))
    np.testing.assert_allclose(found.max_error_over_rms, max(largest), rtol=1e-4)
    np.testing.assert_allclose(found.relative_error, max(relative), rtol=1e-4)
    scores = [[score(clips[a], clips[b], encoder=each, sample_rate=44100) for a, b in pairs] for each in encoders]
    for name, change in (("mse", found.mert_mse), ("fad", found.mert_fad)):
        values = np.array([[getattr(one, name) for one in row] for row in scores])
        np.testing.assert_allclose(change, np.max(np.abs(values[1] / values[0] - 1)), rtol=1e-6)


def test_layers_in_groups_give_the_same(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    clips: dict[str, Any] = {name: 0.1 * rng.standard_normal(30000) for name in "ab"}
    material = Material(description="m", clips=clips, pairs=(("a", "b"),))
    encoders = [Encoder(models[family].bundle, provider="cpu") for family in ("95m", "330m")]
    expected = compare(*encoders, material)
    asked: list[tuple[int, ...]] = []
    embed = Encoder.embed_samples

    def counted(self: Encoder, samples: Any, *, layers: Any) -> Any:
        asked.append(tuple(layers))
        return embed(self, samples, layers=layers)

    monkeypatch.setattr(Encoder, "embed_samples", counted)
    frames = encoders[0].bundle.frames(round(clips["a"].size * 24 / 44.1))
    monkeypatch.setattr(comparison, "BUDGET", 3 * 2 * frames * encoders[0].bundle.dim * 4)
    found = compare(*encoders, material)
    assert asked == 2 * [*2 * [(0, 1)], *2 * [(2, 3)], *2 * [(4,)]]
    for field in ("max_error_over_rms", "relative_error", "mert_mse", "mert_fad"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-4)


@pytest.mark.parametrize(
    ("budget", "groups"),
    [
        (1, [range(1), range(1, 2), range(2, 3), range(3, 4), range(4, 5)]),
        (3 * 2 * 100, [range(2), range(2, 4), range(4, 5)]),
        (3 * 5 * 100 - 1, [range(4), range(4, 5)]),
        (3 * 5 * 100, [range(5)]),
    ],
)
def test_groups_fit_the_budget(monkeypatch: pytest.MonkeyPatch, budget: int, groups: list[range]) -> None:
    monkeypatch.setattr(comparison, "BUDGET", budget)
    assert layer_groups(4, 100) == groups


def test_six_minutes_at_the_largest_size_are_parted() -> None:
    assert [len(group) for group in layer_groups(24, 4 * 1024 * 27_000)] == [6, 6, 6, 6, 1]


def test_music_is_made_in_every_way() -> None:
    material = made_up_music()
    assert len(material.pairs) == sum(map(len, GRADES.values())) == 15
    assert {name for pair in material.pairs for name in pair} == material.clips.keys()
    again, other = made_up_music(), made_up_music(1)
    for name, clip in material.clips.items():
        np.testing.assert_array_equal(clip, again.clips[name])
        assert not np.array_equal(clip, other.clips[name])


def test_a_users_pairs(write_wav: Callable[..., Path], sound: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("r/fileid_1.wav", "r/fileid_2.wav", "e/m/a_fileid_2.wav", "e/m/a_fileid_1.wav", "e/n/fileid_2.wav"):
        write_wav(name, sound(5000))
    write_wav("e/n/fileid_1.wav", sound(5000))
    material = read_material(tmp_path / "r", tmp_path / "e")
    assert len(material.pairs) == 4
    assert len(material.clips) == 6
    assert material.description == f"{tmp_path / 'r'} against {tmp_path / 'e'}"
    single = read_material(tmp_path / "r" / "fileid_1.wav", tmp_path / "e" / "n" / "fileid_1.wav")
    assert single.pairs == ((str(tmp_path / "r" / "fileid_1.wav"), str(tmp_path / "e" / "n" / "fileid_1.wav")),)


def test_what_cannot_be_verified_with(
    write_wav: Callable[..., Path], sound: Callable[..., Any], tmp_path: Path
) -> None:
    one = write_wav("r/a.wav", sound(5000))
    write_wav("e/a.wav", sound(5000))
    with pytest.raises(PairingError, match=r"gone does not exist"):
        read_material(tmp_path / "gone", tmp_path / "e")
    with pytest.raises(AudioError, match=r"short.wav has 0\.050 s; expected at least 0\.1 s to verify with"):
        read_material(one, write_wav("short.wav", sound(1200)))
    with pytest.raises(AudioError, match=r"a\.wav has 0\.208333 s and \S+long.wav 0\.208375 s; expected pairs of"):
        read_material(one, write_wav("long.wav", sound(5001)))
    (tmp_path / "broken.wav").write_bytes(b"RIFF no audio at all")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        read_material(one, tmp_path / "broken.wav")
    write_wav("e/b.wav", sound(5000))
    with pytest.raises(PairingError, match=r"b\.wav has no partner in \S+r; expected pairs only\. Leave it out"):
        read_material(tmp_path / "r", tmp_path / "e")


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_the_worst_pair_is_that_of_the_largest_change(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    states = {name: rng.standard_normal((9, 4)).astype(np.float32) for name in "rab"}

    def measure(_: Any, __: Any, clip: str) -> Any:
        return (0.0, 0.0), (states[clip], states[clip] * (1.5 if clip == "b" else 1.01 if clip == "a" else 1))

    monkeypatch.setattr(comparison, "_measure", measure)
    clips: Any = {name: name for name in "rab"}
    material = Material(description="three clips", clips=clips, pairs=tuple(("r", name) for name in names))
    encoder: Any = None
    found = comparison.compare(encoder, encoder, material)
    assert (found.worst_pair, found.pairs, found.material) == ("r and b", 2, "three clips")
