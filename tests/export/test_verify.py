from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import SMALL
from mertric.clips import Clips
from mertric.errors import ExportError
from mertric_export import verify
from mertric_export.checkpoint import read_checkpoint
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.synthetic import write_checkpoint
from mertric_export.transformer import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def test_figures_of_a_sound_bundle(models: dict[str, Any]) -> None:
    for model in models.values():
        found = verify.verify(read_checkpoint(model.checkpoint), model.bundle)
        assert found["seconds"] == 0.4
        assert found["reference"] == "NumPy float64"
        assert set(found["max_error_over_rms"]) == {*VARIANTS, "clips"}
        assert all(0 < error < 1e-5 for error in found["max_error_over_rms"].values())


def test_another_checkpoint_is_found(models: dict[str, Any], tmp_path: Path) -> None:
    """Verification tells models of one shape apart."""
    checkpoint = read_checkpoint(models["95m"].checkpoint)
    write_checkpoint(tmp_path / "other", checkpoint.config, seed=8)
    with pytest.raises(ExportError, match=r"the exported fp32 fused graph differs .*: hidden state \d by"):
        verify.verify(read_checkpoint(tmp_path / "other"), models["95m"].bundle)


def spoil(monkeypatch: pytest.MonkeyPatch, attention: str, change: Callable[[NDArray[np.float32]], None]) -> None:
    """Make the verification see wrong hidden states of one kind of attention."""

    class Wrong(verify.Encoder):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.wrong = options["attention"] == attention

        def embed_samples_batch(self, *args: Any, **options: Any) -> Any:
            batch = super().embed_samples_batch(*args, **options)
            if self.wrong:
                change(batch[-1].hidden)
            return batch

    monkeypatch.setattr(verify, "Encoder", Wrong)


@pytest.mark.parametrize("attention", ["fused", "portable", "pointwise"])
def test_one_wrong_value_fails_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attention: str) -> None:
    def change(hidden: NDArray[np.float32]) -> None:
        hidden[1, 3, 5] += 0.01

    spoil(monkeypatch, attention, change)
    source = write_checkpoint(tmp_path / "source", SMALL)
    with pytest.raises(ExportError, match=rf"{attention} graph differs .* hidden state 1 by .*expected at most 1e-04"):
        export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_weights_on_which_float32_loses_more_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told by what a plain forward pass loses, which a graph that is wrong exceeds."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    monkeypatch.setattr(verify, "TOLERANCE", 1e-8)
    bundle = export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"))
    assert 1e-8 < max(bundle.parity["max_error_over_rms"].values()) < 1e-5
    monkeypatch.setattr(verify, "ROOM", 0.01)
    with pytest.raises(ExportError, match="differs from its checkpoint"):
        export_checkpoint(source, tmp_path / "other", provenance=Provenance(model="m"))


def test_nan_fails_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "portable", lambda hidden: hidden[2].fill(np.nan))
    source = write_checkpoint(tmp_path / "source", SMALL)
    with pytest.raises(ExportError, match="hidden state 2 by nan"):
        export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"))


def test_a_wrong_graph_of_another_precision_fails_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(hidden: NDArray[np.float32]) -> None:
        if hidden.shape[1] < 20:  # the shorter of the clips, which only a mask keeps apart from the longer
            hidden[2] *= 1.5

    spoil(monkeypatch, "portable", change)
    monkeypatch.setattr(verify, "TOLERANCE", 10)
    source = write_checkpoint(tmp_path / "source", SMALL)
    with pytest.raises(ExportError, match=r"fp16 portable graph differs .* hidden state 2 by .*expected at most 2e-01"):
        export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"), precisions=["fp16"])


@pytest.mark.parametrize("fixed", [False, True])
def test_a_wrong_graph_of_whole_clips_fails_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    """Of the second clip of the batch, in shapes that vary or in fixed ones."""
    states = Clips.states

    def wrong(self: Clips, clips: Any, layers: Any) -> Any:
        found = states(self, clips, layers)
        if any(key.frames for key in self._sessions) == fixed:
            found[1][2] *= 1.5
        return found

    monkeypatch.setattr(Clips, "states", wrong)
    monkeypatch.setattr(verify, "TOLERANCE", 10)
    source = write_checkpoint(tmp_path / "source", SMALL)
    name = r"clips\.fixed" if fixed else "clips"
    with pytest.raises(ExportError, match=rf"fp16 {name} graph differs .* hidden state 2 by .*expected at most 2e-01"):
        export_checkpoint(source, tmp_path / "bundle", provenance=Provenance(model="m"), precisions=["fp16"])


@pytest.mark.parametrize("rate", [16000, 24000])
def test_the_clip_has_something_everywhere(rate: int) -> None:
    clip = verify.check_clip(rate)
    assert clip.dtype == np.float32
    assert clip.shape == (round(0.4 * rate),)
    assert np.abs(clip).max() < 1
    assert (np.abs(np.array_split(clip, 20)).max(axis=1) > 0.01).all()
    np.testing.assert_array_equal(clip, verify.check_clip(rate))
