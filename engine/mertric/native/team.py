"""Threads that share the parts of one run."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from mertric.cores import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Part = TypeVar("Part")


class Team:
    """Runs the parts of a run in several threads, the caller's among them. Safe to use from several threads.

    Parameters
    ----------
    threads
        How many; None for one a core.
    """

    def __init__(self, threads: int | None) -> None:
        self.threads = threads or cores()
        self._pool = self._open()
        self._process = os.getpid()

    def each(self, function: Callable[[Part], None], parts: Iterable[Part]) -> None:
        """Call a function with each part, in any order, and return when no thread is at it any more.

        An error stops what has not begun, and is raised.
        """
        left = deque(parts)

        def work() -> None:
            try:
                while True:
                    try:
                        part = left.popleft()
                    except IndexError:
                        return
                    function(part)
            except BaseException:
                left.clear()
                raise

        if self._process != os.getpid():  # threads do not survive a fork
            self._pool, self._process = self._open(), os.getpid()
        others: list[Future[None]] = []
        try:
            others.extend(self._pool.submit(work) for _ in range(min(self.threads, len(left)) - 1))
            work()
        finally:
            left.clear()
            begun = [other for other in others if not other.cancel()]
            wait(begun)
        for other in begun:
            other.result()

    def _open(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="mertric-native")
