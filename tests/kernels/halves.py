"""Numbers in bfloat16 and in pieces of it, in NumPy."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_ULP = 2.0**-8
"""Of bfloat16, in units of the number."""
LEFT = {1: 2.0**-8, 2: 2.0**-16, 3: 2.0**-23}
"""What so many pieces leave of a number, at most, and of float32 itself."""


def narrow(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to bfloat16, of two equally near numbers to the one farther from 0."""
    return ((np.ascontiguousarray(x, np.float32).view(np.uint32) + np.uint32(0x8000)) >> 16).astype(np.uint16)


def wide(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return wide(narrow(x)).astype(np.float64)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gelu_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x * np.vectorize(NormalDist().cdf)(x))


def parted(x: NDArray[np.float32], pieces: int = 1) -> NDArray[np.uint16]:
    """Part numbers: uint16 [pieces, numbers]."""
    found, left = [], np.ascontiguousarray(x, np.float32).reshape(-1)
    for _ in range(pieces):
        found.append(narrow(left))
        left = left - wide(found[-1])
    return np.stack(found)


def whole(numbers: NDArray[np.uint16], *shape: int) -> NDArray[np.float64]:
    """Put numbers together again."""
    return wide(numbers).astype(np.float64).sum(axis=0).reshape(shape)
