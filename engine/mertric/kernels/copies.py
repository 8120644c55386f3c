"""Copies of parts of arrays.

What Numba makes of an assignment of an array to a slice takes seconds to compile, most of it the message of an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def copy(source: NDArray[Any], out: NDArray[Any]) -> None:
    """Write one array [rows, columns] over another of that shape, which is not checked and no part of it."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = source[i, j]
