from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from checkpoints import SMALL
from mertric.bundle import read_bundle
from mertric.cache import bundle_directory
from mertric.cli import cli
from mertric.errors import CheckpointError, ExportError, InputError
from mertric.loading import find_bundle
from mertric_export import hub_export
from mertric_export.hub import Fetched
from mertric_export.hub_export import export_model, export_where_needed
from mertric_export.output import only_writer
from mertric_export.synthetic import write_checkpoint
from mertric_export.weights import digests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ID = "someone/model"


class FakeHub:
    """Stands in for `fetch`: one checkpoint, whose weights and revision can change."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.revision = directory, "1" * 40
        self.asked: list[tuple[str, str | None]] = []
        self.publish(seed=0)

    def publish(self, *, seed: int, revision: str | None = None) -> None:
        write_checkpoint(self.directory, SMALL, seed=seed)
        self.revision = revision or self.revision

    def fetch(self, model: str, *, revision: str | None, notify: Callable[[str], None] | None) -> Fetched:
        self.asked.append((model, revision))
        if notify:
            notify("The license of its weights is CC-BY-NC-4.0.")
        name = "model.safetensors"
        return Fetched(
            model_id=model,
            directory=self.directory,
            weights=name,
            revision=self.revision,
            sha256=digests(self.directory, [name])[name],
            license="CC-BY-NC-4.0",
        )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(hub_export, "fetch", fake.fetch)
    monkeypatch.setenv("MERTRIC_CACHE", str(tmp_path / "cache"))
    return fake


def test_the_manifest_says_where_the_weights_come_from(hub: FakeHub, tmp_path: Path) -> None:
    steps: list[str] = []
    bundle = export_model(ID, tmp_path / "bundle", revision="v2", notify=steps.append)
    assert hub.asked == [(ID, "v2")]
    assert (bundle.model, bundle.revision, bundle.license, bundle.trained) == (ID, "1" * 40, "CC-BY-NC-4.0", True)
    assert bundle.weights_sha256 == digests(hub.directory, ["model.safetensors"])["model.safetensors"]
    assert steps[0] == "The license of its weights is CC-BY-NC-4.0."
    assert len(steps) == 5


def test_the_first_digest_is_held_to(hub: FakeHub, tmp_path: Path) -> None:
    first = export_model(ID, tmp_path / "bundle")
    hub.publish(seed=1)
    with pytest.raises(CheckpointError, match=r"have SHA-256 .*they had .*Find out why .*to accept them, delete"):
        export_model(ID, tmp_path / "bundle", force=True)
    assert read_bundle(tmp_path / "bundle") == first


def test_it_is_held_to_after_the_bundles_format_changed_too(hub: FakeHub, tmp_path: Path) -> None:
    export_model(ID, tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1, "sha256": ""}))
    hub.publish(seed=1)
    with pytest.raises(CheckpointError, match="Find out why"):
        export_model(ID, tmp_path / "bundle", force=True)


def test_the_same_weights_are_exported_again(hub: FakeHub, tmp_path: Path) -> None:
    first = export_model(ID, tmp_path / "bundle")
    with pytest.raises(ExportError, match="exists already"):
        export_model(ID, tmp_path / "bundle")
    assert len(hub.asked) == 1, "nothing is fetched for a place that is taken"
    assert export_model(ID, tmp_path / "bundle", force=True).weights_sha256 == first.weights_sha256


def test_another_revision_or_model_may_have_other_weights(hub: FakeHub, tmp_path: Path) -> None:
    export_model(ID, tmp_path / "bundle")
    hub.publish(seed=1, revision="2" * 40)
    assert export_model(ID, tmp_path / "bundle", force=True).revision == "2" * 40
    hub.publish(seed=2)
    assert export_model("someone/other", tmp_path / "bundle", force=True).model == "someone/other"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("content", ["{", json.dumps({"format": 0})])
def test_a_bundle_that_cannot_be_read_is_replaced_by_force(tmp_path: Path, content: str) -> None:
    export_model(ID, tmp_path / "bundle")
    (tmp_path / "bundle" / "bundle.json").write_text(content)
    with pytest.raises(ExportError, match=r"exists already.*--force"):
        export_model(ID, tmp_path / "bundle")
    export_model(ID, tmp_path / "bundle", force=True).check_files("fp32")


def test_the_command_puts_it_where_load_finds_it(hub: FakeHub) -> None:
    result = CliRunner().invoke(cli, ["export", ID])
    assert result.exit_code == 0, result.output
    assert "license CC-BY-NC-4.0" in result.output
    assert hub.asked == [(ID, None)]
    assert find_bundle(ID) == bundle_directory(ID) == read_bundle(bundle_directory(ID)).path
    assert len(hub.asked) == 1


def test_a_revision_has_a_place_of_its_own(hub: FakeHub, tmp_path: Path) -> None:
    """What `load` finds by a hub id is the pinned one."""
    runner = CliRunner()
    result = runner.invoke(cli, ["export", ID, "--revision", "main"])
    assert isinstance(result.exception, InputError)
    assert "say with -o where the revision's bundle goes" in str(result.exception)
    assert runner.invoke(cli, ["export", ID, "--revision", "main", "-o", str(tmp_path / "b")]).exit_code == 0
    assert hub.asked == [(ID, "main")]
    assert not bundle_directory(ID).exists()


def test_load_fetches_and_converts_once(hub: FakeHub, sound: Callable[..., Any]) -> None:
    import mertric

    for _ in range(2):
        encoder = mertric.load(ID)
    assert hub.asked == [(ID, None)]
    assert encoder.embed(sound(), sample_rate=24000).hidden.shape == (1, 37, 16)


@pytest.mark.usefixtures("hub")
def test_what_another_machine_had_costs_nobody_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle of an earlier format, in a precision that cannot be exported here."""
    manifest = bundle_directory(ID) / "bundle.json"
    export_model(ID, bundle_directory(ID))
    old = json.loads(manifest.read_text()) | {"format": 1, "precisions": ["fp32", "int16"]}
    manifest.write_text(json.dumps(old))

    def export(model: str, output: Path, *, precisions: Sequence[str], force: bool) -> Any:
        if "int16" in precisions:
            raise ExportError("int16 could not be compared here.")
        return export_model(model, output, precisions=precisions, force=force)

    monkeypatch.setattr(hub_export, "export_model", export)
    assert read_bundle(find_bundle(ID)).precisions == ("fp32",)
    assert "int16 could not be compared here. What is not asked for now is left out." in capsys.readouterr().err
    manifest.write_text(json.dumps(old))
    with pytest.raises(ExportError, match="int16 could not be compared here"):
        export_where_needed(ID, bundle_directory(ID), precision="int16")


def test_what_killed_runs_left_is_removed_by_the_next(hub: FakeHub) -> None:
    place = bundle_directory(ID)
    left, other = place.with_name(f".{place.name}.0123abcd"), place.with_name(f".{place.name}x.0123abcd")
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / "weights").touch()
    find_bundle(ID)
    assert (left.exists(), other.exists()) == (False, True)


def test_the_command_waits_for_who_writes_there(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    begun = threading.Event()
    said: list[str] = []

    def load() -> None:
        with only_writer(bundle_directory(ID), notify=said.append):
            begun.set()
            time.sleep(0.5)
            said.append("written")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(load)
        assert begun.wait(30)
        result = CliRunner().invoke(cli, ["export", ID])
        other.result()
    assert result.exit_code == 0
    assert said == ["written"]
    assert "Waiting for another run that writes" in result.output
