"""Factors of products in NumPy: numbers in pieces of bfloat16, in float32, and in integers with scales."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.factors import Factors
from mertric.kernels.sizes import STEP

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

KINDS = {
    "bf16": Factors(np.uint16, 1),
    "bf16x2": Factors(np.uint16, 2),
    "bf16x3": Factors(np.uint16, 3),
    "float32": Factors(np.float32),
    "int16": Factors(np.int16),
}
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


def zeros_of(kind: Factors, numbers: int) -> NDArray[Any]:
    array = kind.empty(numbers)
    array.fill(0)
    return array


def stored(x: NDArray[np.float32], kind: Factors, stride: int) -> NDArray[Any]:
    """Rows [rows, n] as factors, so many numbers apart; between them is what nothing reads."""
    rows, n = x.shape
    room = np.full((kind.pieces, rows * stride), 0x7FC0, kind.dtype)
    own = room.reshape(kind.pieces, rows, stride)[:, :, :n]
    if kind.dtype == np.uint16:
        own[:] = parted(x, kind.pieces).reshape(kind.pieces, rows, n)
        return room
    if kind.dtype == np.float32:
        room.fill(np.nan)
        own[0] = x
        return room
    scales = np.full((rows, stride // STEP), np.nan, np.float32)
    integers, found = _scaled(x.reshape(rows, -1, STEP))
    own[0], scales[:, : n // STEP] = integers.reshape(rows, n), found
    return np.concatenate([room, scales.reshape(1, -1).view(np.int16)], axis=1)


def _scaled(lines: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    most = np.maximum(np.abs(lines).max(axis=-1), np.float32(1e-30))
    return np.rint(lines * (np.float32(8191) / most)[..., None]).astype(np.int16), most / np.float32(8191)


def read(array: NDArray[Any], kind: Factors, rows: int, stride: int) -> NDArray[np.float64]:
    """The numbers of factors, [rows, stride]."""
    if kind.dtype == np.uint16:
        return whole(array, rows, stride)
    if kind.dtype == np.float32:
        return array.astype(np.float64).reshape(rows, stride)
    numbers = rows * stride
    scales = np.ascontiguousarray(array[0, numbers:]).view(np.float32).astype(np.float64)
    return (array[0, :numbers].reshape(-1, STEP) * scales[:, None]).reshape(rows, stride)


def as_factors(x: NDArray[np.float32], kind: Factors) -> NDArray[np.float64]:
    """What factors of a kind hold of rows of whole steps."""
    return read(stored(x, kind, x.shape[1]), kind, *x.shape)


def left(kind: Factors) -> float:
    """What factors leave of numbers, at most, as a part of the largest beside each."""
    return {np.uint16: LEFT[kind.pieces], np.float32: LEFT[3], np.int16: 1 / 16380}[kind.dtype]


def whole(numbers: NDArray[np.uint16], *shape: int) -> NDArray[np.float64]:
    """Put numbers together again."""
    return wide(numbers).astype(np.float64).sum(axis=0).reshape(shape)
