"""Products in bfloat16, and what is around them, against NumPy.

In float64 on the rounded factors, and on whole ones where those have pieces.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from halves import HALF_ULP, LEFT, gelu_of, narrow, normal, parted, rounded, whole, wide

from mertric.kernels import tiles
from mertric.kernels.convolutions import round_columns, write_windows
from mertric.kernels.dense import dense_add, dense_narrow, pack
from mertric.kernels.jit import kernel
from mertric.kernels.lines import empty, pitch, singles, zeros
from mertric.kernels.norm import normalize, round_rows
from mertric.kernels.sizes import BLOCK, STEP
from mertric.kernels.tiles import CONFIGURATION

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel()
def place_of_singles(count: int) -> tuple[int, NDArray[np.float32]]:
    found = singles(count)
    return found.ctypes.data, found


@pytest.mark.parametrize("size", [1, 33, 5000])
def test_arrays_begin_with_a_line(size: int) -> None:
    assert empty((2, size), np.uint16).ctypes.data % 64 == 0
    assert zeros((2, size), np.float32).ctypes.data % 64 == 0
    assert not zeros((2, size), np.float32).any()
    place, found = place_of_singles(size)
    assert place % 64 == 0
    assert found.shape == (size,)


@pytest.mark.parametrize("numbers", [1, 32, 48, 512, 768, 1024])
def test_rows_lie_an_odd_number_of_lines_apart(numbers: int) -> None:
    apart = pitch(numbers)
    assert apart >= numbers
    assert 2 * apart % 128 == 64
    assert apart - numbers <= 64


@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (50, 48), (1, 1)])
def test_pack(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    (factor,) = pack(matrix, 1)
    rows, columns = -(-shape[0] // STEP) * STEP, -(-shape[1] // BLOCK) * BLOCK
    parts = wide(factor).reshape(columns // BLOCK, rows // STEP, 2, STEP // 2, 16, 2)
    back = parts.transpose(1, 3, 5, 0, 2, 4).reshape(rows, columns)
    expected = np.zeros((rows, columns))
    expected[: shape[0], : shape[1]] = rounded(matrix)
    np.testing.assert_array_equal(back, expected)


def test_pack_takes_any_order_and_what_cannot_be_written() -> None:
    matrix = normal(96, 64)
    expected = pack(matrix, 2)
    assert matrix.flags.writeable
    np.testing.assert_array_equal(pack(np.asfortranarray(matrix), 2), expected)
    matrix.flags.writeable = False
    np.testing.assert_array_equal(pack(matrix, 2), expected)


@pytest.mark.parametrize("pieces", [2, 3])
def test_pieces_hold_what_the_ones_before_them_left(pieces: int) -> None:
    matrix = normal(32, 32)
    each = pack(matrix, pieces)
    np.testing.assert_array_equal(each[0], pack(matrix, 1)[0])
    for piece, factor in enumerate(each[1:], 1):
        left = matrix - sum(wide(pack(matrix, piece))).reshape(2, 16, 16, 2).transpose(1, 3, 0, 2).reshape(32, 32)
        np.testing.assert_array_equal(factor, pack(left.astype(np.float32), 1)[0])


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 3])
def test_tiles_and_loops_multiply_alike(steps: int, pieces: int) -> None:
    rows, matrix = normal(BLOCK + 1, 40 + steps * STEP), normal(steps * STEP, BLOCK, seed=1)
    a, b = parted(rows, pieces), pack(matrix, pieces)
    own, factors = wide(a).reshape(pieces, *rows.shape)[:, 1:, 8 : 8 + steps * STEP], wide(parted(matrix, pieces))
    expected = sum(
        own[i].astype(np.float64) @ factors[j].reshape(matrix.shape).astype(np.float64)
        for i in range(pieces)
        for j in range(pieces - i)
    )
    loops, here = np.full((2, BLOCK * BLOCK + 9), 7, np.float32)
    multiply_loops(a, rows.shape[1] + 8, rows.shape[1], 1, b, steps, loops)
    multiply_here(a, rows.shape[1] + 8, rows.shape[1], 1, b, steps, here)
    for out in (loops, here):
        np.testing.assert_allclose(out[5:-4].reshape(BLOCK, BLOCK), expected, rtol=0, atol=4e-5)
        np.testing.assert_array_equal(out[[0, 4, -4, -1]], 7)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("taps", [2, 3])
def test_tiles_and_loops_multiply_runs_of_a_row_alike(taps: int, pieces: int) -> None:
    """Between the runs is what nothing reads: no numbers."""
    steps, apart = 2, 2 * STEP + 16
    x, matrix = normal(2 * BLOCK + taps, steps * STEP), normal(taps * steps * STEP, BLOCK, seed=1)
    a = np.full((pieces, len(x) * apart), 0x7FC0, np.uint16)
    a.reshape(pieces, len(x), apart)[:, :, : steps * STEP] = parted(x, pieces).reshape(pieces, *x.shape)
    runs = np.stack([x[2 * row : 2 * row + taps].reshape(-1) for row in range(BLOCK)])
    expected = whole(parted(runs, pieces), *runs.shape) @ whole(parted(matrix, pieces), *matrix.shape)
    loops, here = np.zeros((2, BLOCK * BLOCK + 9), np.float32)
    multiply_loops(a, 0, 2 * apart, taps, pack(matrix, pieces), steps, loops)
    multiply_here(a, 0, 2 * apart, taps, pack(matrix, pieces), steps, here)
    for out in (loops, here):
        np.testing.assert_allclose(out[5:-4].reshape(BLOCK, BLOCK), expected, rtol=0, atol=2e-4)


@kernel()
def multiply_loops(
    a: NDArray[np.uint16], at: int, stride: int, taps: int, b: NDArray[np.uint16], steps: int, out: NDArray[np.float32]
) -> None:
    tiles._multiply_loops(a, at, stride, taps, b, 0, steps, out, 5)


@kernel()
def multiply_here(
    a: NDArray[np.uint16], at: int, stride: int, taps: int, b: NDArray[np.uint16], steps: int, out: NDArray[np.float32]
) -> None:
    tiles.begin(CONFIGURATION)
    tiles.multiply_block(a, at, stride, taps, b, 0, steps, out, 5)
    tiles.end()


@pytest.mark.parametrize(
    ("blocks", "inner", "columns", "pieces"),
    [(1, 32, 32, 1), (3, 96, 64, 1), (70, 3200, 32, 1), (3, 96, 64, 2), (3, 96, 64, 3), (8, 3072, 32, 3)],
)
def test_products_and_what_follows_them(blocks: int, inner: int, columns: int, pieces: int) -> None:
    """The third has more rows than are taken at once. With pieces it is what the numbers themselves give."""
    rows, matrix = normal(blocks * BLOCK, inner), normal(inner, columns, seed=1) / np.float32(math.sqrt(inner))
    bias, mean = normal(2, columns, seed=2)
    factors = (rounded(rows), rounded(matrix)) if pieces == 1 else (rows.astype(np.float64), matrix.astype(np.float64))
    product = factors[0] @ factors[1] + bias
    close = {"rtol": LEFT[pieces], "atol": {1: 2e-5, 2: 4e-5, 3: 5e-6}[pieces]}
    given = (parted(rows, pieces), 0, inner, 1, inner // STEP, blocks, pack(matrix, pieces))
    shape = len(rows) + 1, columns + 16
    out = np.zeros((pieces, math.prod(shape)), np.uint16)
    dense_narrow(*given, columns, bias, True, mean, out, columns + 32, columns + 16)
    found = whole(out, *shape)
    np.testing.assert_allclose(found[1:, 16:], gelu_of(product) - mean, **close)
    assert not found[0].any()
    assert not found[:, :16].any()
    dense_narrow(*given, columns, bias, False, 0 * mean, out, columns + 32, columns + 16)
    np.testing.assert_allclose(whole(out, *shape)[1:, 16:], product, **close)
    residual = normal(len(rows) + 1, columns + 16, seed=3)
    total = residual.copy()
    dense_add(*given, columns, bias, False, total.reshape(-1), columns + 32, columns + 16)
    residual[1:, 16:] += product.astype(np.float32)
    np.testing.assert_allclose(total, residual, rtol=0, atol=close["atol"])


def test_a_product_of_some_columns() -> None:
    rows, matrix, bias = normal(64, 64), normal(64, 96, seed=1) / 8, normal(96, seed=2)
    given = (parted(rows), 0, 64, 1, 2, 2, pack(matrix, 1))
    out = np.zeros((1, 64 * 96), np.uint16)
    dense_narrow(*given, 48, bias, False, 0 * bias, out, 0, 96)
    expected, found = rounded(rows) @ rounded(matrix) + bias, whole(out, 64, 96)
    np.testing.assert_allclose(found[:, :48], expected[:, :48], rtol=HALF_ULP, atol=2e-5)
    assert not found[:, 48:].any()
    total = np.ones((64, 96), np.float32)
    dense_add(*given, 48, bias, True, total.reshape(-1), 0, 96)
    np.testing.assert_allclose(total[:, :48], 1 + gelu_of(expected)[:, :48], rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(total[:, 48:], 1)


def test_rows_that_overlap_make_a_convolution() -> None:
    taps, channels, count = 9, 16, 32
    x, weight = normal(count + taps, channels), normal(taps * channels, 32, seed=1)
    out = np.zeros((1, count * 32), np.uint16)
    none = np.zeros(32, np.float32)
    steps = -(-taps * channels // STEP)
    dense_narrow(parted(x), 0, channels, 1, steps, 1, pack(weight, 1), 32, none, False, none, out, 0, 32)
    windows = np.stack([rounded(x)[row : row + taps].reshape(-1) for row in range(count)])
    np.testing.assert_allclose(whole(out, count, 32), windows @ rounded(weight), rtol=HALF_ULP, atol=2e-5)


@pytest.mark.parametrize("taps", [2, 3])
def test_runs_of_a_row_make_a_convolution_of_stride_2(taps: int) -> None:
    channels, columns, count = 64, 96, 64
    x, weight = normal(2 * count + taps, channels), normal(taps * channels, columns, seed=1) / 8
    apart = pitch(channels)
    rows = np.full((1, len(x) * apart), 0x7FC0, np.uint16)
    rows.reshape(len(x), apart)[:, :channels] = narrow(x)
    windows = np.stack([rounded(x)[2 * row : 2 * row + taps].reshape(-1) for row in range(count)])
    expected = windows @ rounded(weight)
    given = (rows, 0, 2 * apart, taps, channels // STEP, count // BLOCK, pack(weight, 1), columns)
    none = np.zeros(columns, np.float32)
    out, total = np.zeros((1, count * columns), np.uint16), np.zeros((count, columns), np.float32)
    dense_narrow(*given, none, False, none, out, 0, columns)
    np.testing.assert_allclose(whole(out, count, columns), expected, rtol=HALF_ULP, atol=2e-5)
    dense_add(*given, none, False, total.reshape(-1), 0, columns)
    np.testing.assert_allclose(total, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("replace", [False, True])
def test_normalize(replace: bool, pieces: int) -> None:
    x, weight, bias = 3 * normal(5, 96) + 7, normal(96, seed=1), normal(96, seed=2)
    double = x.astype(np.float64)
    deviations = double - double.mean(axis=1, keepdims=True)
    expected = deviations / np.sqrt(np.square(deviations).mean(axis=1, keepdims=True) + 1e-5) * weight + bias
    before, out = x.copy(), np.zeros((pieces, 16 + 5 * 112), np.uint16)
    normalize(x, weight, bias, np.float32(1e-5), replace, out, 16, 112)
    rows = out[:, 16:].reshape(pieces, 5, 112)
    np.testing.assert_allclose(whole(rows[:, :, :96], *x.shape), expected, rtol=LEFT[pieces], atol=1e-5)
    assert not out[:, :16].any()
    assert not rows[:, :, 96:].any()
    np.testing.assert_allclose(x, expected if replace else before, rtol=1e-5, atol=1e-5)


def test_round_rows_goes_to_the_nearest_and_from_the_middle_away_from_0() -> None:
    x = np.concatenate([normal(61), [1 + HALF_ULP * 2, -1 - HALF_ULP * 2, 0]]).astype(np.float32).reshape(4, 16)
    x[3, 13:15] = 1 + 2.0**-8, -1 - 2.0**-8
    out = np.zeros((1, 16 + 4 * 32), np.uint16)
    round_rows(x, out, 16, 32)
    found = np.ascontiguousarray(out[0, 16:].reshape(4, 32)[:, :16])
    np.testing.assert_array_equal(found, narrow(x))
    assert wide(found)[3, 13] == 1 + 2.0**-7
    assert (np.abs(wide(found) - x) <= HALF_ULP * np.abs(x)).all()
    assert not out[0, :16].any()
    assert not out[0, 16:].reshape(4, 32)[:, 16:].any()
    for pieces in (2, 3):
        out = np.zeros((pieces, 64), np.uint16)
        round_rows(x, out, 0, 16)
        np.testing.assert_array_equal(out, parted(x, pieces))
        assert (np.abs(whole(out, *x.shape) - x) <= LEFT[pieces] * np.abs(x)).all()


@pytest.mark.parametrize("pieces", [2, 3])
def test_write_windows(pieces: int) -> None:
    samples = normal(40)
    windows = np.full((pieces, 4 * STEP), 9, np.uint16)
    write_windows(samples, 20, 7, 5, STEP, windows)
    padded = np.pad(samples, (0, 20))
    expected = np.zeros((4, STEP), np.float32)
    expected[:, :5] = [padded[20 + 7 * row : 25 + 7 * row] for row in range(4)]
    expected[:, 5] = 1
    np.testing.assert_array_equal(windows, parted(expected, pieces))


@pytest.mark.parametrize("pieces", [1, 3])
def test_round_columns(pieces: int) -> None:
    features = normal(6, 64)
    rows = np.zeros((pieces, 11 * 32), np.uint16)
    round_columns(features, 16, 32, rows, 3)
    np.testing.assert_array_equal(rows, parted(np.pad(features[:, 16:48], ((3, 2), (0, 0))), pieces))
