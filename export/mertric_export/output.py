"""Directories that appear whole or not at all."""

from __future__ import annotations

import glob
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mertric.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def require_free(output: Path, *, manifest: str, force: bool) -> None:
    """Check that a directory can be written.

    Parameters
    ----------
    output
        It must not be there, or be empty, or with `force` hold a file called `manifest`.

    Raises
    ------
    ExportError
        It is taken.
    """
    empty = output.is_dir() and not any(output.iterdir())
    if force and output.exists() and not empty and not (output / manifest).is_file():
        raise ExportError(
            f"{output} holds no {manifest}, so no export wrote it, and --force leaves it alone. Choose another place "
            "with -o."
        )
    if output.exists() and not empty and not force:
        raise ExportError(
            f"{output} exists already. Choose another place with -o, or replace what an earlier export wrote there "
            "with --force."
        )


@contextmanager
def only_writer(output: Path, *, notify: Callable[[str], None]) -> Iterator[None]:
    """Keep other threads and processes that call this too from writing a directory; wait for one that does.

    What one that was killed left beside it is removed.

    Parameters
    ----------
    output
        The directory. A lock is kept in a file beside it.
    notify
        Gets a line if there is something to wait for.

    Raises
    ------
    ExportError
        The file system refuses the lock.
    """
    lock = FileLock(output.with_name(f".{output.name}.lock"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            notify(f"Waiting for another run that writes {output}.")
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise ExportError(f"{output} cannot be written ({error}).") from error
    try:
        for left in output.parent.glob(_unfinished(glob.escape(output.name), "?" * 8)):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextmanager
def new_directory(output: Path, *, manifest: str, force: bool) -> Iterator[Path]:
    """Yield an empty directory beside `output` that takes its place when the block ends without an error.

    Where `output` is a link, what it points to is replaced.

    Raises
    ------
    ExportError
        See `require_free`, also where another process has meanwhile written there; or the file system refuses.
    """
    try:
        output = output.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise ExportError(f"{output} cannot be written ({error}). Choose another place with -o.") from error
    require_free(output, manifest=manifest, force=force)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(_unfinished(output.name, secrets.token_hex(4)))
        temporary.mkdir()
    except OSError as error:
        raise ExportError(f"{output} cannot be written ({error}). Choose another place with -o.") from error
    try:
        yield temporary
        require_free(output, manifest=manifest, force=force)
        _replace(output, temporary)
    except OSError as error:
        raise ExportError(f"{output} cannot be written ({error}). Nothing was changed.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unfinished(name: str, number: str) -> str:
    return f".{name}.{number}"


def _replace(old: Path, new: Path) -> None:
    """Put `new` in the place of `old`, which stays if that fails."""
    if not old.exists():
        new.replace(old)
        return
    aside = new.with_name(f"{new.name}.old")
    old.replace(aside)
    try:
        new.replace(old)
    except BaseException:
        aside.replace(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)
