"""Bundles in several precisions, through the public `Encoder`."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import SMALL, errors, export_graphs
from mertric.bundle import read_bundle
from mertric.choice import probe
from mertric.encoder import Encoder
from mertric.errors import BundleError, InputError
from mertric.providers import PROVIDERS
from mertric_export import gate
from mertric_export.checkpoint import read_checkpoint
from mertric_export.emulation import runnable
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.material import Material
from mertric_export.precisions import PRECISIONS, all_precisions
from mertric_export.reference import hidden_states
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOUNDS = {"fp16": 2e-2, "bf16": 0.2, "int8": 1e-2}
"""Largest error over rms of any hidden state; measured: 7e-3, 0.1 and 4e-3."""
LOWER = ["fp16", "bf16", "int8"]


@pytest.fixture(scope="module")
def bundles(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each family in all precisions."""
    rng = np.random.default_rng(0)
    clips = {name: 0.1 * rng.standard_normal(20000) for name in "ab"}
    material = Material(description="noise", clips=clips, pairs=(("a", "b"),))
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "made_up_music", lambda: material)
        patch.setattr(gate, "probe", lambda provider: None if provider.name == "cpu" else "it is not here")
        for family, model in models.items():
            output = tmp_path_factory.mktemp(family) / "bundle"
            provenance = Provenance(model=f"tiny-{family}", trained=False)
            export_checkpoint(model.checkpoint, output, provenance=provenance, precisions=LOWER)
            made[family] = output
    return made


@pytest.fixture(params=["95m", "330m"])
def several(request: pytest.FixtureRequest, bundles: dict[str, Path]) -> Path:
    """Each family's bundle in turn."""
    return bundles[request.param]


@contextmanager
def opened(bundle: Path, precision: str, **options: Any) -> Iterator[Encoder]:
    """Open an encoder on the CPU, emulated where that does not compute in the precision."""
    with runnable(bundle, provider="cpu", precision=precision) as (directory, run_as):
        yield Encoder(directory, provider="cpu", precision=run_as, **options)


def test_what_is_written(several: Path) -> None:
    bundle = read_bundle(several)
    assert bundle.precisions == ("fp32", "fp16", "bf16", "int8")
    for name, precision in PRECISIONS.items():
        bundle.check_files(name)
        encoders = {path.stem.split(".")[1] for path in bundle.graphs(name).glob("encoder.*.onnx")}
        assert encoders == set(precision.variants)
    sizes = {name: (several / name / "weights.bin").stat().st_size for name in PRECISIONS}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["bf16"] < 0.8 * sizes["fp32"]
    rows = bundle.parity["precisions"]
    assert [(row["provider"], row["precision"], row["emulated"]) for row in rows] == [
        ("cuda", "fp16", True),
        ("tensorrt", "fp16", True),
        ("cuda", "bf16", True),
        ("cpu", "int8", False),
    ]
    for row in rows:
        assert row.keys() == {
            *("provider", "precision", "emulated", "pairs", "material", "max_error_over_rms", "relative_error"),
            *("mert_mse", "mert_fad", "worst_pair", "bound", "problem"),
        }
        assert row["problem"] is None
        assert (row["pairs"], row["material"], row["worst_pair"]) == (1, "noise", "a and b")
        assert 0 < row["relative_error"] < row["max_error_over_rms"] < BOUNDS[row["precision"]]
        assert 0 < row["mert_mse"] < 0.8 * row["bound"]
        assert 0 < row["mert_fad"] < 0.8 * row["bound"]


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("attention", ["fused", "portable"])
def test_hidden_states_are_close_to_fp32(
    several: Path, sound: Callable[..., Any], precision: str, attention: str
) -> None:
    if attention not in PRECISIONS[precision].variants:
        pytest.skip("there is no such graph")
    expected = Encoder(several, provider="cpu").embed_samples(sound(), layers="all").hidden
    with opened(several, precision, attention=attention) as encoder:
        worst = errors(encoder.embed_samples(sound(), layers="all").hidden, expected)
    assert (worst < BOUNDS[precision]).all()
    assert (worst > 1e-5).all(), "it is another precision"


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("attention", ["fused", "portable"])
def test_a_batch_of_unequal_clips_is_each_alone(
    several: Path, sound: Callable[..., Any], precision: str, attention: str
) -> None:
    if attention not in PRECISIONS[precision].variants:
        pytest.skip("there is no such graph")
    clips = [sound(9000, 1), 5 * sound(2000, 2), sound(12000, 3), sound(400, 4)]
    with opened(several, precision, attention=attention) as encoder:
        batch = encoder.embed_batch(clips, sample_rate=24000, layers="all", protocol="float")
        for clip, got in zip(clips, batch, strict=True):
            alone = encoder.embed_samples(clip, layers="all").hidden
            assert (errors(got.hidden, alone) < BOUNDS[precision] / 2).all()


