"""The one place of compilation settings.

Kernels compile at their first call, never at import, and are kept on disk by Numba: beside this package, in
`NUMBA_CACHE_DIR` if set, else in the user's cache directory. Numba writes each entry to a temporary file
and renames it, so any number of processes may share a cache; a damaged entry is compiled again. Where nothing can be
written, kernels are compiled in memory, once a process.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
from numba.core.caching import FunctionCache
from numba.core.event import Listener, register
from numba.extending import intrinsic, overload

from mertric.kernels.processor import why_no_tiles, why_no_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)

# Sums may be reordered and contracted, so that they vectorise; NaN and infinity keep their meaning.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

examples: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {}
"""Every kernel that is called from outside, by name, with what makes small arguments for it."""


@cache
def _sources() -> str:
    """A digest of all kernels' sources: a compiled kernel holds the others that it calls, in whatever files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """Numba's cache, for which a damaged entry, as a full disk leaves it, is a missing one. It need not keep any.

    Numba looks at a kernel's own file only, and at what the processor has, not at whether Linux lets it be used.
    """

    def _index_key(self, sig: object, codegen: object) -> tuple[object, ...]:
        key: tuple[object, ...] = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return *key, _sources(), why_no_tiles() is None, why_no_vectors() is None

    def load_overload(self, sig: object, target_context: object) -> object:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: object, data: object) -> None:
        with suppress(Exception):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


class _Announcement(Listener):
    """Logs, once, that kernels are being compiled, which may take longer than the work that they are for."""

    _said = False

    def on_start(self, event: Any) -> None:
        dispatcher = event.data["dispatcher"]
        module = dispatcher.py_func.__module__ or ""  # what `exec` makes may have none
        if not self._said and module.startswith("mertric."):
            self._said = True
            kept = ", once" if isinstance(dispatcher._cache, _Cache) else ""
            _LOGGER.info("Compiling kernels for this processor%s, which may take half a minute.", kept)

    def on_end(self, event: Any) -> None:
        """Nothing: others follow it."""


register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]


def kernel(
    *, example: Callable[[], tuple[Any, ...]] | None = None, in_order: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function with the settings that all kernels share.

    Kernels release the GIL, divide by zero as NumPy does, and start no threads of their own: callers run
    them in parallel from Python threads.

    Parameters
    ----------
    example
        Makes small arguments of the types the kernel is used with; `mertric.kernels.costs` calls the
        kernel with them. Left out for parts that only other kernels call, and for what computes the model, which is
        compiled where it is asked for.
    in_order
        Do arithmetic in the order it is written, for kernels that keep rounding errors on purpose.
    """

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        settings: dict[str, Any] = {"nogil": True, "fastmath": not in_order and FASTMATH, "error_model": "numpy"}
        dispatcher = numba.njit(**settings)(function)
        with suppress(RuntimeError):  # Numba finds no writable cache directory
            dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]  # as `enable_caching` does
        if example is not None:
            examples[function.__name__] = (dispatcher, example)
        return dispatcher  # type: ignore[no-any-return]

    return compiled


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let kernels call what writes LLVM's code: Numba's `intrinsic`, which mypy knows nothing of."""
    return intrinsic(function)


def by_numbers(**kernels: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function be, within kernels, the one of these kernels that is named as its first argument's dtype."""

    def chosen(function: Callable[..., Any]) -> Callable[..., Any]:
        @overload(function)
        def choose(*arguments: Any) -> Callable[..., Any]:
            own = kernels[str(arguments[0].dtype)]

            def call(*arguments: Any) -> Any:
                return own(*arguments)

            call.__qualname__ = function.__qualname__
            return call

        return function

    return chosen
