"""How many threads the process's BLAS libraries take, while several callers want different numbers at once."""

from __future__ import annotations

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
_before: list[tuple[Any, int]] = []
"""The libraries that the first of them found, and their numbers of threads."""


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold BLAS to so many threads a call. Of several callers at once the lowest number holds.

    It is the whole process that is limited: the last caller to leave sets back what the first one found.
    """
    with _lock:
        if not _wanted:
            _before[:] = [(library, library.num_threads) for library in _libraries()]
        _wanted.append(threads)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(threads)
            _apply()


def _apply() -> None:
    for library, threads in _before:
        library.set_num_threads(min(_wanted, default=threads))


@cache
def _libraries() -> list[Any]:
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be found)

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
