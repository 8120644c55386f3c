"""Audio files in folders, and what their names say."""

from __future__ import annotations

import re
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
_IDENTIFIER = re.compile(r"[A-Za-z]+[_-]?\d+")


def find_audio(folder: Path) -> list[Path]:
    """List a folder's audio files at any depth, by their endings, sorted; hidden ones are left out.

    Raises
    ------
    PairingError
        There are none.
    """
    found = sorted(_walk(folder, set()))
    if not found:
        raise PairingError(f"{folder} holds no audio files; expected files that end in {', '.join(sorted(SUFFIXES))}.")
    return found


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield audio files, links to nowhere among them, below a folder; a folder that has several names is entered once.

    That is by its own name, if it has one here, or the first of the links to it.
    """
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path)):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def find_sources(folder: Path) -> list[Path]:
    """List a folder's audio files without the sums that stand beside their stems.

    Raises
    ------
    PairingError
        There are none.
    """
    found = find_audio(folder)
    with_parts = {path.parent for path in found if path.stem.lower() in STEMS and path.stem.lower() != "vocals"}
    return [path for path in found if path.stem.lower() not in _SUMS or path.parent not in with_parts]


def identifiers(path: Path) -> set[str]:
    """Return the words with a number in a path, such as ``fileid_12``, in lower case."""
    name = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return {match.lower() for match in _IDENTIFIER.findall(name.as_posix())}
