"""What compiling the kernels costs here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mertric.kernels import band, differences, gaussian, half, moments, nuclear, triangular  # noqa: F401  (they register)
from mertric.kernels.jit import examples

if TYPE_CHECKING:
    from collections.abc import Callable


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
    costs = [_first_call(name, *entry) for name, entry in sorted(examples.items())]
    directories = {dispatcher.stats.cache_path for dispatcher, _ in examples.values()}  # type: ignore[attr-defined]
    return CompileReport(directories.pop(), tuple(costs))


def _first_call(name: str, dispatcher: Callable[..., Any], example: Callable[[], tuple[Any, ...]]) -> KernelCost:
    arguments = example()
    start = time.perf_counter()
    dispatcher(*arguments)
    seconds = time.perf_counter() - start
    return KernelCost(name, seconds, not dispatcher.stats.cache_misses)  # type: ignore[attr-defined]
