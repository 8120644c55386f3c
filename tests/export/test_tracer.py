from __future__ import annotations

import dataclasses
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from checkpoints import GOLDEN, SMALL
from mertric.bundle import read_bundle
from mertric.cli.export import command
from mertric.encoder import Encoder
from mertric.errors import BundleError, DependencyError, ExportError, InputError
from mertric_export import hubert, tracer
from mertric_export.checkpoint import read_checkpoint
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.hubert import account, check_transformers, installed
from mertric_export.reference import hidden_states
from mertric_export.synthetic import write_checkpoint
from mertric_export.tracer import INPUT, MANIFEST, MODEL, compare, normalize, open_traced, state_names, trace_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VERSIONS = {"torch": "2.13.0", "transformers": "4.57.6", "optimum": "2.1.0", "optimum-onnx": "0.1.0", "onnx": "1.19"}
TINY = Provenance(model="tiny", license="none", trained=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "small", SMALL, seed=1)


class FakeSession:
    """Runs the float64 reference on what was normalised, in place of a traced graph, off by `error`."""

    error = 0.0
    checkpoint: Any = None

    def __init__(self, model: Path) -> None:
        assert model.name == MODEL

    def run(self, outputs: list[str], inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        states = [hidden_states(self.checkpoint, clip) for clip in inputs[INPUT]]
        batch = np.stack(states, axis=1)
        assert outputs == [f"hidden_states.{layer}" for layer in range(len(batch))]
        batch[1, -1, 0, 0] += self.error * np.sqrt(np.square(batch[1]).mean())
        return list(batch.astype(np.float32))


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, directory: Path) -> type[FakeSession]:
    """Every package of the tracer present in name, and a trace that is the reference itself."""

    class Session(FakeSession):
        checkpoint = read_checkpoint(directory)

    versions = VERSIONS | {"mertric": "0"}
    monkeypatch.setattr(hubert, "version", lambda name: versions[name])
    monkeypatch.setattr(tracer, "open_traced", Session)
    monkeypatch.setattr(tracer, "_trace", lambda _, path: path.write_bytes(b"graph"))
    return Session


@pytest.mark.usefixtures("faked")
def test_a_directory_with_a_model_and_what_it_is(directory: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    traced = trace_checkpoint(directory, tmp_path / "out" / "traced", provenance=TINY, notify=steps.append)
    assert {file.name for file in traced.path.iterdir()} == {MODEL, MANIFEST}
    assert len(list((tmp_path / "out").iterdir())) == 1
    manifest = json.loads((traced.path / MANIFEST).read_text())
    assert manifest["made_with"] == VERSIONS | {"mertric": "0"}
    assert (manifest["model"], manifest["license"], manifest["trained"]) == ("tiny", "none", False)
    assert (manifest["layers"], manifest["dim"], manifest["sample_rate"]) == (2, 16, 24000)
    assert manifest["files"][MODEL]["bytes"] == 5
    assert manifest["parity"] == traced.parity
    assert traced.parity.keys() == {"batch_1", "batch_2"}
    assert max(traced.parity.values()) < 1e-5
    assert len(steps) == 3
    with pytest.raises(BundleError, match=r"traced.*expected a bundle as `mertric export` writes it"):
        read_bundle(traced.path)


@pytest.mark.parametrize("error", [2e-4, np.nan, np.inf])
def test_a_trace_that_differs_is_not_written(
    faked: type[FakeSession], directory: Path, tmp_path: Path, error: float
) -> None:
    faked.error = error
    with pytest.raises(ExportError, match=r"hidden_states\.1 by .* in a batch of 1, expected at most 1e-04.*torch 2"):
        trace_checkpoint(directory, tmp_path / "traced", provenance=TINY)
    assert [file.name for file in tmp_path.iterdir()] == ["small"]


@pytest.mark.usefixtures("faked")
def test_only_a_traced_model_is_replaced(directory: Path, tmp_path: Path) -> None:
    output = tmp_path / "traced"
    output.mkdir()
    trace_checkpoint(directory, output, provenance=TINY)
    with pytest.raises(ExportError, match=r"exists already.*--force"):
        trace_checkpoint(directory, output, provenance=TINY)
    trace_checkpoint(directory, output, provenance=dataclasses.replace(TINY, model="new"), force=True)
    assert json.loads((output / MANIFEST).read_text())["model"] == "new"
    for taken in (directory, directory / "config.json"):
        with pytest.raises(ExportError, match=r"holds no traced\.json, so no export wrote it"):
            trace_checkpoint(directory, taken, provenance=TINY, force=True)


@pytest.mark.parametrize("absent", list(VERSIONS))
def test_an_absent_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, directory: Path, tmp_path: Path, absent: str
) -> None:
    def version(name: str) -> str:
        if name == absent:
            raise hubert.PackageNotFoundError(name)
        return (VERSIONS | {"mertric": "0"})[name]

    monkeypatch.setattr(hubert, "version", version)
    with pytest.raises(DependencyError, match=rf'needs {absent}, .*pip install "mertric\[optimum\]"'):
        trace_checkpoint(directory, tmp_path / "traced", provenance=TINY)


