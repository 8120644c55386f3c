"""Copies between arrays and an NVIDIA GPU at the full rate of its bus: through page-locked memory, by several threads.

From other memory CUDA's driver copies piece by piece, and a new array gets its pages one after the other meanwhile:
18 ms for 55 MB, which take 6 so, and the bus 1.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.cores import cores
from mertric.parting import even_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MOST = 1 << 25
"""Bytes of page-locked memory, at most, if a row is no longer: more is no faster, and is kept from other processes."""
_PART = 1 << 21
"""Bytes that a thread copies at least: waking it takes as long as some 100 KiB."""
_THREADS = min(8, cores())
_PORTABLE = 1
"""``CU_MEMHOSTALLOC_PORTABLE``: page-locked for whatever context is current."""
_RELAXED = 2
"""``CU_STREAM_CAPTURE_MODE_RELAXED``: recordings of other threads are no reason to refuse a call."""


class PageLocked:
    """Page-locked memory of the first GPU's driver, and copies through it. For one thread, which it is made in.

    Parameters
    ----------
    row, rows
        Bytes of the largest row that will be copied, and of all that are copied together.

    Raises
    ------
    OSError
        There is no driver, or it refuses.
    """

    def __init__(self, row: int, rows: int) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        device, context, self._address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)  # the one that ONNX Runtime uses
        self._call("cuCtxSetCurrent", context)
        size = max(row, min(rows, _MOST))
        self._call("cuMemHostAlloc", ctypes.byref(self._address), ctypes.c_size_t(size), _PORTABLE)
        weakref.finalize(self, _free, self._library, device, context, self._address).atexit = False
        self._memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._address.value or 0))

    def upload(self, rows: Sequence[NDArray[Any]], size: int, address: int) -> None:
        """Copy arrays, contiguous, to places of so many bytes in the device's memory; zeros follow shorter ones."""
        for first, places in self._places(len(rows), size):
            copies = []
            for row, place in zip(map(_flat, rows[first:]), places, strict=False):
                copies.append((row, place[: row.size]))
                place[row.size :] = 0
            self._copy(copies)
            there, here = ctypes.c_uint64(address + first * size), self._address
            self._call("cuMemcpyHtoD_v2", there, here, ctypes.c_size_t(places.size))

    def download(self, address: int, size: int, rows: Sequence[NDArray[Any]]) -> None:
        """Fill arrays, contiguous and of so many bytes each, from places in the device's memory."""
        for first, places in self._places(len(rows), size):
            there, here = ctypes.c_uint64(address + first * size), self._address
            self._call("cuMemcpyDtoH_v2", here, there, ctypes.c_size_t(places.size))
            self._copy([(place, _flat(row)) for place, row in zip(places, rows[first:], strict=False)])

    def _places(self, count: int, size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield places for rows of so many bytes, as many at once as there is room for, and the first one's number."""
        together = self._memory.size // size
        for first in range(0, count, together):
            rows = min(together, count - first)
            yield first, self._memory[: rows * size].reshape(rows, size)

    def _copy(self, copies: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
        """Copy bytes to other places, by as many threads as that is worth."""
        threads = min(_THREADS, sum(source.size for source, _ in copies) // _PART)
        if threads < 2:
            _copy_all(copies)
            return
        parts: list[list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = [[] for _ in range(threads)]
        for source, target in copies:
            for part, (start, end) in zip(parts, even_parts(source.size, threads), strict=True):
                part.append((source[start:end], target[start:end]))
        list(_pool().map(_copy_all, parts))

    def _call(self, name: str, *arguments: Any) -> None:
        """Call one of the driver's functions."""
        function: Callable[..., int] = getattr(self._library, name)
        if problem := function(*arguments):
            raise OSError(f"CUDA's {name} failed with error {problem}")


def _free(library: Any, device: ctypes.c_int, context: ctypes.c_void_p, address: ctypes.c_void_p) -> None:
    """Give page-locked memory back, in whatever thread lets go of it last, and though another may record a graph."""
    mode = ctypes.c_int(_RELAXED)
    library.cuCtxPushCurrent_v2(context)
    library.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    library.cuMemFreeHost(address)
    library.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    library.cuDevicePrimaryCtxRelease_v2(device)


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads that copy, of all sessions: one of them copies at a time, or the bus is busy anyway."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="mertric-copy")


def _copy_all(copies: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    for source, target in copies:
        target[:] = source


def _flat(array: NDArray[Any]) -> NDArray[np.uint8]:
    """View an array as bytes."""
    return array.reshape(-1).view(np.uint8)
