"""Convolutions by Fourier transforms, against sums over the taps in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from kinds import gelu_of, normal

from mertric.kernels.fourier import add_convolution, memory, points, spectra, transform, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]


@pytest.mark.parametrize(
    ("taps", "size"), [(1, 4), (2, 4), (3, 16), (8, 16), (9, 64), (32, 64), (128, 256), (129, 1024)]
)
def test_points_are_twice_the_taps_at_least(taps: int, size: int) -> None:
    assert points(taps) == size


@pytest.mark.parametrize("size", [4, 16, 64, 256, 1024])
def test_transform(size: int) -> None:
    rows = normal(size, 2, 16)
    got = transform(rows.reshape(-1).copy(), np.full(rows.size, np.nan, np.float32), turns(size)).reshape(rows.shape)
    expected = np.fft.fft(rows[:, 0] + 1j * rows[:, 1].astype(np.float64), axis=0)
    scale = np.abs(expected).max()
    assert np.abs(got[:, 0] - expected.real).max() < 1e-6 * scale
    assert np.abs(got[:, 1] - expected.imag).max() < 1e-6 * scale


def convolved(features: Singles, weight: Singles, bias: Singles) -> NDArray[np.float64]:
    """The GELU of a group's convolution, half of whose taps are before a frame."""
    frames, taps = len(features), len(weight)
    padded = np.pad(features.astype(np.float64), ((taps // 2, taps), (0, 0)))
    sums = sum((padded[tap : tap + frames] @ own for tap, own in enumerate(weight.astype(np.float64))), np.zeros(()))
    return gelu_of(sums + bias)


def added(features: Singles, column: int, weight: Singles, bias: Singles) -> Singles:
    """Features with the convolution of the columns from one on added to them."""
    taps, width, _ = weight.shape
    roots, out = turns(points(taps)), features.copy()
    rows = np.ascontiguousarray(features[:, column : column + width]).reshape(-1)
    own = spectra(weight, roots).reshape(-1)
    add_convolution(rows, taps, own, roots, bias, out.reshape(-1), column, out.shape[1])
    return out


@pytest.mark.parametrize("frames", [1, 56, 57, 112, 113, 200, 896, 912, 1000])
@pytest.mark.parametrize(("taps", "width"), [(9, 16), (8, 32), (1, 16), (12, 48)])
def test_a_group_of_columns(frames: int, taps: int, width: int) -> None:
    """Of blocks of 56 rows, which 9 taps have: one, two and more, whole or not, and more than are computed at once."""
    features, weight, bias = normal(frames, 2 * width + 16), normal(taps, width, width, seed=1), normal(width, seed=2)
    weight /= np.float32(np.sqrt(taps * width))
    got, own = added(features, 16, weight, bias), slice(16, 16 + width)
    expected = features[:, own] + convolved(features[:, own], weight, bias)
    np.testing.assert_allclose(got[:, own], expected, rtol=0, atol=4e-6)
    np.testing.assert_array_equal(np.delete(got, own, axis=1), np.delete(features, own, axis=1))


def test_as_many_taps_as_mert_has() -> None:
    features, weight, bias = normal(374, 48), normal(128, 48, 48, seed=1) / 80, normal(48, seed=2)
    expected = features + convolved(features, weight.astype(np.float32), bias)
    np.testing.assert_allclose(added(features, 0, weight.astype(np.float32), bias), expected, rtol=0, atol=4e-6)


def test_silent_blocks_stay_silent() -> None:
    features, weight, bias = np.zeros((400, 16), np.float32), normal(16, 16, 16, seed=1), np.zeros(16, np.float32)
    features[399] = 1
    assert not added(features, 0, weight, bias)[:300].any()


def test_one_block_of_a_pair_is_heard_in_the_other_by_roundings_only() -> None:
    """The first 49 rows are one block of 64 points, which sees none of the last ones."""
    features, weight, bias = np.zeros((98, 16), np.float32), normal(16, 16, 16, seed=1), np.zeros(16, np.float32)
    features[70:] = normal(28, 16, seed=2)
    found = added(features, 0, weight, bias)
    assert np.abs(found[:49]).max() < 1e-5
    assert np.abs(found[70:] - features[70:]).max() > 1


def test_memory_is_that_of_some_blocks_at_most() -> None:
    assert memory(374, 48, 128) == 4 * 256 * 2 * (2 * 2 * 48 + 2 * 16)
    assert 0 < memory(10, 48, 128) < memory(374, 48, 128) < memory(10000, 48, 128) == memory(100000, 48, 128) < 4e6