def test_a_package_that_does_not_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum", None)
    with pytest.raises(DependencyError, match=r'optimum\.exporters\.onnx, .*pip install "mertric\[optimum\]"'):
        hubert.require("optimum.exporters.onnx")
    assert installed("numpy") == np.__version__


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        ("4.44.2", "otherwise there"),
        ("4.56.0", "otherwise there"),
        ("5.0.0rc1", "no hidden states there"),
        ("5.3.0", "no hidden states there"),
        ("main", "otherwise there"),
    ],
)
def test_releases_of_transformers_that_break_are_refused(release: str, reason: str) -> None:
    with pytest.raises(
        DependencyError, match=rf'transformers {release} is installed; expected 4\.57.*{reason}.*"mertric\[optimum\]"'
    ):
        check_transformers(release)


@pytest.mark.parametrize("release", ["4.57.0", "4.57.6", "4.58.0.dev0"])
def test_other_releases_are_taken(release: str) -> None:
    check_transformers(release)


def test_every_tensor_has_its_place_both_ways() -> None:
    shapes = {"a": (2, 3), "b": (4,)}
    account(shapes, dict(shapes))
    with pytest.raises(
        ExportError,
        match=r"in 3 tensors: a: \[2, 3\] in the model, \[3, 2\] in the checkpoint; "
        r"b: \[4\] in the model, absent in the checkpoint; c: absent in the model, \[1\]",
    ):
        account(shapes, {"a": (3, 2), "c": (1,)})


def test_normalised_like_the_feature_extractor() -> None:
    clip = (3 + np.sin(np.arange(5000))).astype(np.float32)
    once = normalize(clip)
    assert once.dtype == np.float32
    assert abs(once.mean(dtype=np.float64)) < 1e-6
    assert once.var(dtype=np.float64) == pytest.approx(1 / (1 + 1e-7 / clip.var(dtype=np.float64)), rel=1e-6)
    assert not normalize(np.zeros(5, np.float32)).any()


class TestCommand:
    @pytest.mark.usefixtures("faked")
    def test_traces(self, directory: Path, tmp_path: Path) -> None:
        arguments = [str(directory), "--tracer", "optimum", "-o", str(tmp_path / "traced")]
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        assert "small, traced with optimum, license unknown" in result.output
        assert "not a bundle" in result.output

    @pytest.mark.usefixtures("faked")
    def test_a_hub_id_keeps_its_revision_and_license(
        self, monkeypatch: pytest.MonkeyPatch, directory: Path, tmp_path: Path
    ) -> None:
        fetched = SimpleNamespace(directory=directory, weights=None, revision="abc", license="CC-BY-NC-4.0")
        monkeypatch.setattr(tracer, "fetch", lambda *_, **__: fetched)
        arguments = ["m-a-p/MERT-v1-95M", "--tracer", "optimum", "-o", str(tmp_path / "traced")]
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert "license CC-BY-NC-4.0" in result.output
        manifest = json.loads((tmp_path / "traced" / MANIFEST).read_text())
        assert (manifest["model"], manifest["revision"]) == ("m-a-p/MERT-v1-95M", "abc")

    @pytest.mark.parametrize(
        ("options", "message"),
        [([], "say with -o where the traced model goes"), (["-o", "x", "--revision", "1"], "--revision is for hub")],
    )
    def test_refuses(self, directory: Path, options: list[str], message: str) -> None:
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(command, [str(directory), "--tracer", "optimum", *options], catch_exceptions=False)


