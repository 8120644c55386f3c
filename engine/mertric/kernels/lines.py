"""Arrays laid out by cache lines, as tiles and vectors read them.

A row of a tile is one line. If it lies across two, reading it takes twice as long; and rows that are a power of two of
lines apart meet in a few places of a core's first-level cache, which then cannot hold all rows of a block.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINE = 64
"""Bytes of a line."""
_NUMBERS = LINE // 4
"""Of float32 in a line."""


def empty(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array that begins with a line, with anything in it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    return room[begin : begin + size].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array of zeros that begins with a line."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


@kernel()
def singles(count: int) -> NDArray[np.float32]:
    """Float32 [count] that begins with a line, for kernels."""
    room = np.empty(count + _NUMBERS, np.float32)
    begin = -(room.ctypes.data // 4) % _NUMBERS
    return room[begin : begin + count]
