"""Float16 to float32, which Numba cannot read by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _example() -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    return np.zeros(16, np.uint16), np.empty(16, np.uint32)


@kernel(example=_example)
def widen_half(halves: NDArray[np.uint16], singles: NDArray[np.uint32]) -> None:
    """Write the bits of IEEE 754 halves (1, 5, 10 bits) as those of the equal float32 times 2^-112.

    The exponent's bias differs by 112, which the caller multiplies in: exact, for subnormal halves too.
    Infinity and NaN keep a full exponent.
    """
    for i in range(halves.size):
        bits = np.uint32(halves[i])
        full = np.uint32(0x7F800000) if (bits & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
        shifted = (bits & np.uint32(0x7FFF)) << np.uint32(13)
        singles[i] = shifted | full | ((bits & np.uint32(0x8000)) << np.uint32(16))


def half_to_single(x: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same values as contiguous float32, [frames, dim]."""
    contiguous = np.ascontiguousarray(x)
    bits = np.empty(contiguous.size, np.uint32)
    widen_half(contiguous.view(np.uint16).reshape(-1), bits)
    values = bits.view(np.float32)
    with np.errstate(invalid="ignore"):  # NaN times a number is no fault of the caller
        values *= np.float32(2.0**112)
    return values.reshape(contiguous.shape)
