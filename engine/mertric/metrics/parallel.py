"""Work over all cores without oversubscription: many Python threads, one BLAS thread each."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import local
from typing import TYPE_CHECKING, Any, TypeVar

from mertric.blas import limited
from mertric.cores import cores
from mertric.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

_thread = local()
"""`busy` is true in threads that share the cores with others of this module."""


def map_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> list[Result]:
    """Results of `function` in the order of `items`, computed by `workers` threads.

    The functions spend their time in BLAS, LAPACK and kernels that release the GIL. While several threads
    run, the process's BLAS libraries are held to the cores that are left for each, and set back afterwards.
    The first error stops what has not begun and is raised.

    Parameters
    ----------
    workers
        Number of threads, BLAS's included; None for one a core.
    """
    todo = list(items)
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; expected at least 1, or None for one a core.")
    threads = min(workers or cores(), len(todo))
    if not todo or (len(todo) == 1 and workers is None):
        return [function(item) for item in todo]
    left = 1 if workers else max(1, cores() // threads)
    with limited(left):
        if threads == 1:
            return [_busily(function, item) for item in todo]
        with ThreadPoolExecutor(threads, thread_name_prefix="mertric") as pool:
            futures = [pool.submit(_busily, function, item) for item in todo]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int,
    size: Callable[[Item], int],
    memory: int,
) -> Iterator[Result]:
    """Yield results of `function` in the order of `items`, computed in other threads while the next items are drawn.

    Drawing an item may take long; it is done in the caller's thread. Each result is computed on one core, whatever else
    is computed beside it; on all cores where only 1 is drawn ahead, as it is then waited for.

    Parameters
    ----------
    ahead
        Items drawn before the result of the first of them is waited for, at most.
    size
        Gives the bytes that an item holds.
    memory
        Bytes of items from which on no more are drawn before a result.
    """
    if ahead == 1:
        yield from map(function, items)
        return
    pending: deque[tuple[Future[Result], int]] = deque()
    with ThreadPoolExecutor(min(ahead, cores()), thread_name_prefix="mertric-ahead") as pool:
        try:
            for item in items:
                pending.append((pool.submit(_on_one_core, function, item), size(item)))
                del item  # what it holds is let go with its result
                while pending and (
                    pending[0][0].done() or len(pending) >= ahead or sum(held for _, held in pending) >= memory
                ):
                    yield pending.popleft()[0].result()
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()


def side_by_side(
    first: Callable[[], Result], second: Callable[[], Result], *, worth: bool = True
) -> tuple[Result, Result]:
    """Results of two parts of one pair, in two threads where that is `worth` the 0.1 ms that it costs.

    Where other pairs keep the cores busy, or the other thread has not begun in time, one follows the other.
    """
    if not (worth and _alone()):
        return first(), second()
    with limited(max(1, cores() // 2)):
        other = _helper().submit(_busily, second)
        try:
            result = _busily(first)
        finally:
            late = other.cancel()
            if not late:
                wait([other])
        return result, second() if late else other.result()


def in_halves(function: Callable[[slice], Result], size: int, *, worth: bool) -> tuple[Result, ...]:
    """Results of `function` for both halves of a range side by side, or for all of it where that is no gain."""
    if not (worth and _alone()):
        return (function(slice(size)),)
    middle = size // 2
    return side_by_side(lambda: function(slice(middle)), lambda: function(slice(middle, size)))


def _alone() -> bool:
    return cores() > 1 and not getattr(_thread, "busy", False)


def _on_one_core(function: Callable[[Item], Result], item: Item) -> Result:
    with limited(1):
        return _busily(function, item)


def _busily(function: Callable[..., Result], *arguments: Any) -> Result:
    before = getattr(_thread, "busy", False)
    _thread.busy = True
    try:
        return function(*arguments)
    finally:
        _thread.busy = before


@cache
def _helper() -> ThreadPoolExecutor:
    """The second thread of lone pairs, kept: starting one takes longer than many a half."""
    return ThreadPoolExecutor(1, thread_name_prefix="mertric-half")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helper.cache_clear)  # threads do not survive a fork
