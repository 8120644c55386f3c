from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mertric.bundle import (
    CLIPS,
    FOLD,
    FRONTEND,
    PORTABLE_FRONTEND,
    POSITIONS,
    WEIGHTS,
    Bundle,
    encoder_graph,
    manifest_digest,
    read_bundle,
    sha256,
)
from mertric.encoder import Encoder
from mertric.errors import BundleError
from mertric_export.transformer import VARIANTS

GRAPHS = [CLIPS, FRONTEND, PORTABLE_FRONTEND, POSITIONS, *(encoder_graph(variant) for variant in VARIANTS)]
FILES = sorted([*(f"fp32/{name}" for name in (*GRAPHS, WEIGHTS)), FOLD])


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


def damage(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def edit(path: Path, **changes: object) -> None:
    """Change a manifest, `...` removing a field, and make its digest agree."""
    fields = json.loads((path / "bundle.json").read_text()) | changes
    fields = {name: value for name, value in fields.items() if value is not ...}
    (path / "bundle.json").write_text(json.dumps(fields | {"sha256": manifest_digest(fields)}))


def test_what_a_manifest_says(bundle: Path) -> None:
    read = read_bundle(str(bundle))
    assert (read.model, read.license, read.trained, read.revision) == ("tiny-95m", "none", False, None)
    assert (read.sample_rate, read.hop, read.receptive_field, read.rows_per_frame) == (24000, 320, 400, 64)
    assert (read.layers, read.dim, read.precisions) == (4, 64, ("fp32",))
    assert len(read.weights_sha256) == 64
    assert sorted(read.files) == FILES
    for name, recorded in read.files.items():
        assert recorded == {"bytes": (bundle / name).stat().st_size, "sha256": sha256(bundle / name)}
    assert set(read.parity["max_error_over_rms"]) == {*VARIANTS, "clips"}
    assert all(0 < error < 1e-5 for error in read.parity["max_error_over_rms"].values())
    read.check_files("fp32")


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (120000, 374), (24000, 74)]
)
def test_frames(bundle: Path, samples: int, frames: int) -> None:
    assert read_bundle(bundle).frames(samples) == frames


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_damaged_byte_is_found(copy: Path, name: str, place: str) -> None:
    size = (copy / name).stat().st_size
    damage(copy / name, {"first": 0, "middle": size // 2, "last": size - 1}[place])
    for check in (Encoder, lambda path: read_bundle(path).check_files("fp32")):
        with pytest.raises(BundleError, match=rf"{name} is damaged: its SHA-256 is .*Export the bundle again"):
            check(copy)


def test_a_damaged_byte_of_the_manifest_is_found_or_harmless(copy: Path) -> None:
    manifest = copy / "bundle.json"
    sound, whole = manifest.read_bytes(), read_bundle(copy)
    found = 0
    for at in range(0, len(sound), 7):
        damage(manifest, at)
        try:
            assert read_bundle(copy) == whole
        except BundleError as error:
            found += 1
            assert "Export the bundle again" in str(error)
        manifest.write_bytes(sound)
    assert found > len(sound) // 7 * 0.7


@pytest.mark.parametrize(("field", "value"), [("hop", 321), ("sample_rate", 24001), ("model", "other"), ("dim", 65)])
def test_a_changed_field_is_found(copy: Path, field: str, value: object) -> None:
    fields = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(fields | {field: value}))
    with pytest.raises(BundleError, match="is damaged: its fields do not give the SHA-256 it holds"):
        read_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing from the bundle\. Export the bundle again"):
        Encoder(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(copy: Path, name: str) -> None:
    size = (copy / name).stat().st_size
    with (copy / name).open("r+b") as file:
        file.truncate(size // 2)
    with pytest.raises(BundleError, match=rf"{name} has {size // 2} bytes; the bundle's manifest says {size}"):
        Encoder(copy)


def test_a_manifest_that_may_not_be_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read \(Permission denied\)\. Check its permissions"):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["fold.npz", "fp32/weights.bin"])
def test_a_file_that_may_not_be_read(copy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == copy / name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BundleError, match=rf"{name} cannot be read \(Permission denied\)\. Check its permissions"):
        Encoder(copy)


def test_another_format_version(copy: Path) -> None:
    edit(copy, format=99)
    with pytest.raises(BundleError, match="is a bundle of format 99; this mertric reads 6"):
        read_bundle(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"format": 6}', "\xff"])
def test_a_file_that_is_no_manifest(copy: Path, content: str) -> None:
    (copy / "bundle.json").write_text(content, encoding="latin-1")
    with pytest.raises(BundleError, match=r"is not the manifest of a bundle.*Export the bundle again"):
        read_bundle(copy)


@pytest.mark.parametrize("changes", [{"hop": ...}, {"unknown": 1}])
def test_fields_that_lack_or_are_too_many(copy: Path, changes: dict[str, Any]) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match="is not the manifest of a bundle"):
        read_bundle(copy)


def test_no_bundle_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"file is no folder; expected a bundle as `mertric export` writes it"):
        read_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"gone does not exist; expected a bundle as `mertric export` writes it"):
        read_bundle(tmp_path / "gone")
    with pytest.raises(BundleError, match=r"holds no bundle\.json; expected a bundle"):
        read_bundle(tmp_path)


def test_a_checkpoint_is_no_bundle(models: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"is a checkpoint, not a bundle\. Convert it: mertric export"):
        read_bundle(models["95m"].checkpoint)


def test_a_precision_that_is_not_there_is_exported_beside_those_that_are(copy: Path) -> None:
    edit(copy, precisions=["fp32", "int8"])
    with pytest.raises(BundleError, match=r"in fp32, int8, not in bf16\. .* --precision int8 --precision bf16$"):
        read_bundle(copy).require("bf16", "cpu")


def test_the_folds_constants(bundle: Path) -> None:
    first = read_bundle(bundle).first_convolution()
    assert first.weight.shape == (32, 10)
    assert first.weight.dtype == np.float64
    assert first.taps == 10
    assert first.stride == 5
    assert (first.normalize_epsilon, first.norm_epsilon) == (1e-7, 1e-5)
    assert first.scale is not None
    assert first.offset is not None
    assert not first.bias.any()


def test_a_bundle_works_where_it_is_moved(copy: Path, tmp_path: Path) -> None:
    moved = copy.rename(tmp_path / "bündel 音 [1]")
    assert isinstance(Encoder(moved).bundle, Bundle)
    assert Encoder(moved).embed(np.zeros(4000), sample_rate=24000).hidden.shape == (1, 12, 64)


def test_a_bundle_is_found_from_another_folder_too(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    encoder = Encoder(copy.name)
    monkeypatch.chdir(copy)
    assert encoder.embed(np.zeros(4000), sample_rate=24000).hidden.shape == (1, 12, 64)


def test_a_bundle_that_was_replaced_is_not_mixed_with_its_successor(copy: Path, sound: Any) -> None:
    """Sessions are opened when they are first needed, which may be long after the files were checked."""
    encoder = Encoder(copy, provider="cpu")
    encoder.embed_samples(sound(), layers=[4])
    edit(copy, model="another")
    encoder.embed_samples(sound(), layers=[4])
    with pytest.raises(BundleError, match=r"was replaced since it was loaded\. Load it again"):
        encoder.embed_samples(sound(), layers=[1, 2])
    (copy / "bundle.json").unlink()
    with pytest.raises(BundleError, match="is gone since it was loaded"):
        encoder.embed_samples(sound(), layers=[1])
