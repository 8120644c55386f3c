from __future__ import annotations

import csv
import dataclasses
import json
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from checkpoints import SMALL
from mertric.bundle import read_bundle
from mertric.cli import cli
from mertric.diagnosis import diagnose
from mertric.errors import BundleError, ExportError, MertricError, ProviderError
from mertric.providers import PROVIDERS
from mertric.session import Session
from mertric_export import gate
from mertric_export.comparison import Comparison
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.material import Material
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mertric.encoder import Encoder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", dataclasses.replace(SMALL, intermediate_size=32))


@pytest.fixture(autouse=True)
def _short_music(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    clips: dict[str, Any] = {name: 0.1 * rng.standard_normal(20000) for name in "abc"}
    material = Material(description="noise", clips=clips, pairs=(("a", "b"), ("a", "c")))
    monkeypatch.setattr(gate, "made_up_music", lambda: material)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let only these providers work."""

    def let(*names: str) -> None:
        monkeypatch.setattr(gate, "probe", lambda provider: None if provider.name in names else "it is not here")
        monkeypatch.setattr(gate, "unable", lambda *_: None)

    return let


def spoil(monkeypatch: pytest.MonkeyPatch, provider: str, precision: str, factor: float) -> None:
    """Make the comparison see hidden states of one kind that are too large; all run on the CPU, not emulated."""
    real = gate.Encoder

    class Spoilt(real):  # type: ignore[valid-type,misc]
        def __init__(
            self, bundle: Path, *, provider: str = "cpu", precision: str = "fp32", attention: str | None = None
        ) -> None:
            computed = precision if precision in PROVIDERS["cpu"].precisions else "fp32"
            super().__init__(bundle, provider="cpu", precision=computed, attention=attention)
            self.provider, self.precision = provider, precision

        def embed_samples(self, *args: Any, **options: Any) -> Any:
            embeddings = super().embed_samples(*args, **options)
            if (self.provider, self.precision) == (provider, precision):
                embeddings.hidden[-1] *= factor
            return embeddings

    monkeypatch.setattr(gate, "Encoder", Spoilt)
    monkeypatch.setattr(gate, "WholeEncoder", Spoilt)
    monkeypatch.setattr(gate, "runnable", lambda bundle, *, provider, precision: nullcontext((bundle, precision)))


def run(source: Path, output: Path, **options: Any) -> Any:
    return export_checkpoint(source, output, provenance=Provenance(model="m"), **options)


@pytest.mark.parametrize(
    ("precision", "factor", "bound"), [("fp16", 1.004, "0.5%"), ("bf16", 1.012, "2.0%"), ("int8", 1.012, "2.0%")]
)
def test_a_precision_too_far_from_fp32_is_refused(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    only: Callable[..., None],
    precision: str,
    factor: float,
    bound: str,
) -> None:
    only("cpu")
    spoil(monkeypatch, "cpu", precision, factor)
    where = "cpu" if precision == "int8" else r"cuda \(emulated\)"
    message = (
        rf"{precision} on {where} changes mert_\w+ by \d\.\d+%, .* at most {bound}: a and [bc], of noise\. Nothing was"
    )
    with pytest.raises(ExportError, match=message + rf" written\. Export without --precision {precision}\.$"):
        run(source, tmp_path / "bundle", precisions=["fp16", "bf16", "int8"])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(("precision", "factor"), [("fp16", 1.001), ("bf16", 1.008), ("int8", 1.008)])
def test_a_precision_within_its_bound_is_written(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    only: Callable[..., None],
    precision: str,
    factor: float,
) -> None:
    only("cpu")
    spoil(monkeypatch, "cpu", precision, factor)
    bundle = run(source, tmp_path / "bundle", precisions=[precision])
    rows = bundle.parity["precisions"]
    assert [row["provider"] for row in rows] == {"fp16": ["cuda", "tensorrt"], "bf16": ["cuda"], "int8": ["cpu"]}[
        precision
    ]
    for row in rows:
        assert row["emulated"] == (precision != "int8")
        assert factor**2 - 1 - 1e-3 < row["mert_mse"] < row["bound"] == gate.BOUNDS[precision]


def test_what_is_not_a_number_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("cpu")
    spoil(monkeypatch, "cpu", "int8", np.nan)
    with pytest.raises(ExportError, match=r"int8 on cpu could not be compared with fp32 .* without --precision int8"):
        run(source, tmp_path / "bundle", precisions=["int8"])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("precision", "graphs"),
    [
        ("fp16", {"clips.onnx", "frontend.onnx", "positions.onnx", "encoder.portable.onnx"}),
        ("bf16", {"clips.onnx"}),
        ("int8", {"frontend.onnx", "positions.onnx", "encoder.fused.onnx"}),
    ],
)
def test_what_is_emulated_is_what_a_gpu_runs(
    source: Path,
    tmp_path: Path,
    only: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    graphs: set[str],
) -> None:
    only("cpu")
    ran: set[str] = set()
    run_session, comparing = Session.run, gate.compare

    def spy(self: Session, inputs: Any) -> Any:
        ran.add(self.name)
        return run_session(self, inputs)

    def compare(reference: Encoder, other: Encoder, material: Material) -> Any:
        monkeypatch.setattr(Session, "run", spy)
        for clip in material.clips.values():
            other.embed_samples(np.asarray(clip, np.float32), layers="all")
        monkeypatch.setattr(Session, "run", run_session)
        return comparing(reference, other, material)

    monkeypatch.setattr(gate, "compare", compare)
    bundle = run(
        source, tmp_path / "bundle", precisions=[precision], bounds=False
    )  # a small model does not keep to them
    assert precision in bundle.precisions
    assert ran == graphs


def test_only_fp32_needs_no_comparison(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "compare", None)
    assert run(source, tmp_path / "bundle", precisions=["fp32"]).parity["precisions"] == []


@pytest.mark.parametrize(
    ("precision", "working", "checked"),
    [
        ("fp16", ("tensorrt", "cuda", "openvino", "cpu"), ["cuda", "tensorrt"]),
        ("fp16", ("tensorrt", "cpu"), ["tensorrt"]),
        ("fp16", ("openvino", "cpu"), ["cuda (emulated)", "tensorrt (emulated)"]),
        ("bf16", ("tensorrt", "cuda", "openvino", "cpu"), ["cuda", "openvino"]),
        ("bf16", ("tensorrt", "openvino", "cpu"), ["openvino", "cuda (emulated)"]),
        ("bf16", ("cpu",), ["cuda (emulated)"]),
        ("bf16", ("amx", "openvino", "cpu"), ["amx", "openvino", "cuda (emulated)"]),
        ("bf16x3", ("amx", "openvino", "cpu"), ["amx"]),
        ("int16", ("avx512", "openvino", "cpu"), ["avx512"]),
        ("bf16x3", ("cpu",), []),
        ("int8", ("openvino", "cpu"), ["openvino", "cpu"]),
        ("int8", ("cuda", "cpu"), ["cpu"]),
    ],
)
def test_where_a_precision_is_checked(
    only: Callable[..., None], precision: str, working: tuple[str, ...], checked: list[str]
) -> None:
    """On every provider that computes in it; its graphs emulated on the CPU where none runs them."""
    only(*working)
    assert [str(side) for side in gate._sides(["fp32", precision], others=False)] == [
        f"{precision} on {name}" for name in checked
    ]


def test_a_precision_that_a_provider_would_emulate_is_not_checked_there(
    monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("amx", "openvino", "cpu")
    monkeypatch.setattr(gate, "unable", lambda provider, precision: "no" if provider.name == "openvino" else None)
    assert [str(side) for side in gate._sides(["bf16"], others=False)] == ["bf16 on amx", "bf16 on cuda (emulated)"]


def test_every_provider_is_compared_in_fp32_with_material(only: Callable[..., None]) -> None:
    only("cuda", "amx", "openvino", "cpu")
    others = [("cuda", "fp32", False), ("amx", "fp32", False), ("openvino", "fp32", False)]
    assert gate._sides(["fp32"], others=True) == others
    lower = [("cuda", "fp16", False), ("openvino", "int8", False), ("cpu", "int8", False)]
    assert gate._sides(["fp32", "fp16", "int8"], others=True) == [*lower, *others]
    only("cpu")
    assert gate._sides(["fp32", "bf16"], others=True) == [("cuda", "bf16", True)]


def test_a_precision_that_has_no_graphs_of_its_own(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    """It is held to its bound, and what is computed are the graphs in fp32."""
    only("amx", "cpu")
    monkeypatch.setattr(gate, "unsuited", lambda _: None)
    spoil(monkeypatch, "amx", "bf16x3", 1.0002)
    bundle = run(source, tmp_path / "bundle", precisions=["bf16x3"])
    assert bundle.precisions == ("fp32", "bf16x3")
    assert {name.split("/")[0] for name in bundle.files} == {"fp32", "fold.npz"}
    (row,) = bundle.parity["precisions"]
    assert (row["provider"], row["precision"], row["problem"]) == ("amx", "bf16x3", None)
    spoil(monkeypatch, "amx", "bf16x3", 1.004)
    with pytest.raises(ExportError, match=r"bf16x3 on amx changes mert_\w+ by .* at most 0\.1%"):
        run(source, tmp_path / "other", precisions=["bf16x3"])


@pytest.mark.parametrize("working", [("amx", "cpu"), ("cpu",)])
def test_a_precision_that_nothing_here_computes(
    source: Path, tmp_path: Path, only: Callable[..., None], working: tuple[str, ...]
) -> None:
    """For want of a processor, or as the model is not for it, and nobody emulates it."""
    only(*working)
    why = r"m has .*, and amx and avx512 compute .*" if "amx" in working else r"m has .*|it is not here"
    with pytest.raises(ExportError, match=rf"bf16x3 on amx could not be compared with fp32 \(({why})\)\. Nothing was"):
        run(source, tmp_path / "bundle", precisions=["fp16", "bf16x3"])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_providers_fp32_is_only_noted(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("openvino", "cpu")
    spoil(monkeypatch, "openvino", "fp32", 1.1)
    bundle = run(source, tmp_path / "bundle", material=gate.made_up_music())
    (row,) = bundle.parity["precisions"]
    assert re.match(r"fp32 on openvino changes mert_\w+ by 21\.", row["problem"])
    assert bundle.refused == {}


def test_what_a_provider_makes_of_fp32_graphs_is_held_to_the_bound(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("openvino", "cpu")
    spoil(monkeypatch, "openvino", "bf16", 1.008)
    own, graphs = run(source, tmp_path / "bundle", precisions=["bf16"]).parity["precisions"]
    assert (own["provider"], own["emulated"]) == ("openvino", False)
    assert (graphs["provider"], graphs["emulated"]) == ("cuda", True)
    spoil(monkeypatch, "openvino", "bf16", 1.1)
    bundle = run(source, tmp_path / "bundle", precisions=["bf16"], force=True)
    assert list(bundle.refused["bf16"]) == ["openvino"]
    assert re.match(r"bf16 on openvino changes mert_\w+ by 2\d\.", bundle.refused["bf16"]["openvino"])
    assert "bf16/clips.onnx" in bundle.files
    bundle.require("bf16", "cuda")
    with pytest.raises(BundleError, match=r"must not be computed in bf16 on openvino: .* changes mert_\w+ by"):
        bundle.require("bf16", "openvino")


def test_a_model_that_is_not_for_tiles_is_not_compared_there(
    source: Path, tmp_path: Path, only: Callable[..., None]
) -> None:
    only("amx", "cpu")
    bundle = run(source, tmp_path / "bundle", precisions=["bf16"], bounds=False)
    assert [(row["provider"], row["emulated"]) for row in bundle.parity["precisions"]] == [("cuda", True)]


def test_graphs_that_only_refused_providers_run_are_not_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("openvino", "cpu")
    spoil(monkeypatch, "cpu", "bf16", 1.1)
    bundle = run(source, tmp_path / "bundle", precisions=["bf16", "int8"])
    assert list(bundle.refused) == ["bf16"]
    assert list(bundle.refused["bf16"]) == ["cuda"]
    assert bundle.precisions == ("fp32", "bf16", "int8")
    assert {path.name for path in bundle.path.iterdir()} == {"bundle.json", "fold.npz", "fp32", "int8"}
    assert not any(name.startswith("bf16") for name in bundle.files)
    for precision in ("fp32", "int8"):
        bundle.check_files(precision)
    bundle.require("bf16", "openvino")
    with pytest.raises(BundleError, match=r"in bf16 on cuda: bf16 on cuda \(emulated\) changes .* with --verify and"):
        bundle.require("bf16", "cuda")


def test_a_provider_that_fails_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("cuda", "cpu")

    def fail(bundle: Path, *, provider: str, precision: str = "fp32") -> Any:
        if provider == "cuda":
            raise ProviderError("no memory")
        return real(bundle, provider=provider, precision=precision)

    real = gate.Encoder
    monkeypatch.setattr(gate, "Encoder", fail)
    steps: list[str] = []
    bundle = run(source, tmp_path / "bundle", material=gate.made_up_music(), notify=steps.append)
    (row,) = bundle.parity["precisions"]
    assert steps[-1] == row["problem"] == "fp32 on cuda could not be compared with fp32 (no memory)"
    assert row["mert_mse"] is None
    assert bundle.refused == {}
    with pytest.raises(ExportError, match=r"fp16 on cuda could not be compared with fp32 \(no memory\)\. Nothing was"):
        run(source, tmp_path / "bundle", precisions=["fp16"], force=True)


@pytest.mark.parametrize("metric", ["mert_mse", "mert_fad"])
@pytest.mark.parametrize("value", [0.03, np.inf, np.nan])
def test_each_metric_counts(metric: str, value: float) -> None:
    found = Comparison(
        pairs=1,
        material="noise",
        max_error_over_rms=0,
        relative_error=0,
        mert_mse=0.02,
        mert_fad=0.01,
        worst_pair="a and b",
    )
    side = gate.Side("cpu", "int8")
    assert gate._excess(side, found) is None
    assert f"changes {metric} by" in str(gate._excess(side, dataclasses.replace(found, **{metric: value})))


def test_pairs_that_do_not_differ_show_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("cpu")
    spoil(monkeypatch, "cpu", "int8", 1.3)
    music = gate.made_up_music()
    same = dataclasses.replace(music, pairs=(("a", "a"),))
    with pytest.raises(ExportError, match=r"int8 on cpu could not be compared with fp32 \(no pair of noise differs"):
        run(source, tmp_path / "bundle", precisions=["int8"], material=same)


def invoke(*arguments: object) -> tuple[int, str]:
    """Exit code and message of `mertric export`, as `main` gives them."""
    result = CliRunner().invoke(cli, ["export", *map(str, arguments)])
    if isinstance(result.exception, MertricError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_command(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    only: Callable[..., None],
    write_wav: Callable[..., Path],
    sound: Callable[..., Any],
) -> None:
    only("openvino", "cpu")
    spoil(monkeypatch, "openvino", "fp32", 1.1)
    for index in (1, 2):
        write_wav(f"r/fileid_{index}.wav", sound(9000, index))
        write_wav(f"e/fileid_{index}.wav", sound(9000, index + 2))
    files = ["--csv", tmp_path / "t.csv", "--json", tmp_path / "t.json"]
    options = ["--precision", "int8", "--precision", "fp16", "--verify", tmp_path / "r", tmp_path / "e"]
    code, output = invoke(source, "-o", tmp_path / "bundle", *options, *files)
    assert code == 0, output
    assert "comparing precisions with fp32" in output
    assert "fp32 on openvino changes mert_" in output
    assert "Do not use it where that matters." in output
    assert "It is refused there." not in output
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.precisions == ("fp32", "fp16", "int8")
    rows = bundle.parity["precisions"]
    assert json.loads((tmp_path / "t.json").read_text()) == rows
    with (tmp_path / "t.csv").open() as file:
        assert [row["precision"] for row in csv.DictReader(file)] == ["fp16", "fp16", "int8", "int8", "fp32"]
    assert {row["material"] for row in rows} == {f"{tmp_path / 'r'} against {tmp_path / 'e'}"}
    assert all(f"{row['mert_mse']:.4g}" in output for row in rows)


@pytest.mark.parametrize(
    ("spoiling", "message"),
    [
        (lambda r, e: (r / "a.wav").unlink(), "no audio files"),
        (lambda r, e: (e / "a.wav").rename(e / "b.wav"), "has no partner in"),
        (lambda r, e: (e / "a.wav").write_bytes(b"nothing"), "a.wav"),
    ],
)
def test_audio_to_verify_with_is_checked_first(
    source: Path,
    tmp_path: Path,
    write_wav: Callable[..., Path],
    sound: Callable[..., Any],
    spoiling: Callable[[Path, Path], object],
    message: str,
) -> None:
    for name in "re":
        write_wav(f"{name}/a.wav", sound(9000))
    spoiling(tmp_path / "r", tmp_path / "e")
    (source / "model.safetensors").unlink()  # would be missed next
    code, output = invoke(source, "-o", tmp_path / "bundle", "--verify", tmp_path / "r", tmp_path / "e")
    assert code == 2
    assert message in output


def test_options_that_do_not_go_together(source: Path, tmp_path: Path) -> None:
    place = (source, "-o", tmp_path / "bundle")
    code, output = invoke(*place, "--precision", "fp8")
    assert code == 2
    assert "'fp8' is not one of 'fp32', 'fp16', 'bf16', 'bf16x3', 'int16', 'int8'" in output
    code, output = invoke(*place, "--csv", tmp_path / "t.csv", "--precision", "fp32")
    assert code == 2
    assert "--csv and --json are for what --precision and --verify compare" in output
    code, output = invoke(*place, "--tracer", "optimum", "--precision", "fp16")
    assert code == 2
    assert "a traced model is no bundle" in output


def test_the_doctor_lists_precisions(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    monkeypatch.setenv("MERTRIC_CACHE", str(tmp_path / "cache"))
    only("openvino", "cpu")
    spoil(monkeypatch, "cpu", "int8", 1.1)
    run(source, tmp_path / "cache" / "models" / "someone" / "model", precisions=["int8"])
    (row,) = (row for row in diagnose() if row["kind"] == "bundle")
    assert "2 layers of 16, fp32, int8 (not on cpu), license unknown" in str(row["detail"])
