from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING, Any

import pytest

import mertric
from mertric.cache import bundle_directory, cache_directory
from mertric.encoder import Encoder
from mertric.errors import BundleError, DependencyError, ExportError, InputError, OutputError, ProviderError
from mertric.loading import DEFAULT_MODEL, find_bundle
from mertric_export import hub_export

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERTRIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> list[tuple[str, Path, list[str]]]:
    """Calls of the exporter, which here copies the tiny bundle."""
    calls: list[tuple[str, Path, list[str]]] = []

    def export_model(model: str, output: Path, *, precisions: list[str], force: bool) -> None:
        calls.append((model, output, precisions))
        if force:
            shutil.rmtree(output)
        shutil.copytree(bundle, output)

    monkeypatch.setattr(hub_export, "export_model", export_model)
    return calls


@pytest.mark.parametrize("kind", [str, Path])
def test_a_bundles_directory(bundle: Path, kind: Callable[[Path], Any]) -> None:
    encoder = mertric.load(kind(bundle), threads=1, chunk=5, provider="cpu")
    assert isinstance(encoder, Encoder)
    assert encoder.provider == "cpu"
    assert encoder.bundle.path == bundle


def test_a_hub_id_is_converted_once(cache: Path, exports: list[tuple[str, Path, list[str]]]) -> None:
    expected = cache / "bundles" / "someone--a.model_1"
    for _ in range(2):
        assert mertric.load("someone/a.model_1").bundle.path == expected
    assert exports == [("someone/a.model_1", expected, ["fp32"])]


