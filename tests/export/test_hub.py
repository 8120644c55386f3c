"""The fetcher against a Hub on the loopback interface: the real huggingface_hub talks to it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import SMALL, load, save, torch_file
from mertric.errors import CheckpointError, DependencyError
from mertric_export.checkpoint import read_checkpoint
from mertric_export.hub import Fetched, fetch
from mertric_export.releases import RELEASES, Release, license_of
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("huggingface_hub")

MODEL, COMMIT, OTHER = "someone/mert", "a" * 40, "b" * 40
LICENSED = "Fetching someone/mert at {commit}. The license of its weights is {license}."


@dataclass
class FakeHub:
    """One repository; every revision holds the same files."""

    files: dict[str, bytes] = field(default_factory=dict)
    tags: list[str] = field(default_factory=lambda: ["license:cc-by-nc-4.0"])
    cut: int | None = None
    damaged: str | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def fetched(self) -> set[str]:
        """Names of the files whose content was asked for."""
        return {path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """A request handler bound to this repository."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, with_body: bool) -> None:
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                parts = self.path.partition("?")[0].split("/")
                if parts[1:5] == ["api", "models", *MODEL.split("/")]:
                    revision = parts[6] if len(parts) > 6 else "main"
                    self.describe(COMMIT if revision == "main" else revision)
                elif parts[1:4] == [*MODEL.split("/"), "resolve"] and parts[5] in hub.files:
                    commit = COMMIT if parts[4] == "main" else parts[4]
                    self.file(commit, parts[5], with_body)
                else:
                    self.refuse("RepoNotFound")

            def describe(self, commit: str) -> None:
                if commit not in (COMMIT, OTHER):
                    return self.refuse("RevisionNotFound")
                siblings: list[dict[str, Any]] = [{"rfilename": name} for name in hub.files]
                for sibling in siblings if "blobs=" in self.path else ():
                    if sibling["rfilename"].endswith((".bin", ".safetensors")):
                        content = hub.files[sibling["rfilename"]]
                        sha256 = hashlib.sha256(content).hexdigest()
                        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
                answer = json.dumps({"id": MODEL, "sha": commit, "siblings": siblings, "tags": hub.tags}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                return None

            def file(self, commit: str, name: str, with_body: bool) -> None:
                content = hub.files[name]
                etag = hashlib.sha256(content).hexdigest()
                if name == hub.damaged:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                asked = self.headers.get("Range")
                start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
                self.send_response(206 if start else 200)
                self.send_header("X-Repo-Commit", commit)
                self.send_header("ETag", f'"{etag}"')
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if with_body and hub.cut is not None and name.endswith((".bin", ".safetensors")):
                    self.wfile.write(content[start : hub.cut])
                    hub.cut = None
                    self.close_connection = True
                elif with_body:
                    self.wfile.write(content[start:])

            def refuse(self, code: str) -> None:
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler


@dataclass
class Client:
    """Fetches from the fake Hub into one cache, and keeps what the user was told."""

    hub: FakeHub
    endpoint: str
    cache: Path
    said: list[str] = field(default_factory=list)

    def fetch(self, model_id: str = MODEL, **options: Any) -> Fetched:
        options = {"endpoint": self.endpoint, "cache_dir": self.cache, "notify": self.said.append} | options
        return fetch(model_id, **options)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    directory = write_checkpoint(tmp_path / "source", SMALL)
    torch_file(load(directory)).write(directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    (directory / "README.md").write_text("not needed")
    hub = FakeHub({path.name: path.read_bytes() for path in directory.iterdir()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), hub.handler())
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield Client(hub, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    server.shutdown()
    server.server_close()


def pin(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    known = {"revision": OTHER, "license": "CC-BY-NC-4.0", "weights": "pytorch_model.bin"}
    monkeypatch.setitem(RELEASES, MODEL, Release(**(known | changes)))


def digest(client: Client, name: str = "pytorch_model.bin") -> str:
    return hashlib.sha256(client.hub.files[name]).hexdigest()


def test_only_what_is_needed_is_fetched_and_the_latest_commit_is_recorded(client: Client) -> None:
    fetched = client.fetch()
    assert client.hub.fetched() == {"config.json", "preprocessor_config.json", "pytorch_model.bin"}
    assert (fetched.model_id, fetched.revision, fetched.weights) == (MODEL, COMMIT, "pytorch_model.bin")
    assert fetched.sha256 == digest(client)
    assert fetched.license == "cc-by-nc-4.0"
    assert client.said == [LICENSED.format(commit=COMMIT, license="cc-by-nc-4.0")]
    checkpoint = read_checkpoint(fetched.directory, weights=fetched.weights)
    assert checkpoint.sha256 == fetched.sha256
    assert checkpoint.config == SMALL


def test_the_license_is_said_before_anything_is_fetched(client: Client) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.fetch(notify=stop)
    assert not client.hub.fetched()


def test_messages_go_to_stderr_by_default(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    client.fetch(notify=None)
    assert LICENSED.format(commit=COMMIT, license="cc-by-nc-4.0") in capsys.readouterr().err


def test_a_card_without_a_license_says_unknown(client: Client) -> None:
    client.hub.tags = []
    assert client.fetch().license == "unknown"


def test_a_pinned_model_is_fetched_at_its_pin(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, sha256=digest(client))
    fetched = client.fetch()
    assert (fetched.revision, fetched.license) == (OTHER, "CC-BY-NC-4.0")
    assert client.said == [LICENSED.format(commit=OTHER, license="CC-BY-NC-4.0")]


def test_a_commit_in_the_cache_needs_no_network(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, sha256=digest(client))
    first = client.fetch()
    client.hub.requests.clear()
    assert client.fetch() == first
    assert client.fetch(revision=OTHER) == first
    assert not client.hub.requests


@pytest.mark.parametrize("name", ["preprocessor_config.json", "pytorch_model.bin"])
def test_a_commit_that_is_not_whole_in_the_cache_is_completed(
    client: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pin(monkeypatch, sha256=digest(client))
    first = client.fetch()
    os.remove(first.directory / name)  # noqa: PTH107
    assert client.fetch() == first
    assert (first.directory / name).is_file()


def test_another_digest_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, sha256="0" * 64)
    with pytest.raises(CheckpointError, match=rf"got {digest(client)}, expected {'0' * 64}\. Delete .*run again"):
        client.fetch()
    with pytest.raises(CheckpointError, match="expected 1111"):
        client.fetch(expected_sha256="1" * 64)
    assert client.fetch(expected_sha256=digest(client).upper()).sha256 == digest(client)
    assert client.fetch(revision=COMMIT).revision == COMMIT


@pytest.mark.parametrize("links", [True, False])
def test_without_a_recorded_digest_the_hubs_own_is_held_to(
    client: Client, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Whether the cache has symbolic links, whose names tell it, or not, as on most Windows systems."""
    if not links:
        monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *_: False)
    client.hub.damaged = "pytorch_model.bin"
    with pytest.raises(CheckpointError, match=rf"expected {digest(client)}\. Delete"):
        client.fetch()


def test_safetensors_goes_before_torch(client: Client, tmp_path: Path) -> None:
    save(tmp_path, {"a": np.zeros(3, np.float32)})
    client.hub.files["model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()
    fetched = client.fetch()
    assert fetched.weights == "model.safetensors"
    assert fetched.sha256 == digest(client, "model.safetensors")
    assert "pytorch_model.bin" not in client.hub.fetched()


def test_the_pinned_weights_are_read_though_others_stand_beside_them(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, sha256=digest(client))
    client.hub.files["model.safetensors"] = b"other weights"
    fetched = client.fetch()
    assert fetched.weights == "pytorch_model.bin"
    assert "model.safetensors" not in client.hub.fetched()
    assert client.fetch(revision=COMMIT).weights == "model.safetensors"


@pytest.mark.parametrize("names", [[f"model-0000{index}-of-00002.safetensors" for index in (1, 2)], ["a.st", "b.st"]])
def test_all_shards_are_fetched(client: Client, tmp_path: Path, names: list[str]) -> None:
    del client.hub.files["pytorch_model.bin"]
    for index, name in enumerate(names):
        save(tmp_path, {str(index): np.full(3, index, np.float32)}, name)
        client.hub.files[name] = (tmp_path / name).read_bytes()
    index = {"weight_map": {"0": names[0], "1": names[1]}}
    client.hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    fetched = client.fetch()
    assert fetched.weights == "model.safetensors.index.json"
    listing = "".join(f"{digest(client, name)}  {name}\n" for name in names)
    assert fetched.sha256 == hashlib.sha256(listing.encode()).hexdigest()


def test_a_shard_that_the_hub_lacks(client: Client) -> None:
    del client.hub.files["pytorch_model.bin"]
    client.hub.files["model.safetensors.index.json"] = b'{"weight_map": {"a": "gone.safetensors"}}'
    with pytest.raises(
        CheckpointError, match=r"has no gone\.safetensors, which its model\.safetensors\.index\.json names"
    ):
        client.fetch()


def test_a_broken_transfer_goes_on_where_it_stopped(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of huggingface_hub go on by themselves, others when asked again."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024, raising=False)
    client.hub.cut = 9000
    try:
        fetched = client.fetch()
    except CheckpointError as error:
        assert "cannot be fetched" in str(error)
        fetched = client.fetch()
    assert fetched.sha256 == digest(client)
    asked = [text for method, path, text in client.hub.requests if method == "GET" and path.endswith(".bin")]
    assert len(asked) == 2
    assert 0 < int((asked[1] or "bytes=0-").removeprefix("bytes=").split("-")[0]) <= 9000


def test_offline_the_cache_serves_or_the_message_says_what_to_do(client: Client) -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(CheckpointError, match=r"someone/mert at main is not whole in the cache.*Connect and run"):
        client.fetch(endpoint=nowhere)
    first = client.fetch()
    client.said.clear()
    offline = client.fetch(endpoint=nowhere)
    assert (offline.directory, offline.revision) == (first.directory, COMMIT)
    assert client.said == [f"The Hub cannot be reached; using {MODEL} at {COMMIT} from the cache."]
    os.remove(first.directory / "config.json")  # noqa: PTH107
    with pytest.raises(CheckpointError, match="not whole in the cache"):
        client.fetch(endpoint=nowhere)


def test_offline_a_released_models_license_is_known(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, sha256=digest(client))
    client.fetch(revision="main")
    assert client.fetch(revision="main", endpoint="http://127.0.0.1:9").license == "CC-BY-NC-4.0"


@pytest.mark.parametrize(("model_id", "revision"), [("someone/else", None), ("not an id!", None), (MODEL, "c" * 40)])
def test_what_the_hub_does_not_have(client: Client, model_id: str, revision: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"The Hub has no model .*Check the id"):
        client.fetch(model_id, revision=revision)


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("pytorch_model.bin", "has no model.safetensors or .* or pytorch_model.bin"),
    ],
)
def test_a_repository_that_is_no_checkpoint(client: Client, absent: str, message: str) -> None:
    del client.hub.files[absent]
    with pytest.raises(CheckpointError, match=message):
        client.fetch()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(DependencyError, match=r'pip install "mertric\[export\]"'):
        fetch(MODEL)


def test_the_released_models_are_pinned() -> None:
    small, large = RELEASES["m-a-p/MERT-v1-95M"], RELEASES["m-a-p/MERT-v1-330M"]
    assert small.revision == "12af15fef9d0ac838c3f475bfbbf26d2060dd4f5"
    assert small.weights == "pytorch_model.bin"
    assert small.sha256 == "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd"
    assert large.revision == "57744365a426add51b060b9b166a6f9d4fd0cafe"
    assert {small.license, large.license} == {"CC-BY-NC-4.0"}


def test_a_damaged_file_in_the_cache_is_found_without_a_recorded_digest(client: Client) -> None:
    """The cache calls it by the digest that the Hub gave for it."""
    weights = (client.fetch(revision=COMMIT).directory / "pytorch_model.bin").resolve()
    if weights.name == "pytorch_model.bin":
        pytest.skip("no symbolic links here")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    client.hub.requests.clear()
    with pytest.raises(CheckpointError, match=rf"got {hashlib.sha256(content).hexdigest()}, expected {weights.name}"):
        client.fetch(revision=COMMIT)


def test_a_hub_that_does_not_answer_is_not_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def model_info(*_: Any, **options: Any) -> Any:
        asked.update(options)
        raise TimeoutError("no answer")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    with pytest.raises(CheckpointError, match=r"is not whole in the cache and cannot be fetched: no answer\. Connect"):
        client.fetch()
    assert asked["timeout"] == 30


def test_a_full_disk_is_no_broken_network(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(CheckpointError, match=r"cannot be kept in the Hugging Face cache \(.*No space.*Make room"):
        client.fetch()


def test_an_id_that_no_model_can_have(client: Client) -> None:
    for revision in (COMMIT, "main"):
        with pytest.raises(CheckpointError, match=r"The Hub has no model a/b--c at revision"):
            client.fetch("a/b--c", revision=revision)


def test_weights_of_a_release_have_its_license() -> None:
    small = RELEASES["m-a-p/MERT-v1-95M"]
    assert small.sha256 is not None
    assert license_of(small.sha256) == "CC-BY-NC-4.0"
    assert license_of("0" * 64) == "unknown"
