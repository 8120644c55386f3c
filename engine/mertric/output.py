"""Files that appear whole or not at all, and what is said where they cannot be written."""

from __future__ import annotations

import os
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mertric.errors import OutputError
from mertric.names import folded

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_OUTPUT = Path("/dev/stdout")


def is_stream(path: Path) -> bool:
    """Whether a path is a name of a stream of this process, which may be a file for now."""
    return path.absolute().as_posix().startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/"))


def spelling(path: Path) -> str:
    """Return what a path is to a file system that, as usual on this one, does not tell case or composition apart."""
    text = str(path)
    return folded(text) if sys.platform in ("darwin", "win32") else text


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system says while `path` is written into an OutputError.

    Raises
    ------
    OutputError
        The block ended with an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}). Check the path and the space that is free, or name "
            "another."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file beside `path`, of the same ending, that takes its place when the block ends without an error.

    Folders above are made where they are missing; of a link, what it points to is replaced.

    Raises
    ------
    OutputError
        The file system refuses.
    """
    target = Path(os.path.realpath(path))  # which has an answer to a link to itself too: the link
    digest = zlib.crc32(os.fsencode(target.name))  # the name itself may be as long as a name can be
    partial = target.with_name(f".{os.getpid()}.{digest:08x}{target.suffix[:8]}")
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
