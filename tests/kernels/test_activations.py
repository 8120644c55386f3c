"""The GELU and powers of two against float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from kinds import gelu_of

from mertric.kernels.activations import fine_gelu, fine_power_of_two, gelu, power_of_two
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, store
from mertric.kernels.sizes import SINGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def apply_gelu(x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    for j in range(x.size // SINGLES):
        store(y, j, gelu(load(x, j)))


@kernel()
def apply_fine(x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32]) -> None:
    for j in range(x.size // SINGLES):
        store(y, j, fine_gelu(load(x, j)))
        store(z, j, fine_power_of_two(load(x, j)))


@kernel()
def apply_power(x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    for j in range(x.size // SINGLES):
        store(y, j, power_of_two(load(x, j)))


def test_gelu() -> None:
    x = np.linspace(-12, 12, 4096).astype(np.float32)
    y = np.empty_like(x)
    apply_gelu(x, y)
    error = np.abs(y - gelu_of(x.astype(np.float64)))
    assert error[np.abs(x) <= 4.5].max() < 2.5e-6
    assert (error <= np.maximum(2.5e-6, 3.5e-6 * np.abs(x))).all()


def test_fine_gelu_and_power_of_two() -> None:
    x = np.linspace(-140, 12, 40000).astype(np.float32)
    y, z = np.empty((2, x.size), np.float32)
    apply_fine(x, y, z)
    double = x.astype(np.float64)
    assert (np.abs(y - gelu_of(double)) <= 2e-7 * np.maximum(1, np.abs(double))).all()
    negative = x <= 0
    np.testing.assert_allclose(z[negative], 2.0 ** np.maximum(double[negative], -126), rtol=3e-7)


def test_power_of_two() -> None:
    x = np.concatenate([np.linspace(-126, 0, 4080), [-126, -127, -1e4, -np.inf, -0.5, -1.5, -1, 0] * 2])
    y = np.empty(x.size, np.float32)
    apply_power(x.astype(np.float32), y)
    expected = 2.0 ** np.maximum(x.astype(np.float32).astype(np.float64), -126)
    np.testing.assert_allclose(y, expected, rtol=3e-6)
