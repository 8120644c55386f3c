from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from checkpoints import SMALL, calling, edit_json, load, save, torch_file
from checkpoints import TorchFile as HostileFile
from mertric.bundle import read_bundle
from mertric.cli import cli
from mertric.encoder import Encoder
from mertric.errors import CheckpointError, ConfigurationError, ExportError, MertricError
from mertric_export import export, releases
from mertric_export.checkpoint import read_checkpoint
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.output import new_directory
from mertric_export.reference import hidden_states
from mertric_export.releases import Release
from mertric_export.synthetic import write_checkpoint
from mertric_export.transformer import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROVENANCE = Provenance(model="m")
QUERY = "encoder.layers.1.attention.q_proj.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", SMALL)


def run(source: Path, output: Path, **options: Any) -> Any:
    return export_checkpoint(source, output, provenance=PROVENANCE, **options)


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conv_bias": True},
        {"feat_proj_layer_norm": False, "num_conv_pos_embeddings": 9},
        {"conv_dim": (4, 6), "conv_kernel": (7, 3), "conv_stride": (40, 2), "sample_rate": 16000, "conv_bias": True},
    ],
)
def test_every_family(
    tmp_path: Path, sound: Callable[..., Any], stable: bool, norm: str, changes: dict[str, Any]
) -> None:
    config = dataclasses.replace(SMALL, do_stable_layer_norm=stable, feat_extract_norm=norm, **changes)  # type: ignore[arg-type]
    source = write_checkpoint(tmp_path / "source", config, seed=2)
    bundle = run(source, tmp_path / "bundle")
    assert (bundle.sample_rate, bundle.hop, bundle.receptive_field) == (
        config.sample_rate,
        config.hop,
        config.receptive_field,
    )
    samples = sound(5000) + np.float32(0.2)
    expected = hidden_states(read_checkpoint(source), samples)
    for attention in ("fused", "portable", "pointwise"):
        got = Encoder(bundle.path, attention=attention, chunk=5).embed_samples(samples, layers="all").hidden
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5 * np.sqrt(np.mean(other**2)))


def test_what_is_written(source: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    provenance = Provenance(model="someone/model", revision="abc", license="CC-BY-NC-4.0", trained=True)
    bundle = export_checkpoint(source, tmp_path / "deep" / "bundle", provenance=provenance, notify=steps.append)
    check = "checking against a float64 forward pass"
    assert steps == ["reading the checkpoint", "measuring means", "writing graphs and weights", check]
    fronts = {"frontend.onnx", "frontend.portable.onnx"}
    graphs = fronts | {"positions.onnx", "clips.onnx", *(f"encoder.{variant}.onnx" for variant in VARIANTS)}
    assert {path.name for path in bundle.path.iterdir()} == {"bundle.json", "fold.npz", "fp32"}
    assert {path.name for path in (bundle.path / "fp32").iterdir()} == graphs | {"weights.bin"}
    assert bundle.files.keys() == {f"fp32/{name}" for name in graphs | {"weights.bin"}} | {"fold.npz"}
    assert (bundle.model, bundle.revision, bundle.license) == ("someone/model", "abc", "CC-BY-NC-4.0")
    assert bundle.weights_sha256 == read_checkpoint(source).sha256
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    assert manifest["created_by"].startswith("mertric ")
    assert manifest["format"] == 6
    assert os.access(bundle.path, os.R_OK | os.X_OK)
    assert bundle.path.stat().st_mode & 0o055 == 0o055


def test_graphs_are_clean_and_share_one_file(models: dict[str, Any]) -> None:
    stored: dict[str, Any] = {}
    for model in models.values():
        for path in model.bundle.glob("fp32/*.onnx"):
            onnx.checker.check_model(path, full_check=True)
            graph = onnx.load(path, load_external_data=False)
            assert path.stat().st_size < 100_000
            for tensor in graph.graph.initializer:
                place = {entry.key: entry.value for entry in tensor.external_data}
                if not place:
                    assert tensor.data_type == onnx.TensorProto.INT64
                    continue
                assert place["location"] == "weights.bin"
                assert stored.setdefault(f"{model.bundle}{tensor.name}", place) == place
        size = (model.bundle / "fp32" / "weights.bin").stat().st_size
        assert size < 1.3 * (model.checkpoint / "model.safetensors").stat().st_size


def test_the_same_checkpoint_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    one, other = run(source, tmp_path / "one"), run(source, tmp_path / "other")
    graphs = [name for name in one.files if name != "fold.npz"]
    assert [one.files[name] for name in graphs] == [other.files[name] for name in graphs]


@pytest.mark.parametrize("kind", ["torch", "shards"])
def test_other_files_give_the_same_numbers(source: Path, tmp_path: Path, kind: str, sound: Callable[..., Any]) -> None:
    expected = Encoder(run(source, tmp_path / "one").path).embed_samples(sound()).hidden
    tensors = load(source)
    (source / "model.safetensors").unlink()
    if kind == "torch":
        torch_file(tensors).write(source / "pytorch_model.bin")
    else:
        names = list(tensors)
        for index, part in enumerate((names[::2], names[1::2])):
            save(source, {name: tensors[name] for name in part}, f"model-{index}.safetensors")
        weight_map = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(names)}
        (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    np.testing.assert_array_equal(Encoder(run(source, tmp_path / "two").path).embed_samples(sound()).hidden, expected)


def test_a_taken_place_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    for name in ("file", "full"):
        with pytest.raises(ExportError, match=rf"{name} exists already\. Choose another place .* --force"):
            run(source, tmp_path / name)
        with pytest.raises(ExportError, match=rf"{name} holds no bundle\.json, so no export wrote it, and --force"):
            run(source, tmp_path / name, force=True)
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "thesis.tex").read_text() == "mine"


