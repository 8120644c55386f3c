"""The released MERT checkpoints that are fetched by name."""

from __future__ import annotations

from dataclasses import dataclass

from mertric_export.weights import TORCH_FILE

UNKNOWN_LICENSE = "unknown"


@dataclass(frozen=True)
class Release:
    """The pinned commit of a checkpoint, its license, and the file and SHA-256 of its weights where known."""

    revision: str
    license: str
    weights: str | None = None
    sha256: str | None = None


RELEASES = {
    "m-a-p/MERT-v1-95M": Release(
        revision="12af15fef9d0ac838c3f475bfbbf26d2060dd4f5",
        license="CC-BY-NC-4.0",
        weights=TORCH_FILE,
        sha256="a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd",
    ),
    "m-a-p/MERT-v1-330M": Release(revision="57744365a426add51b060b9b166a6f9d4fd0cafe", license="CC-BY-NC-4.0"),
}


def license_of(sha256: str) -> str:
    """License of weights that are a release's, by their SHA-256 (hex), wherever they come from."""
    return next((one.license for one in RELEASES.values() if one.sha256 == sha256), UNKNOWN_LICENSE)
