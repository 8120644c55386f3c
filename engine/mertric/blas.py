"""How many threads the process's BLAS libraries take, while several callers want different numbers at once."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = Lock()
_wanted: list[int] = []
"""The limits of all callers that are inside `limited`."""
_before: dict[str, tuple[Any, int]] = {}
"""By their files, the libraries that these callers found, and their numbers of threads then."""


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold BLAS to so many threads a call. Of several callers at once the lowest number holds.

    It is the whole process that is limited: the last caller to leave sets back what the first one found. A single
    thread also leaves none behind: OpenBLAS's others spin for a while after a call, on cores that a session may want.
    """
    with _lock:
        for library in _libraries("scipy.linalg" in sys.modules):
            if library.filepath not in _before:
                _before[library.filepath] = library, library.num_threads
        _wanted.append(threads)
        _apply()
    try:
        yield
    finally:
        with _lock:
            if threads in _wanted:  # not in a child that was forked meanwhile
                _wanted.remove(threads)
            _apply()
            if not _wanted:
                _before.clear()


def _apply() -> None:
    """Set what is wanted, from whatever thread.

    Of OpenBLAS, threadpoolctl from 3.8 on lets one thread of the process set the number and ignores all others. Here a
    lock orders them, so each takes over, and leaves the next, which may not be of this module, to do so too.
    """
    for library, threads in _before.values():
        _free(library)
        library.set_num_threads(min(_wanted, default=threads))
        _free(library)


def _free(library: Any) -> None:
    """Let any thread be the next to set a library's number."""
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


def _forget() -> None:
    """Let a forked child begin anew: the threads that were inside `limited` are not there to leave it."""
    global _lock
    _lock = Lock()
    _wanted.clear()
    _apply()
    _before.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache
def _libraries(_: bool) -> list[Any]:
    """Find the BLAS libraries that are loaded: NumPy's, and, once it is there, SciPy's own."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
