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
    run, the process's BLAS libraries are held to the cores that are left for each, and set back afterwards.
    The first error stops what has not begun and is raised.

    Parameters
    ----------
    workers
        Number of threads, BLAS's included; None for one a core.
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
    left = 1 if workers else max(1, cores() // threads)
    with _blas().limit(limits=left, user_api="blas"):
        if threads == 1:
            return [run(item) for item in todo]
        with ThreadPoolExecutor(threads, thread_name_prefix="mertric") as pool:
            futures = [pool.submit(run, item) for item in todo]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()


def side_by_side(*tasks: Callable[[], Result], worth: bool = True) -> list[Result]:
    """Results of parts of one pair, a thread each where they are `worth` the 0.1 ms that threads cost.

    Where other pairs keep the cores busy, the parts run one after the other.
    """
    if not worth or getattr(_thread, "busy", False):
        return [task() for task in tasks]
    return map_threads(lambda task: task(), tasks)


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be found)

    return ThreadpoolController()
