"""Whole models of the released shapes, with seeded weights, against HuggingFace's HuBERT in PyTorch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.encoder import Encoder
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.synthetic import PRESETS, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module", params=PRESETS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A preset's name, its seeded checkpoint and the bundle made of it."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("full")
    checkpoint = write_checkpoint(home / "checkpoint", PRESETS[request.param], seed=1)
    export_checkpoint(checkpoint, home / "bundle", provenance=Provenance(model=request.param, trained=False))
    return request.param, checkpoint, home / "bundle"


def by_transformers(name: str, checkpoint: Path, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Hidden states as the released model's own code computes them, in float32; every tensor must have been read."""
    import torch
    import transformers

    config = transformers.HubertConfig(
        **dataclasses.asdict(PRESETS[name]), conv_pos_batch_norm=False, attn_implementation="eager"
    )
    model, report = transformers.HubertModel.from_pretrained(checkpoint, config=config, output_loading_info=True)
    assert not report["missing_keys"], report
    assert not report["mismatched_keys"], report
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    inputs = extractor(samples, sampling_rate=24000, return_tensors="pt").input_values
    with torch.no_grad():
        states = model.eval()(inputs, output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states]


def test_every_hidden_state(made: tuple[str, Path, Path], sound: Callable[..., Any]) -> None:
    name, checkpoint, bundle = made
    samples = sound(24000)
    expected = by_transformers(name, checkpoint, samples)
    assert len(expected) == PRESETS[name].num_hidden_layers + 1
    kinds = (("fused", 10**6), ("fused", 1), ("portable", 32), (None, None))
    results = {
        (attention, chunk): Encoder(bundle, attention=attention, chunk=chunk)
        .embed_samples(samples, layers="all")
        .hidden
        for attention, chunk in kinds
    }
    for hidden in results.values():
        for got, state in zip(hidden, expected, strict=True):
            assert np.abs(got - state).max() < 3e-5 * np.sqrt(np.mean(state.astype(np.float64) ** 2))
    whole = results["fused", 10**6]
    for got, state in zip(results["fused", 1], whole, strict=True):
        assert np.abs(got - state).max() < 1e-5 * np.sqrt(np.mean(state.astype(np.float64) ** 2))