@pytest.mark.parametrize("attention", ["fused", "portable"])
def test_int8_does_not_depend_on_chunks(several: Path, sound: Callable[..., Any], attention: str) -> None:
    whole, parted = (
        Encoder(several, provider="cpu", precision="int8", chunk=chunk, attention=attention)
        .embed_samples(sound(), layers=[0])
        .hidden
        for chunk in (128, 7)
    )
    assert errors(parted, whole) < 1e-3


def test_portable_int8_graphs_run_on_openvino(several: Path, sound: Callable[..., Any]) -> None:
    if probe(PROVIDERS["openvino"]) is not None:
        pytest.skip("OpenVINO is not here")
    expected = Encoder(several, provider="cpu").embed_samples(sound(), layers="all").hidden
    encoder = Encoder(several, provider="openvino", precision="int8")
    free = encoder.embed_samples(sound(), layers="all").hidden
    assert (errors(free, expected) < BOUNDS["int8"]).all()
    encoder.warm_up([sound().size / 24000], layers="all")
    fixed = encoder.embed_samples(sound(), layers="all").hidden
    assert (errors(fixed, expected) < BOUNDS["int8"]).all()


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"feat_extract_norm": "layer", "conv_bias": True},
        {"feat_proj_layer_norm": False, "num_conv_pos_embeddings": 9},
        {"conv_dim": (4, 6), "conv_kernel": (7, 3), "conv_stride": (40, 2), "intermediate_size": 37},
        {"conv_dim": (5,), "conv_kernel": (400,), "conv_stride": (320,)},
    ],
)
def test_every_family(tmp_path: Path, sound: Callable[..., Any], stable: bool, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **{"do_stable_layer_norm": stable, "intermediate_size": 32, **changes})
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, config, seed=2))
    expected = np.stack(hidden_states(checkpoint, sound(5000)))
    for precision in LOWER:
        export_graphs(checkpoint, tmp_path / "bundle", ["fp32", precision])
        for variant in PRECISIONS[precision].variants:
            with opened(tmp_path / "bundle", precision, attention=variant) as encoder:
                got = encoder.embed_samples(sound(5000), layers="all").hidden
            assert (errors(got, expected) < BOUNDS[precision]).all()


def test_a_precision_that_is_not_there(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"was exported in fp32, not in int8\. Export it again .* --precision int8"):
        Encoder(bundle, provider="cpu", precision="int8")


def test_fp32_graphs_alone_do_not_let_a_provider_round_them(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounding = dataclasses.replace(PROVIDERS["cpu"], precisions={"fp32": "fp32", "bf16": "fp32"})
    monkeypatch.setitem(PROVIDERS, "cpu", rounding)
    with pytest.raises(BundleError, match=r"was exported in fp32, not in bf16\. Export it again .* --precision bf16"):
        Encoder(bundle, provider="cpu", precision="bf16")


def test_fp32_graphs_are_the_same_with_others_beside_them(several: Path, models: dict[str, Any]) -> None:
    family = read_bundle(several).model.removeprefix("tiny-")
    alone = read_bundle(models[family].bundle)
    beside = read_bundle(several)
    assert {name: beside.files[name] for name in alone.files if name.startswith("fp32/")} == {
        name: entry for name, entry in alone.files.items() if name.startswith("fp32/")
    }


def test_precisions_by_name() -> None:
    assert all_precisions([]) == ("fp32",)
    assert all_precisions(["int8", "bf16", "fp16", "fp32", "int8"]) == ("fp32", "fp16", "bf16", "int8")
    with pytest.raises(
        InputError, match=r"precision fp8 is not known; expected some of fp32, fp16, bf16, bf16x3, int16, int8\."
    ):
        all_precisions(["fp8"])
