"""What an NVIDIA GPU computes, against the CPU: skipped where there is none."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mertric.choice import probe
from mertric.encoder import Encoder
from mertric.providers import PROVIDERS
from mertric.windows import Windows
from mertric_export import export
from mertric_export.export import Provenance, export_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.conftest import Model

RATE = 24000
TOLERANCE = {"fp32": 3e-5, "fp16": 0.03, "bf16": 0.15}
"""Largest error over the root mean square of a hidden state."""

pytestmark = [
    pytest.mark.skipif(probe(PROVIDERS["cuda"]) is not None, reason="CUDA does not work here"),
    pytest.mark.filterwarnings("error"),  # a clip that runs in stages, or a session that cannot be fixed
]


@pytest.fixture(scope="module", params=["95m", "330m"])
def bundle(request: pytest.FixtureRequest, models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in all precisions, though a tiny one loses more to rounding than gates allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "compare_precisions", lambda *_, **__: [])
        return export_checkpoint(
            models[request.param].checkpoint,
            tmp_path_factory.mktemp("cuda") / "bundle",
            provenance=Provenance(model="tiny", trained=False),
            precisions=("fp16", "bf16"),
        ).path


def sound(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Noise that swells."""
    size = round(seconds * RATE)
    noise = np.random.default_rng(seed).standard_normal(size)
    return (0.1 * noise * np.linspace(0.1, 1, size)).astype(np.float32)


def difference(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest error over the root mean square, of the worst hidden state."""
    rms = np.sqrt(np.square(expected, dtype=np.float64).mean(axis=(1, 2)))
    return float((np.abs(got - expected).max(axis=(1, 2)) / rms).max())


def sessions(encoder: Encoder) -> set[tuple[int, str]]:
    """For each session of whole clips how many it is fixed for, 0 if it is not, and its graph."""
    whole = encoder._network._clips
    return set() if whole is None else {(key.clips, session.name) for key, session in whole._sessions.items()}


@pytest.mark.parametrize("precision", TOLERANCE)
def test_every_kind_of_run_gives_what_the_cpu_gives(bundle: Path, precision: str) -> None:
    exact = Encoder(bundle, provider="cpu")
    encoder = Encoder(bundle, provider="cuda", precision=precision)
    clips = [sound(seconds, seed) for seed, seconds in enumerate((1, 3, 5, 9, 5, 5, 0.02))]
    expected = [exact.embed_samples(clip, layers="all").hidden for clip in clips]
    tolerance = TOLERANCE[precision]
    for got, right in zip(encoder.embed_samples_batch(clips, layers="all"), expected, strict=True):
        assert difference(got.hidden, right) < tolerance
    assert sessions(encoder) == {(0, "clips.onnx")}
    encoder.warm_up([5], batch=3, layers="all")
    encoder.warm_up([5], layers="all")
    fixed = "clips.fixed.onnx" if precision == "fp16" else "clips.onnx"
    assert sessions(encoder) == {(0, "clips.onnx"), (1, fixed), (3, fixed)}
    equal = [clips[2], clips[4], clips[5]]
    for index, got in zip((2, 4, 5), encoder.embed_samples_batch(equal, layers="all"), strict=True):
        assert difference(got.hidden, expected[index]) < tolerance
    assert difference(encoder.embed_samples(clips[4], layers="all").hidden, expected[4]) < tolerance
    staged = Encoder(bundle, provider="cuda", precision=precision, attention="fused", chunk=100)
    assert difference(staged.embed_samples(clips[3], layers="all").hidden, expected[3]) < tolerance
    windows = Windows(seconds=2, overlap=0.5)
    right = exact.embed_samples(clips[3], windows=windows).hidden
    assert difference(encoder.embed_samples(clips[3], windows=windows).hidden, right) < tolerance


def test_fp32_batches_equal_clips_alone(bundle: Path) -> None:
    encoder = Encoder(bundle, provider="cuda")
    clips = [sound(seconds, seed) for seed, seconds in enumerate((1, 3, 5, 9, 5, 5))]
    alone = [encoder.embed_samples(clip, layers="all").hidden for clip in clips]
    for got, expected in zip(encoder.embed_samples_batch(clips, layers="all"), alone, strict=True):
        assert difference(got.hidden, expected) < 3e-5


def test_a_recorded_graph_serves_many_threads(bundle: Path) -> None:
    encoder = Encoder(bundle, provider="cuda", precision="fp16")
    clips = [sound(2, seed) for seed in range(16)]
    expected = [encoder.embed_samples(clip).hidden for clip in clips]
    encoder.warm_up([2])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda clip: encoder.embed_samples(clip).hidden, clips))
    for got, right in zip(results, expected, strict=True):
        assert difference(got, right) < 0.02


def test_clips_too_long_to_run_whole(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Encoder(bundle, provider="cuda")
    clips = [sound(3, 1), sound(3, 2), sound(1, 3)]
    expected = [whole.embed_samples(clip).hidden for clip in clips]
    shorter = dataclasses.replace(PROVIDERS["cuda"], clips=100)
    monkeypatch.setitem(PROVIDERS, "cuda", shorter)
    staged = Encoder(bundle, provider="cuda")
    for got, right in zip(staged.embed_samples_batch(clips), expected, strict=True):
        assert difference(got.hidden, right) < 3e-5
    assert sessions(staged) == {(0, "clips.onnx")}  # for the clip of 1 s
    assert staged._network._opened is not None


def test_auto_takes_it(bundle: Path) -> None:
    assert Encoder(bundle).provider == "cuda"
