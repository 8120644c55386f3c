"""Audio files in folders."""

from __future__ import annotations

import warnings
from collections import deque
from typing import TYPE_CHECKING

from mertric.errors import PairingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = frozenset(
    (
        ".wav",
        ".flac",
        ".ogg",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".caf",
        ".w64",
        ".rf64",
        ".bwf",
    )
)
"""Endings of the files that a folder is searched for."""
STEMS = ("bass", "drums", "vocals", "other")
_SUMS = ("mixture", "accompaniment")
"""Names of files that are sums of stems; where the stems themselves are there, these are not sources."""


def find_audio(folder: Path) -> list[Path]:
    """List a folder's audio files at any depth, by their endings, sorted; hidden ones are left out.

    Raises
    ------
    PairingError
        There are none.
    """
    found = sorted(_walk(folder))
    if not found:
        raise PairingError(f"{folder} holds no audio files; expected files that end in {', '.join(sorted(SUFFIXES))}.")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Yield audio files, links to nowhere among them, below a folder; a folder that has several names is entered once.

    That is by its own name, if it has one here, or the first of the links to it. A folder below that may not be listed
    is warned of and left out.
    """
    top, folders = folder, deque([folder])
    links: deque[Path] = deque()
    seen: set[Path] = set()
    while folders or links:
        folder = (folders or links).popleft()
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            paths = sorted(folder.iterdir())
        except PermissionError as error:
            if folder == top:
                raise
            warnings.warn(f"{folder} cannot be listed ({error.strerror}): what is in it is left out.", stacklevel=2)
            continue
        for path in paths:
            if path.name.startswith("."):
                continue
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in SUFFIXES:
                yield path


def find_sources(folder: Path) -> list[Path]:
    """List a folder's audio files without the sums that stand beside their stems, as files or as folders of files.

    Raises
    ------
    PairingError
        There are none.
    """
    found = find_audio(folder)
    parts = {*STEMS} - {"vocals"}
    files = {path.parent for path in found if path.stem.lower() in parts}
    folders = {path.parent.parent for path in found if path.parent.name.lower() in parts}
    return [
        path
        for path in found
        if not (path.stem.lower() in _SUMS and path.parent in files)
        and not (path.parent.name.lower() in _SUMS and path.parent.parent in folders)
    ]
