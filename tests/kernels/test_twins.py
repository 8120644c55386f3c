"""Each kernel against the same in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mertric.kernels.band import reduce_to_band
from mertric.kernels.differences import frame_squared_errors
from mertric.kernels.gaussian import gaussian_sum, pair_distances
from mertric.kernels.half import half_to_single
from mertric.kernels.moments import centre, frame_mean, merge_scatter
from mertric.kernels.multiply import add_product
from mertric.kernels.nuclear import NODES, band_log_determinants, quadrature, tail
from mertric.kernels.panel import reflect_panel
from mertric.kernels.triangular import absorb


def _banded(diagonal: np.ndarray, below: np.ndarray) -> np.ndarray:
    blocks, width, _ = diagonal.shape
    full = np.zeros((blocks * width, blocks * width))
    for i in range(blocks):
        at = slice(i * width, (i + 1) * width)
        full[at, at] = diagonal[i]
        if i:
            full[at, (i - 1) * width : i * width] = below[i]
    return full


@pytest.mark.parametrize(("rows", "n", "columns"), [(8, 1, 8), (8, 5, 24), (16, 70, 16), (24, 32, 40)])
def test_add_product_is_that_of_numpy_and_touches_nothing_else(rows: int, n: int, columns: int) -> None:
    rng = np.random.default_rng(n)
    whole, a = rng.standard_normal((rows + 2, columns + 3)), rng.standard_normal((rows, n + 1))[:, 1:]
    b = rng.standard_normal((n, columns + 2))[:, 2:]
    expected = whole.copy()
    expected[1:-1, 1:-2] -= 0.5 * a @ b
    add_product(whole[1:-1, 1:-2], a, b, -0.5)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("width", "n", "rank"), [(8, 8, 8), (8, 40, 8), (16, 48, 16), (16, 32, 5), (8, 16, 0)])
def test_reflect_panel_is_an_orthogonal_triangularisation(width: int, n: int, rank: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.standard_normal((width, rank)) @ rng.standard_normal((rank, n))
    v, across, t = np.empty((width, n)), np.empty((n, width)), np.empty((width, width))
    work = np.hstack([np.full((width, 8), 7.0), a])
    reflect_panel(work[:, 8:], v, across, t)
    np.testing.assert_array_equal(v, across.T)
    turn = np.eye(n) - v.T @ t.T @ v
    np.testing.assert_allclose(turn @ turn.T, np.eye(n), rtol=0, atol=1e-14 * n)
    np.testing.assert_allclose(work[:, 8:], a @ turn, rtol=0, atol=1e-14 * n * max(1.0, np.abs(a).max()))
    np.testing.assert_array_equal(np.triu(work[:, 8:], 1), np.zeros((width, n)))
    np.testing.assert_array_equal(work[:, :8], np.full((width, 8), 7.0))


@pytest.mark.parametrize(("dim", "counts"), [(16, (8,)), (32, (8, 40)), (48, (64, 8, 8))])
@pytest.mark.parametrize("decades", [0, 14])
def test_absorb_makes_the_triangular_factor(dim: int, counts: tuple[int, ...], decades: int) -> None:
    rng = np.random.default_rng(dim)
    blocks = [np.logspace(0, -decades, dim)[:, None] * rng.standard_normal((dim, n)) for n in counts]
    lower = np.zeros((dim, dim))
    for block in blocks:
        absorb(lower, block.copy())
    whole = np.hstack(blocks)
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(lower @ lower.T, whole @ whole.T, rtol=0, atol=1e-13 * np.linalg.norm(whole) ** 2)
    values, expected = (np.linalg.svd(a, compute_uv=False) for a in (lower, whole))
    np.testing.assert_allclose(values[: len(expected)], expected, rtol=0, atol=1e-14 * expected[0])
    if whole.shape[1] >= dim:  # row i of both factors is of the size of that row: nothing was squared
        factor = np.linalg.qr(whole.T, mode="r").T
        np.testing.assert_allclose(np.abs(lower), np.abs(factor), rtol=1e-9, atol=1e-14 * 10.0**-decades)


@pytest.mark.parametrize(
    ("rows", "columns", "width"), [(8, 8, 8), (16, 16, 8), (24, 64, 8), (16, 24, 16), (128, 136, 16), (96, 96, 24)]
)
def test_reduce_to_band_keeps_the_singular_values(rows: int, columns: int, width: int) -> None:
    a = np.random.default_rng(rows).standard_normal((rows, columns))
    diagonal, below = reduce_to_band(a.copy(), width)
    expected = np.linalg.svd(a, compute_uv=False)
    values = np.linalg.svd(_banded(diagonal, below), compute_uv=False)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-14 * expected[0] * np.sqrt(rows))
    np.testing.assert_array_equal(diagonal, np.tril(diagonal))
    np.testing.assert_array_equal(below, np.triu(below))
    assert not below[0].any()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_reduce_to_band_takes_any_rank(rank: int) -> None:
    rng = np.random.default_rng(rank)
    a = rng.standard_normal((32, rank)) @ rng.standard_normal((rank, 40))
    values = np.linalg.svd(_banded(*reduce_to_band(a.copy(), 8)), compute_uv=False)
    np.testing.assert_allclose(values, np.linalg.svd(a, compute_uv=False), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("blocks", "width"), [(1, 4), (1, 8), (2, 4), (5, 8), (4, 16)])
@pytest.mark.parametrize("decades", [0, 5, 16])
def test_band_log_determinants_are_those_of_the_singular_values(blocks: int, width: int, decades: int) -> None:
    rng = np.random.default_rng(blocks * width)
    scale = np.logspace(0, -decades, blocks * width).reshape(blocks, width, 1)
    diagonal, below = np.tril(scale * rng.standard_normal((blocks, width, width))), np.zeros((blocks, width, width))
    below[1:] = np.triu(scale[1:] * rng.standard_normal((blocks - 1, width, width)))
    norm = np.linalg.norm(_banded(diagonal, below), 2)
    diagonal, below, nodes = diagonal / norm, below / norm, np.logspace(-18, 2, 32)
    values = np.linalg.svd(_banded(diagonal, below), compute_uv=False)
    expected = nodes @ np.log1p((values / nodes[:, None]) ** 2).sum(1)
    assert band_log_determinants(diagonal, below, nodes, nodes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [1.0, 0.7, 1e-3, 1e-9, 1e-12, 0.0])
def test_quadrature_of_one_value_is_that_value(value: float) -> None:
    diagonal, below = np.zeros((2, 1, 8, 8))
    diagonal[0, 3, 1] = value
    nodes, weights = (v[:NODES] for v in quadrature())
    got = (band_log_determinants(diagonal, below, nodes, weights) + tail(diagonal, below)) / np.pi
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