@pytest.mark.usefixtures("cache")
def test_several_at_once_convert_it_once(
    exports: list[tuple[str, Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, export = Semaphore(0), hub_export.export_model

    def late(*arguments: Any, **options: Any) -> None:
        for _ in range(3):
            assert waiting.acquire(timeout=60), "another does not wait"
        export(*arguments, **options)

    def notified(text: str) -> None:
        assert text == f"Waiting for another run that writes {bundle_directory('a/b')}."
        waiting.release()

    monkeypatch.setattr(hub_export, "export_model", late)
    monkeypatch.setattr(hub_export, "to_stderr", notified)
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(find_bundle, ["a/b"] * 4)} == {bundle_directory("a/b")}
    assert len(exports) == 1


def test_a_cache_that_cannot_be_written(cache: Path, exports: list[tuple[str, Path, list[str]]]) -> None:
    cache.write_bytes(b"")
    with pytest.raises(ExportError, match=r"a--b cannot be written \("):
        find_bundle("a/b")
    assert exports == []


@pytest.mark.usefixtures("cache")
def test_what_the_precision_needs_is_converted_too(exports: list[tuple[str, Path, list[str]]]) -> None:
    with pytest.raises(BundleError, match=r"was exported in fp32, not in int8\. Export it again"):
        mertric.load("someone/model", provider="cpu", precision="int8")  # the tiny bundle has none
    assert exports[0][2] == ["int8"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("provider", "precision"), [("auto", "fp12"), ("cpu", "bf16"), ("gpu", "fp32")])
def test_nothing_is_fetched_for_what_is_not_there(
    exports: list[tuple[str, Path, list[str]]], provider: str, precision: str
) -> None:
    with pytest.raises(ProviderError):
        mertric.load("someone/model", provider=provider, precision=precision)
    assert exports == []


@pytest.mark.usefixtures("cache")
def test_the_default_is_the_papers_model(exports: list[tuple[str, Path, list[str]]]) -> None:
    mertric.load()
    assert exports[0][0] == DEFAULT_MODEL == "m-a-p/MERT-v1-95M"


@pytest.mark.usefixtures("cache")
def test_an_unfinished_directory_is_converted_again(exports: list[tuple[str, Path, list[str]]]) -> None:
    find_bundle("a/b")
    shutil.rmtree(bundle_directory("a/b"))
    find_bundle("a/b")
    assert len(exports) == 2


@pytest.mark.usefixtures("cache")
def test_a_bundle_of_another_release_is_converted_again(
    exports: list[tuple[str, Path, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = find_bundle("a/b") / "bundle.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    earlier = {**fields, "format": fields["format"] - 1, "precisions": ["int8", "fp32", "fp12"]}
    manifest.write_text(json.dumps(earlier), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert mertric.load("a/b", provider="cpu").bundle.path == manifest.parent
    assert [precisions for _, _, precisions in exports] == [["fp32"], ["int8", "fp32"]]
    for model, version in ((manifest.parent, 1), ("a/b", fields["format"] + 1), ("a/b", None)):
        manifest.write_text(json.dumps({**earlier, "format": version}), encoding="utf-8")
        with pytest.raises(BundleError, match=f"is a bundle of format {version}; this mertric reads"):
            mertric.load(model)
    assert len(exports) == 2


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "a/b/c", "", "~/bundle", "a b/c"])
def test_a_name_that_is_neither(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="expected a bundle"):
        mertric.load(name)


@pytest.mark.usefixtures("exports")
def test_a_hub_id_beside_a_folder_of_its_owner(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no hub id but a path with a mistake, unless it is known."""
    monkeypatch.chdir(tmp_path)
    for owner in ("a", "m-a-p"):
        (tmp_path / owner).mkdir()
    with pytest.raises(BundleError, match=r"a holds no b; expected a bundle's directory\. If a/b is meant as a hub id"):
        find_bundle("a/b")
    assert find_bundle(DEFAULT_MODEL) == bundle_directory(DEFAULT_MODEL)
    (bundle_directory("a/b")).mkdir(parents=True)
    (bundle_directory("a/b") / "bundle.json").touch()
    assert find_bundle("a/b") == bundle_directory("a/b")


def test_the_exporter_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("mertric_export")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        DependencyError, match=r'a/b must first be .* onnx is missing\. Run: pip install "mertric\[export\]"'
    ):
        mertric.load("a/b")
    assert not cache.exists()


def test_the_cache_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MERTRIC_CACHE", "~/somewhere")
    assert cache_directory() == Path.home() / "somewhere"
    monkeypatch.delenv("MERTRIC_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "mertric"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_directory() == Path.home() / ".cache" / "mertric"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "mertric"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_directory() == Path.home() / "Library" / "Caches" / "mertric"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_directory() == tmp_path / "mertric" / "cache"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    """As in a container with a number for a user. Only what needs the cache fails."""
    from mertric.diagnosis import diagnose

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MERTRIC_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OutputError, match=r"no home directory to keep a cache in\. Set MERTRIC_CACHE"):
        cache_directory()
    assert mertric.load(bundle, provider="cpu").bundle.path == bundle
    found = {(row["kind"], row["name"]): row["state"] for row in diagnose()}
    assert found["machine", "cache"] == "problem"
    assert found["provider", "cpu"] == "ok"


def test_bundles_of_hub_ids_do_not_collide(cache: Path) -> None:
    assert bundle_directory("m-a-p/MERT-v1-95M") == cache / "bundles" / "m-a-p--MERT-v1-95M"


@pytest.mark.parametrize("option", ["threads", "chunk"])
def test_what_the_encoder_is_told(bundle: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0; expected"):
        mertric.load(bundle, **{option: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["./model", "../model", "/model", "owner/", "owner/../model", "-x/model", "owner/.model", "~/model"]
)
def test_a_path_is_no_hub_id(cache: Path, exports: list[tuple[str, Path, list[str]]], name: str) -> None:
    with pytest.raises(BundleError, match="does not exist; expected a bundle's directory or a hub id"):
        find_bundle(name)
    assert not exports


def test_a_name_longer_than_there_can_be(cache: Path) -> None:
    with pytest.raises(BundleError, match="does not exist; expected a bundle's directory or a hub id"):
        find_bundle("x" * 300)
