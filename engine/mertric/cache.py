"""Where mertric keeps what it makes: bundles and demo files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mertric.errors import OutputError


def cache_directory() -> Path:
    """Return the directory: ``MERTRIC_CACHE`` where it is set, otherwise the platform's place for caches.

    Raises
    ------
    OutputError
        It would be in the user's home, and there is none.
    """
    try:
        named = os.environ.get("MERTRIC_CACHE")
        return Path(named).expanduser() if named else _usual()
    except RuntimeError as error:
        raise OutputError(
            "this user has no home directory to keep a cache in. Set MERTRIC_CACHE to a directory, or HOME."
        ) from error


def _usual() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mertric" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mertric"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mertric"


def bundle_directory(model: str) -> Path:
    """Return where the bundle of a hub id is kept."""
    return cache_directory() / "bundles" / model.replace("/", "--")
