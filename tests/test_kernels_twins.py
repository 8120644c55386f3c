"""Each kernel against the same in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mertric.kernels.bidiagonal import ROWS, bidiagonalise
from mertric.kernels.differences import frame_squared_errors
from mertric.kernels.gaussian import gaussian_sum, pair_distances
from mertric.kernels.half import half_to_single
from mertric.kernels.moments import centre, frame_mean, merge_scatter
from mertric.kernels.nuclear import bidiagonal_nuclear_norm


def _bidiagonal(diagonal: np.ndarray, above: np.ndarray) -> np.ndarray:
    return np.diag(diagonal) + np.diag(above[:-1], 1)


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (1, 5), (2, 2), (4, 9), (5, 5), (8, 8), (9, 40), (63, 64), (130, 131)]
)
def test_bidiagonalise_keeps_the_singular_values(rows: int, columns: int) -> None:
    a = np.random.default_rng(rows).standard_normal((rows, columns))
    diagonal, above = bidiagonalise(np.pad(a, ((0, ROWS), (0, 0))))
    expected = np.linalg.svd(a, compute_uv=False)
    values = np.linalg.svd(_bidiagonal(diagonal, above), compute_uv=False)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-14 * rows * expected[0])
    assert above[-1] == 0.0


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_bidiagonalise_takes_any_rank(rank: int) -> None:
    rng = np.random.default_rng(rank)
    a = rng.standard_normal((10, rank)) @ rng.standard_normal((rank, 14))
    diagonal, above = bidiagonalise(np.pad(a, ((0, ROWS), (0, 0))))
    values = np.linalg.svd(_bidiagonal(diagonal, above), compute_uv=False)
    np.testing.assert_allclose(values, np.linalg.svd(a, compute_uv=False), rtol=0, atol=1e-13)


def test_bidiagonalise_leaves_a_lower_bidiagonal_matrix_as_it_is_but_for_signs() -> None:
    a = _bidiagonal(np.array([3.0, 2.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.25, 0.0])).T
    diagonal, above = bidiagonalise(np.pad(a, ((0, ROWS), (0, 0))))
    np.testing.assert_allclose(np.abs(diagonal), [3.0, 2.0, 1.0, 0.5], rtol=1e-15)
    np.testing.assert_allclose(np.abs(above), [1.0, 2.0, 0.25, 0.0], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("decades", [0, 3, 16])
def test_bidiagonal_nuclear_norm_is_the_sum_of_singular_values(n: int, decades: int) -> None:
    rng = np.random.default_rng(n)
    diagonal, above = rng.standard_normal(n), rng.standard_normal(n)
    diagonal, above = (v * np.logspace(0, -decades, n) for v in (diagonal, above))
    above[-1] = 0.0
    norm = np.linalg.norm(_bidiagonal(diagonal, above), 2)
    expected = np.linalg.svd(_bidiagonal(diagonal / norm, above / norm), compute_uv=False).sum()
    assert bidiagonal_nuclear_norm(diagonal / norm, above / norm) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("value", [1.0, 0.7, 1e-3, 1e-9, 1e-12])
def test_bidiagonal_nuclear_norm_of_one_value_is_that_value(value: float) -> None:
    got = bidiagonal_nuclear_norm(np.array([value, 0.0]), np.zeros(2))
    assert got == pytest.approx(value, rel=1e-14, abs=1e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_and_centre_are_those_of_numpy(dtype: type) -> None:
    x = (np.random.default_rng(0).standard_normal((33, 21)) + 100.0).astype(dtype)
    mean, out = np.empty((2, 21)), np.empty(x.shape)
    frame_mean(x, mean)
    centre(x, mean, out)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean.sum(0), wide.mean(0), rtol=1e-15)
    np.testing.assert_allclose(out, wide - wide.mean(0), atol=1e-13)


def test_the_second_term_of_the_mean_corrects_the_first() -> None:
    x = np.full((3001, 1), 1e8) + np.linspace(-1, 1, 3001)[:, None] ** 2
    mean = np.empty((2, 1))
    frame_mean(x, mean)
    exact = np.mean(x.astype(np.longdouble) - 1e8)
    assert float((mean[0, 0] - 1e8) + mean[1, 0]) == pytest.approx(float(exact), rel=1e-14)


def test_centre_subtracts_both_terms_of_the_mean() -> None:
    out = np.empty((2, 2))
    centre(np.array([[3.0, 5.0], [4.0, 7.0]]), np.array([[1.0, 2.0], [0.25, -0.5]]), out)
    np.testing.assert_array_equal(out, [[1.75, 3.5], [2.75, 5.5]])


def test_merge_scatter_adds_in_place() -> None:
    rng = np.random.default_rng(1)
    scatter, other, gap = rng.standard_normal((6, 6)), rng.standard_normal((6, 6)), rng.standard_normal(6)
    expected = scatter + other + 0.3 * np.outer(gap, gap)
    merge_scatter(scatter, other, gap, 0.3)
    np.testing.assert_allclose(scatter, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frame_squared_errors_are_those_of_numpy(dtype: type) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 17, 37)).astype(dtype)
    out = np.empty(17)
    frame_squared_errors(x, y, out)
    expected = ((x.astype(np.float64) - y.astype(np.float64)) ** 2).sum(1)
    np.testing.assert_allclose(out, expected, rtol=1e-14)


def test_half_to_single_is_exact_for_all_65536_values() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    singles = half_to_single(halves)
    assert singles.dtype == np.float32
    np.testing.assert_array_equal(singles, halves.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(singles), np.signbit(halves))


def test_gaussian_sum_is_that_of_numpy() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((7, 5)), rng.standard_normal((9, 5))
    got = gaussian_sum(x @ y.T, (x**2).sum(1), (y**2).sum(1), 0.3)
    expected = np.exp(-0.3 * ((x[:, None] - y[None]) ** 2).sum(-1)).sum()
    assert got == pytest.approx(expected, rel=1e-13)


def test_pair_distances_come_in_the_order_of_pairs() -> None:
    x = np.random.default_rng(4).standard_normal((6, 3))
    out = np.empty(15)
    pair_distances(x, out)
    rows, columns = np.triu_indices(6, 1)
    np.testing.assert_allclose(out, np.linalg.norm(x[rows] - x[columns], axis=1), rtol=1e-14)
