"""The one place of compilation settings, and what compiling costs here.

Kernels compile at their first call, never at import, and are kept on disk by Numba: beside this package, in
`NUMBA_CACHE_DIR` if set, else in the user's cache directory. Numba writes each entry to a temporary file
and renames it, so any number of processes may share a cache. Where no directory is writable, kernels are
compiled in memory, once a process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

# Sums may be reordered and contracted, so that they vectorise; NaN and infinity keep their meaning.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

_examples: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {}


def kernel(
    *, example: Callable[[], tuple[Any, ...]] | None = None, in_order: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function with the settings that all kernels share.

    Kernels release the GIL, divide by zero as NumPy does, and start no threads of their own: callers run
    them in parallel from Python threads.

    Parameters
    ----------
    example
        Makes small arguments of the types the kernel is used with; `compile_report` calls the kernel with
        them. Left out for parts that only other kernels call.
    in_order
        Do arithmetic in the order it is written, for kernels that keep rounding errors on purpose.
    """

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        settings: dict[str, Any] = {"nogil": True, "fastmath": not in_order and FASTMATH, "error_model": "numpy"}
        try:
            dispatcher = numba.njit(cache=True, **settings)(function)
        except RuntimeError:  # Numba found no writable cache directory
            dispatcher = numba.njit(cache=False, **settings)(function)
        if example is not None:
            _examples[function.__name__] = (dispatcher, example)
        return dispatcher  # type: ignore[no-any-return]

    return compiled


@dataclass(frozen=True)
class KernelCost:
    """What one kernel's first call cost: `seconds` of wall time, and whether it came from the disk cache."""

    name: str
    seconds: float
    from_cache: bool


@dataclass(frozen=True)
class CompileReport:
    """Where kernels are cached (None: in memory only) and what each one's first call cost here."""

    cache_directory: str | None
    kernels: tuple[KernelCost, ...]

    @property
    def seconds(self) -> float:
        """First-call cost of all kernels together, in seconds."""
        return sum(cost.seconds for cost in self.kernels)

    @property
    def compiled(self) -> int:
        """Number of kernels that had to be compiled, not read from the cache, in this process."""
        return sum(not cost.from_cache for cost in self.kernels)


def compile_report() -> CompileReport:
    """Call every kernel once on a small example and tell what that cost.

    Kernels that this process has used already cost next to nothing; in a fresh process with a filled cache
    the figures are the cost of reading it.
    """
    from mertric.kernels import bidiagonal, differences, gaussian, half, moments, nuclear  # noqa: F401

    costs = [_first_call(name, *entry) for name, entry in sorted(_examples.items())]
    directories = {dispatcher.stats.cache_path for dispatcher, _ in _examples.values()}  # type: ignore[attr-defined]
    return CompileReport(directories.pop(), tuple(costs))


def _first_call(name: str, dispatcher: Callable[..., Any], example: Callable[[], tuple[Any, ...]]) -> KernelCost:
    arguments = example()
    start = time.perf_counter()
    dispatcher(*arguments)
    seconds = time.perf_counter() - start
    return KernelCost(name, seconds, not dispatcher.stats.cache_misses)  # type: ignore[attr-defined]