def relative(state: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(state - other).max() / np.sqrt(np.square(other, dtype=np.float64).mean()))


@pytest.mark.oracle
class TestOptimum:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("optimum.exporters.onnx")

    @pytest.mark.parametrize("stable", [False, True])
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"conv_bias": True, "feat_extract_norm": "layer"},
            {"feat_proj_layer_norm": False, "layer_norm_eps": 1e-3},
        ],
    )
    def test_the_bundle_equals_the_trace(self, tmp_path: Path, stable: bool, changes: dict[str, Any]) -> None:
        config = dataclasses.replace(SMALL, do_stable_layer_norm=stable, **changes)
        self.hold(write_checkpoint(tmp_path / "checkpoint", config, seed=7), tmp_path)

    @pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not here")
    @pytest.mark.parametrize("name", ["tiny-mert-95m", "tiny-mert-330m"])
    def test_of_checkpoints_that_pytorch_wrote(self, tmp_path: Path, name: str) -> None:
        self.hold(GOLDEN / name, tmp_path)

    def hold(self, directory: Path, tmp_path: Path) -> None:
        """Trace and export a checkpoint, and compare all hidden states of one clip and of two in a batch."""
        traced = trace_checkpoint(directory, tmp_path / "traced", provenance=TINY)
        bundle = export_checkpoint(directory, tmp_path / "bundle", provenance=TINY)
        names = state_names(bundle.layers)
        session = open_traced(traced.path / MODEL)
        rng = np.random.default_rng(2)
        batches = [0.1 * rng.standard_normal(shape) + 0.02 for shape in ((1, 20000), (2, 7321))]
        for attention in ("fused", "portable", "pointwise"):
            encoder = Encoder(bundle.path, provider="cpu", threads=1, attention=attention)
            for clips in (batch.astype(np.float32) for batch in batches):
                traces = session.run(names, {INPUT: np.stack([normalize(clip) for clip in clips])})
                for index, clip in enumerate(clips):
                    states = encoder.embed_samples(clip, layers="all").hidden
                    for state, trace in zip(states, traces, strict=True):
                        assert relative(state, trace[index]) < 3e-5

    def test_a_changed_weight_shows(self, tmp_path: Path) -> None:
        directory = write_checkpoint(tmp_path / "checkpoint", SMALL)
        traced = trace_checkpoint(directory, tmp_path / "traced", provenance=TINY)
        checkpoint = read_checkpoint(directory)
        name = "encoder.pos_conv_embed.conv.weight"
        tensors = {**checkpoint.tensors, name: np.roll(checkpoint.tensors[name], 1)}
        with pytest.raises(ExportError, match="differs from its checkpoint"):
            compare(dataclasses.replace(checkpoint, tensors=tensors), traced.path / MODEL)


def test_a_hub_id_is_traced_at_the_revision_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fetch(model: str, **options: Any) -> Any:
        asked.update(options, model=model)
        return SimpleNamespace(directory=tmp_path, weights="w", revision="c" * 40, license="MIT")

    monkeypatch.setattr(tracer, "made_with", dict)
    monkeypatch.setattr(tracer, "fetch", fetch)
    monkeypatch.setattr(tracer, "trace_checkpoint", lambda *_, **options: options)
    for revision in ("v2", None):
        found: Any = tracer.trace_model("someone/model", tmp_path / "out", revision=revision)
        assert (asked["model"], asked["revision"]) == ("someone/model", revision)
        assert (found["weights"], found["force"]) == ("w", False)
        assert found["provenance"] == Provenance(model="someone/model", revision="c" * 40, license="MIT")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other").touch()
    asked.clear()
    with pytest.raises(ExportError, match="exists already"):
        tracer.trace_model("someone/model", tmp_path / "out")
    assert not asked  # nothing is fetched for a place that is taken
