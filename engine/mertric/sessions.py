"""Sessions by what they are for, each opened at its first use."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mertric.session import Session

Key = TypeVar("Key", bound=Hashable)


class Sessions(Mapping[Key, "Session"]):
    """What is open, by key. Safe to use from several threads: one opens a session, those that want the same wait.

    Parameters
    ----------
    opener
        Opens the session for a key.
    """

    def __init__(self, opener: Callable[[Key], Session]) -> None:
        self._opener = opener
        self._futures: dict[Key, Future[Session]] = {}
        self._lock = threading.Lock()

    def open(self, key: Key) -> Session:
        """Return the session for a key. One that could not be opened is tried again by whoever asks next."""
        with self._lock:
            future = self._futures.get(key)
            mine = future is None
            if future is None:
                future = self._futures[key] = Future()
        if mine:
            try:
                future.set_result(self._opener(key))
            except BaseException as error:
                with self._lock:
                    if self._futures.get(key) is future:
                        del self._futures[key]
                future.set_exception(error)
        return future.result()

    def close(self) -> None:
        """Let go of all, and of the memory that they hold."""
        with self._lock:
            self._futures.clear()

    def __getitem__(self, key: Key) -> Session:
        with self._lock:
            future = self._futures[key]
        if not future.done():
            raise KeyError(key)
        return future.result()

    def __iter__(self) -> Iterator[Key]:
        with self._lock:
            return iter([key for key, future in self._futures.items() if future.done()])

    def __len__(self) -> int:
        return sum(1 for _ in self)
