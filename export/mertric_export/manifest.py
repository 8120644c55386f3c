"""Writes a bundle's manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mertric.bundle import MANIFEST, manifest_digest, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def list_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the size in bytes and the SHA-256 of each file below a directory, by its path from there."""
    return {
        file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def write_manifest(directory: Path, fields: Mapping[str, Any]) -> None:
    """Write a manifest's fields, and their SHA-256 in place of one that is among them."""
    content = {name: value for name, value in fields.items() if name != "sha256"}
    content["sha256"] = manifest_digest(content)
    (directory / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