def test_a_bundle_is_replaced_only_by_force(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "bundle")
    before = read_bundle(tmp_path / "bundle")
    write_checkpoint(source, SMALL, seed=1)
    with pytest.raises(ExportError, match="exists already"):
        run(source, tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle") == before
    after = run(source, tmp_path / "bundle", force=True)
    assert after.weights_sha256 != before.weights_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_an_empty_folder_is_taken(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(source, tmp_path / "empty").path == tmp_path / "empty"


def test_the_current_folder_is_taken(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(source, ".").path == tmp_path / "here"  # type: ignore[arg-type]
    assert read_bundle(tmp_path / "here").model == "m"


@pytest.mark.parametrize("step", ["_write_graphs", "_write_fold", "write_manifest", "verify"])
@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_things_as_they_were(
    source: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, force: bool
) -> None:
    if force:
        shutil.copytree(bundle, tmp_path / "bundle")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, step, fail)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "bundle", force=force)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"][not force :]
    if force:
        read_bundle(tmp_path / "bundle").check_files("fp32")
        assert read_bundle(tmp_path / "bundle").files == read_bundle(bundle).files


def invoke(*arguments: object) -> tuple[int, str]:
    """Exit code and message of `mertric export`, as `main` gives them."""
    result = CliRunner().invoke(cli, ["export", *map(str, arguments)])
    if isinstance(result.exception, MertricError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("name", ["nowhere", "/no/where", "a/file.wav"])
def test_a_source_that_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file is not looked for on the hub, even where its path could be a hub id."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file.wav").touch()
    code, message = invoke(name, "-o", tmp_path / "bundle")
    assert code == 2
    assert message.startswith(f"{name} is neither a checkpoint's directory nor a hub id such as m-a-p/")


def without_one(directory: Path) -> None:
    tensors = load(directory)
    del tensors[QUERY]
    save(directory, tensors)


def with_one_more(directory: Path) -> None:
    save(directory, load(directory) | {"encoder.surprise": np.zeros(3, np.float32)})


def with_one_reshaped(directory: Path) -> None:
    tensors = load(directory)
    save(directory, tensors | {QUERY: tensors[QUERY].reshape(8, 32)})


def hostile(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    HostileFile(description=calling("os", "system", "touch owned")).write(directory / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (without_one, [QUERY, "missing"]),
        (with_one_more, ["encoder.surprise"]),
        (with_one_reshaped, [QUERY, "[8, 32]"]),
        (hostile, ["os.system"]),
        (lambda directory: (directory / "model.safetensors").unlink(), ["holds no weights"]),
        (lambda directory: (directory / "config.json").unlink(), ["config.json"]),
        (lambda directory: edit_json(directory / "config.json", feature_extractor_cqt=True), ["feature_extractor_cqt"]),
        (lambda directory: edit_json(directory / "config.json", hidden_act="relu"), ["hidden_act"]),
        (lambda directory: edit_json(directory / "config.json", add_adapter=True), ["add_adapter"]),
    ],
)
def test_a_spoilt_checkpoint_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(source)
    code, message = invoke(source, "-o", "bundle")
    assert code == 2
    assert all(part in message for part in parts), message
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    with pytest.raises((CheckpointError, ConfigurationError)):
        run(source, tmp_path / "bundle")


def test_the_command(source: Path, tmp_path: Path) -> None:
    code, output = invoke(source, "-o", tmp_path / "bundle")
    assert code == 0
    assert "checking against a float64 forward pass" in output
    assert f"{tmp_path / 'bundle'}: source, 2 layers of 16 dimensions, license unknown; hidden states within" in output
    assert "of their root mean square" in output
    code, message = invoke(source, "-o", tmp_path / "bundle")
    assert code == 2
    assert "exists already" in message
    assert invoke(source, "-o", tmp_path / "bundle", "--force")[0] == 0


def test_a_directory_needs_a_place_and_no_revision(source: Path, tmp_path: Path) -> None:
    assert invoke(source) == (2, "say with -o where the bundle goes.")
    code, message = invoke(source, "-o", tmp_path / "bundle", "--revision", "main")
    assert code == 2
    assert "is a directory; --revision is for hub ids" in message


def test_a_damaged_bundle_is_mended_by_force(source: Path, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "bundle.json").write_text("{")
    run(source, tmp_path / "bundle", force=True).check_files("fp32")


def test_where_a_link_points_to_is_replaced(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    other = write_checkpoint(tmp_path / "other", SMALL, seed=5)
    bundle = run(other, tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert read_bundle(tmp_path / "real").weights_sha256 == bundle.weights_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "other", "real", "source"]


def test_a_link_to_itself_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ExportError, match="loop cannot be written"):
        run(source, tmp_path / "loop")


def test_of_two_exports_to_one_place_the_second_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found the place free when it began."""
    verify, ran = export.verify, []

    def slow(*arguments: Any) -> Any:
        if not ran:
            ran.append(True)
            run(source, tmp_path / "bundle")
        return verify(*arguments)

    monkeypatch.setattr(export, "verify", slow)
    with pytest.raises(ExportError, match="exists already"):
        run(write_checkpoint(tmp_path / "other", SMALL, seed=5), tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle").weights_sha256 == read_checkpoint(source).sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "other", "source"]


def test_an_interrupt_between_two_renames_leaves_the_earlier_bundle(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(source, tmp_path / "bundle")
    replace, calls = pathlib.Path.replace, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(pathlib.Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "bundle", force=True)
    assert read_bundle(tmp_path / "bundle") == first


def test_a_feed_forward_narrower_than_its_slices(tmp_path: Path) -> None:
    narrow = dataclasses.replace(SMALL, intermediate_size=3)
    assert run(write_checkpoint(tmp_path / "source", narrow), tmp_path / "bundle").layers == 2


def test_frames_that_see_more_than_the_usual_check_clip(tmp_path: Path) -> None:
    wide = dataclasses.replace(SMALL, sample_rate=1000)
    bundle = run(write_checkpoint(tmp_path / "source", wide), tmp_path / "bundle")
    assert bundle.receptive_field > 0.2 * bundle.sample_rate


def test_a_release_from_a_directory_keeps_its_license(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Release(revision="r", license="of the release", sha256=read_checkpoint(source).sha256)
    monkeypatch.setitem(releases.RELEASES, "someone/model", release)
    for given, kept in (("unknown", "of the release"), ("own", "own")):
        provenance = Provenance(model="folder", license=given)
        bundle = export_checkpoint(source, tmp_path / given, provenance=provenance)
        assert (bundle.license, bundle.model) == (kept, "folder")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_bundle_may_be_read_and_replaced_by_whom_the_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with new_directory(tmp_path / "b", manifest="m", force=False) as directory:
            (directory / "m").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o775
