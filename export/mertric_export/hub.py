"""Fetches checkpoints from the Hugging Face Hub into its cache, and holds them against their digests."""

from __future__ import annotations

import errno
import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mertric.errors import CheckpointError, DependencyError
from mertric_export.config import MODEL_FILE, PREPROCESSOR_FILE
from mertric_export.releases import RELEASES, UNKNOWN_LICENSE, Release
from mertric_export.weights import (
    WEIGHTS,
    combined_digest,
    digests,
    find_weights,
    weight_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT_SECONDS = 30
_OF_THE_DISK = {
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR")
} - {None}


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A checkpoint in the local cache.

    Attributes
    ----------
    model_id, revision, license : str
        Hub id, commit hash, and license of the weights: "unknown" where the Hub was not asked or did not say.
    directory : Path
        Give it and `weights` to `read_checkpoint`.
    weights : str
        Which weights were fetched and verified.
    sha256 : str
        Their SHA-256 (hex), as `Checkpoint.sha256`.
    """

    model_id: str
    directory: Path
    weights: str
    revision: str
    sha256: str
    license: str


def fetch(
    model_id: str,
    *,
    revision: str | None = None,
    expected_sha256: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> Fetched:
    """Fetch a checkpoint, or find it in the Hugging Face cache, and hold its weights against their digest.

    Only the configuration files and one kind of weights are fetched, with a progress bar; huggingface_hub
    goes on where a broken transfer stopped. A commit that is already in the cache needs no network.

    Parameters
    ----------
    model_id : str
        Hub id, such as "m-a-p/MERT-v1-95M".
    revision : str, optional
        Commit, tag or branch. By default the pinned commit of `RELEASES`, else the latest one of "main".
    expected_sha256 : str, optional
        SHA-256 (hex) that the weights must have. By default that of `RELEASES` at its pinned commit, or where
        none is recorded the Hub's own.
    cache_dir : path, optional
        By default the Hugging Face cache (`HF_HOME`).
    endpoint : str, optional
        Address of a mirror. By default the Hub, or `HF_ENDPOINT`.
    notify : callable, optional
        Gets each message for the user, the license before anything is fetched. By default they go to stderr.

    Raises
    ------
    CheckpointError
        The id, the revision or the files do not exist, the Hub cannot be reached, or the digest is another.
    DependencyError
        huggingface_hub is not installed.
    """
    hub = _Hub(_huggingface_hub(), model_id, endpoint, None if cache_dir is None else Path(cache_dir))
    release = RELEASES.get(model_id, Release(revision="main", license=UNKNOWN_LICENSE))
    at_pin = revision in (None, release.revision)
    revision = revision or release.revision
    weights = release.weights if at_pin else None
    say = notify or to_stderr
    directory = hub.cached(revision, weights) if _COMMIT.fullmatch(revision) else None
    licensed = release.license
    published: Mapping[str, str] = {}
    if directory is None:
        directory, licensed, published = hub.download(revision, weights, licensed, say)
    weights = weights or find_weights(directory)
    expected = expected_sha256 or (release.sha256 if at_pin else None)
    return Fetched(
        model_id=model_id,
        directory=directory,
        weights=weights,
        revision=directory.name,
        sha256=_verify(directory, weights, expected, published),
        license=licensed,
    )


@dataclass(frozen=True)
class _Hub:
    """One model on the Hub, and its place in the cache."""

    library: Any
    model_id: str
    endpoint: str | None
    cache_dir: Path | None

    def cached(self, revision: str, weights: str | None) -> Path | None:
        """The snapshot of a revision, if the cache holds all of it."""
        try:
            found = self.library.try_to_load_from_cache(
                self.model_id, MODEL_FILE, cache_dir=self.cache_dir, revision=revision
            )
        except self.library.errors.HFValidationError:  # no id that the Hub has, which it says itself
            return None
        if not isinstance(found, str):
            return None
        directory = Path(found).parent
        try:
            names = [PREPROCESSOR_FILE, *weight_files(directory, weights or find_weights(directory))]
        except CheckpointError:
            return None
        return directory if all((directory / name).is_file() for name in names) else None

    def download(
        self, revision: str, weights: str | None, known_license: str, say: Callable[[str], None]
    ) -> tuple[Path, str, Mapping[str, str]]:
        """Directory, license and published digests of a revision; from the cache where the Hub cannot be reached."""
        errors = self.library.errors
        absent = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)
        try:
            return self._fetch_missing(revision, weights, known_license, say)
        except CheckpointError:
            raise
        except absent as error:
            raise CheckpointError(
                f"The Hub has no model {self.model_id} at revision {revision}, or it is private. Check "
                "the id, log in with `hf auth login`, or give the directory of a checkpoint. "
                f"({_first_line(error)})"
            ) from error
        except Exception as error:  # requests, httpx and the Hub's library each have their own
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise CheckpointError(
                    f"{self.model_id} cannot be kept in the Hugging Face cache ({error}). Make room there, or set "
                    "HF_HOME to a folder that takes files."
                ) from error
            return self._offline(revision, weights, error, say), known_license, {}

    def _fetch_missing(
        self, revision: str, weights: str | None, known_license: str, say: Callable[[str], None]
    ) -> tuple[Path, str, Mapping[str, str]]:
        """Fetch what the cache lacks of a revision, after the license is said."""
        info = self.library.HfApi(endpoint=self.endpoint).model_info(
            self.model_id, revision=revision, timeout=_TIMEOUT_SECONDS, files_metadata=True
        )
        names = {sibling.rfilename for sibling in info.siblings or []}
        chosen = weights or next((name for name in WEIGHTS if name in names), " or ".join(WEIGHTS))
        wanted = [MODEL_FILE, PREPROCESSOR_FILE, chosen]
        if missing := [name for name in wanted if name not in names]:
            raise CheckpointError(
                f"{self.model_id} at {revision} has no {', '.join(missing)}. "
                f"Choose a MERT checkpoint, such as {', '.join(RELEASES)}."
            )
        licensed = known_license if known_license != UNKNOWN_LICENSE else _license(info)
        say(f"Fetching {self.model_id} at {info.sha}. The license of its weights is {licensed}.")
        paths = [self._download(name, revision) for name in wanted]
        directory = paths[0].parent
        for name in weight_files(directory, chosen):
            if name not in names:
                raise CheckpointError(f"{self.model_id} at {revision} has no {name}, which its {chosen} names.")
            self._download(name, revision)
        return directory, licensed, _published(info)

    def _download(self, name: str, revision: str) -> Path:
        return Path(
            self.library.hf_hub_download(
                self.model_id, name, revision=revision, cache_dir=self.cache_dir, endpoint=self.endpoint
            )
        )

    def _offline(self, revision: str, weights: str | None, error: Exception, say: Callable[[str], None]) -> Path:
        directory = self.cached(revision, weights)
        if directory is None:
            raise CheckpointError(
                f"{self.model_id} at {revision} is not whole in the cache and cannot be fetched: "
                f"{_first_line(error)}. Connect and run again (whole files are kept), or give a directory "
                f"with {MODEL_FILE}, {PREPROCESSOR_FILE} and {' or '.join(WEIGHTS)}."
            ) from error
        say(f"The Hub cannot be reached; using {self.model_id} at {directory.name} from the cache.")
        return directory


def _published(info: Any) -> dict[str, str]:
    """SHA-256 of each large file, as the Hub gives it."""
    large = {sibling.rfilename: getattr(sibling, "lfs", None) for sibling in info.siblings or []}
    return {name: str(lfs["sha256"]) for name, lfs in large.items() if lfs and lfs.get("sha256")}


def _verify(directory: Path, weights: str, expected: str | None, published: Mapping[str, str]) -> str:
    """Digest of the weights, held against the expected one; without one, each file against the Hub's."""
    names = weight_files(directory, weights)
    files = digests(directory, names)
    actual = combined_digest(files)
    if expected is not None:
        _compare(directory, names, actual, expected.lower())
    else:
        for name in names:
            # The cache names a large file by the SHA-256 that the Hub gave for it, where there are symbolic links.
            recorded = published.get(name, (directory / name).resolve().name)
            if _SHA256.fullmatch(recorded):
                _compare(directory, [name], files[name], recorded)
    return actual


def _compare(directory: Path, names: list[str], actual: str, expected: str) -> None:
    if actual != expected:
        paths = ", ".join(str((directory / name).resolve()) for name in names)
        raise CheckpointError(
            f"SHA-256 of {', '.join(names)} in {directory}: got {actual}, expected {expected}. "
            f"Delete {paths} and run again. If the digest stays the same, the file is not the recorded one: "
            "do not use it unless you know why, and then give its directory instead of the hub id."
        )


def _license(info: Any) -> str:
    """As the model card has it, in the Hub's spelling."""
    tags = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return tags[0] if tags else UNKNOWN_LICENSE


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def _huggingface_hub() -> Any:
    try:
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise DependencyError(
            f"Fetching from the Hugging Face Hub needs huggingface_hub ({error}). "
            'Install it with: pip install "mertric[export]"'
        ) from error
