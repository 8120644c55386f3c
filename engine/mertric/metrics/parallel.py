"""Work over all cores without oversubscription: many Python threads, one BLAS thread each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import local
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from mertric.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Item = TypeVar("Item")
Result = TypeVar("Result")

_thread = local()
"""`busy` is true in threads that `map_threads` runs: the other cores have work of their own."""


def cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> list[Result]:
    """Results of `function` in the order of `items`, computed by `workers` threads.

    The functions spend their time in BLAS, LAPACK and kernels that release the GIL. While several threads
    run, the process's BLAS libraries are held to one thread a call, and set back afterwards. The first
    error stops what has not begun and is raised.

    Parameters
    ----------
    workers
        Number of threads; None for one a core.
    """

    def run(item: Item) -> Result:
        _thread.busy = True
        try:
            return function(item)
        finally:
            _thread.busy = False

    todo = list(items)
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; expected at least 1, or None for one a core.")
    threads = min(workers or cores(), len(todo))
    if len(todo) <= 1:
        return [function(item) for item in todo]
    with _blas().limit(limits=1, user_api="blas"):
        if threads == 1:
            return [run(item) for item in todo]
        with ThreadPoolExecutor(threads, thread_name_prefix="mertric") as pool:
            futures = [pool.submit(run, item) for item in todo]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()


def side_by_side(first: Callable[[], Item], second: Callable[[], Result]) -> tuple[Item, Result]:
    """Results of two functions, of one pair, in two threads unless other pairs keep the cores busy."""
    if getattr(_thread, "busy", False) or cores() < 2:
        return first(), second()
    with ThreadPoolExecutor(1, thread_name_prefix="mertric") as pool:
        other = pool.submit(second)
        return first(), other.result()


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be found)

    return ThreadpoolController()
