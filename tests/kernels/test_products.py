"""Products, and what is around them, against NumPy.

In float64 on what the factors hold, for every kind of factors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from kinds import (
    HALF_ULP,
    KINDS,
    as_factors,
    gelu_of,
    left,
    narrow,
    normal,
    parted,
    read,
    rounded,
    stored,
    wide,
    zeros_of,
)

from mertric.kernels import dots, tiles
from mertric.kernels.convolutions import write_windows
from mertric.kernels.dense import dense_add, dense_narrow, pack
from mertric.kernels.factors import begin, end, multiply_block
from mertric.kernels.jit import kernel
from mertric.kernels.lines import empty, singles, zeros
from mertric.kernels.norm import normalize, round_rows
from mertric.kernels.processor import why_no_vectors
from mertric.kernels.sizes import BLOCK, PACKED, STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PIECES = {"bf16": 1, "bf16x2": 2, "bf16x3": 3}
SUMS = {"bf16": 2e-5, "bf16x2": 4e-5, "bf16x3": 1e-5, "float32": 1e-5, "int16": 2e-5}
"""How far sums of about 1 may be from those of float64, with the GELU that goes with the kind."""


ROUNDED = {**dict.fromkeys(KINDS, 0.0), "int16": 2e-7}
"""By how much numbers may differ from NumPy's: scales are float32."""


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [1, 32, 48, 512, 768, 1024])
def test_rows_lie_an_odd_number_of_lines_apart(numbers: int, kind: str) -> None:
    size = np.dtype(KINDS[kind].dtype).itemsize
    apart = KINDS[kind].pitch(numbers)
    assert apart >= numbers
    assert size * apart % 128 == 64
    assert size * (apart - numbers) <= 128


@pytest.mark.parametrize("kind", KINDS)
def test_room_is_what_arrays_take(kind: str) -> None:
    assert KINDS[kind].empty(96).nbytes == KINDS[kind].room(96)
    assert KINDS[kind].empty(5, 64).nbytes == 5 * KINDS[kind].room(64)


def unpacked(packed: NDArray[Any], kind: str, inner: int, columns: int) -> NDArray[np.float64]:
    """The matrix of a second factor."""
    steps, blocks = inner // STEP, columns // BLOCK
    if kind == "float32":
        parts = packed.astype(np.float64).reshape(blocks, steps, STEP, BLOCK)
        return parts.transpose(1, 2, 0, 3).reshape(inner, columns)
    numbers = packed[:, : inner * columns].reshape(-1, blocks, steps, 2, STEP // 2, 16, 2)
    if kind == "int16":
        scales = np.ascontiguousarray(packed[0, inner * columns :]).view(np.float32).reshape(blocks, steps, 2, 1, 16, 1)
        values = numbers[0] * scales.astype(np.float64)
    else:
        values = sum(wide(piece).astype(np.float64) for piece in numbers)
    return values.transpose(1, 3, 5, 0, 2, 4).reshape(inner, columns)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (50, 48), (1, 1)])
def test_pack(shape: tuple[int, int], kind: str) -> None:
    matrix, (rows, columns) = normal(*shape), (-(-size // 32) * 32 for size in shape)
    packed = pack(matrix, KINDS[kind])
    padded = np.zeros((rows, columns), np.float32)
    padded[: shape[0], : shape[1]] = matrix
    found = unpacked(packed, kind, rows, columns)
    if kind == "int16":  # a line is a step of a column
        largest = np.abs(padded.reshape(-1, STEP, columns)).max(axis=1).repeat(STEP, axis=0)
        assert (np.abs(found - padded) <= left(KINDS[kind]) * largest).all()
    else:
        np.testing.assert_array_equal(found, as_factors(padded, KINDS[kind]))


@pytest.mark.parametrize("kind", ["bf16x2", "float32", "int16"])
def test_pack_takes_any_order_and_what_cannot_be_written(kind: str) -> None:
    matrix = normal(96, 64)
    expected = pack(matrix, KINDS[kind])
    assert matrix.flags.writeable
    np.testing.assert_array_equal(pack(np.asfortranarray(matrix), KINDS[kind]), expected)
    matrix.flags.writeable = False
    np.testing.assert_array_equal(pack(matrix, KINDS[kind]), expected)


@pytest.mark.parametrize("kind", ["bf16x2", "bf16x3"])
def test_pieces_hold_what_the_ones_before_them_left(kind: str) -> None:
    matrix = normal(32, 32)
    each = pack(matrix, KINDS[kind])
    np.testing.assert_array_equal(each[0], pack(matrix, KINDS["bf16"])[0])
    for piece, factor in enumerate(each[1:], 1):
        rest = (matrix - unpacked(each[:piece], kind, 32, 32)).astype(np.float32)
        np.testing.assert_array_equal(factor, pack(rest, KINDS["bf16"])[0])


@kernel()
def multiply_here(
    a: NDArray[Any],
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: NDArray[Any],
    packed: int,
    steps: int,
    out: NDArray[np.float32],
) -> None:
    begin(a)
    multiply_block(a, at, stride, rows, taps, b, packed, steps, out, 5)
    end(a)


@kernel()
def multiply_tile_loops(
    a: NDArray[Any],
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: NDArray[Any],
    packed: int,
    steps: int,
    out: NDArray[np.float32],
) -> None:
    tiles._multiply_loops(a, at, stride, rows, taps, b, packed, steps, out, 5)


@kernel()
def multiply_dot_loops(
    a: NDArray[Any],
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: NDArray[Any],
    packed: int,
    steps: int,
    out: NDArray[np.float32],
) -> None:
    dots._multiply_loops(a, at, stride, rows, taps, b, packed, steps, out, 5)


def multiplied(kind: str, *given: Any) -> list[NDArray[np.float32]]:
    """A block's product by what is used here, and by loops."""
    ways = [multiply_here]
    if kind != "float32":
        ways.append(multiply_dot_loops if kind == "int16" else multiply_tile_loops)
    found = []
    for way in ways:
        out = np.full(BLOCK * BLOCK + 9, 7, np.float32)
        way(*given, out)
        np.testing.assert_array_equal(out[[0, 4, -4, -1]], 7)
        found.append(out[5:-4].reshape(BLOCK, BLOCK))
    return found


def product_of(x: NDArray[np.float32], matrix: NDArray[np.float32], kind: str) -> NDArray[np.float64]:
    """In float64, of what factors hold; of pieces, of those products that are taken."""
    if kind == "float32":
        return np.asarray(x.astype(np.float64) @ matrix.astype(np.float64))
    if kind == "int16":
        second = unpacked(pack(matrix, KINDS[kind]), kind, *matrix.shape)
        return np.asarray(as_factors(x, KINDS[kind]) @ second)
    own, factors = (
        [wide(piece).astype(np.float64).reshape(part.shape) for piece in parted(part, PIECES[kind])]
        for part in (x, matrix)
    )
    return sum((own[i] @ factors[j] for i in range(len(own)) for j in range(len(own) - i)), np.zeros(()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 3, 9])
def test_a_block_of_rows_and_one_of_columns(steps: int, kind: str) -> None:
    """The rows begin with the second line of the second row, the columns with the second block."""
    x, matrix = (
        normal(BLOCK, steps * STEP),
        normal(steps * STEP, 2 * BLOCK, seed=1) / np.float32(math.sqrt(steps * STEP)),
    )
    rows = np.zeros((BLOCK + 1, (steps + 1) * STEP), np.float32)
    rows[1:, STEP:] = x
    stride = (steps + 2) * STEP
    a, b = stored(rows, KINDS[kind], stride), pack(matrix, KINDS[kind])
    expected = product_of(x, matrix[:, BLOCK:], kind)
    for out in multiplied(kind, a, stride + STEP, stride, BLOCK, 1, b, steps * PACKED, steps):
        np.testing.assert_allclose(out, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taps", [2, 3])
def test_a_block_of_rows_of_several_runs(taps: int, kind: str) -> None:
    """Between the runs is what nothing reads: no numbers."""
    steps = 2
    x, matrix = normal(2 * BLOCK + taps, steps * STEP), normal(taps * steps * STEP, BLOCK, seed=1)
    runs = np.stack([x[2 * row : 2 * row + taps].reshape(-1) for row in range(BLOCK)])
    apart = 3 * STEP
    a, b = stored(x, KINDS[kind], apart), pack(matrix, KINDS[kind])
    for out in multiplied(kind, a, 0, 2 * apart, BLOCK, taps, b, 0, steps):
        np.testing.assert_allclose(out, product_of(runs, matrix, kind), rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 8, 17, 31])
def test_a_block_that_is_not_full(rows: int, kind: str) -> None:
    """Of the rows that do not count may be no numbers."""
    x, matrix = normal(BLOCK, 2 * STEP), normal(2 * STEP, BLOCK, seed=1) / 8
    x[rows:] = np.nan if kind != "int16" else 0
    a, b = stored(x, KINDS[kind], 2 * STEP), pack(matrix, KINDS[kind])
    if kind == "int16":
        a[0, x.size :].view(np.float32)[2 * rows :] = np.nan
    expected = product_of(x[:rows], matrix, kind)
    for out in multiplied(kind, a, 0, 2 * STEP, rows, 1, b, 0, 2):
        np.testing.assert_allclose(out[:rows], expected, rtol=0, atol=1e-5)
    total, given = np.ones((BLOCK, BLOCK), np.float32), (a, 0, 2 * STEP, 1, 2, rows, b, 0, BLOCK)
    out, none = zeros_of(KINDS[kind], BLOCK * BLOCK), np.zeros(BLOCK, np.float32)
    dense_add(*given, none, False, total.reshape(-1), 0, BLOCK)
    dense_narrow(*given, none, False, none, out, 0, BLOCK)
    np.testing.assert_allclose(total[:rows], 1 + expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(total[rows:], 1)
    assert read(out, KINDS[kind], BLOCK, BLOCK)[:rows].any()
    assert not read(out, KINDS[kind], BLOCK, BLOCK)[rows:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_some_columns_of_many(kind: str) -> None:
    rows, matrix, bias = normal(32, 64), normal(64, 128, seed=1) / 8, normal(128, seed=2)
    given = (stored(rows, KINDS[kind], 64), 0, 64, 1, 2, 32, pack(matrix, KINDS[kind]), 32, 96, bias, False)
    total, out = np.zeros((32, 128), np.float32), zeros_of(KINDS[kind], 32 * 128)
    dense_add(*given, total.reshape(-1), 0, 128)
    dense_narrow(*given, 0 * bias, out, 0, 128)
    expected = product_of(rows, matrix, kind) + bias
    for found in (total, read(out, KINDS[kind], 32, 128)):
        np.testing.assert_allclose(found[:, 32:96], expected[:, 32:96], rtol=2 * left(KINDS[kind]), atol=3e-4)
        assert not found[:, :32].any()
        assert not found[:, 96:].any()


@kernel()
def add_without_dots(a: Array, stride: int, b: Array, steps: int, out: NDArray[np.float32]) -> None:
    _add_without_dots(a, 0, stride, b, 0, steps, out, 0, 0)


_add_without_dots = dots._adder(dots._text(dots=False))


@pytest.mark.skipif(why_no_vectors() is not None, reason="there is no AVX-512")
def test_products_of_pairs_where_there_is_no_vnni() -> None:
    x, matrix, kind = normal(8, 3 * STEP), normal(3 * STEP, BLOCK, seed=1), KINDS["int16"]
    out = np.zeros(8 * BLOCK, np.float32)
    add_without_dots(stored(x, kind, 3 * STEP), 3 * STEP, pack(matrix, kind), 3, out)
    np.testing.assert_allclose(out.reshape(8, BLOCK), product_of(x, matrix, "int16"), rtol=0, atol=5e-5)


@pytest.mark.parametrize("place", [0, 5, 20])
def test_no_number_among_integers_is_none_after_a_product(place: int) -> None:
    kind, x = KINDS["int16"], np.ones((BLOCK, STEP), np.float32)
    x[3, place] = np.nan
    a = zeros_of(kind, x.size)
    round_rows(x, a, 0, STEP)
    for out in multiplied("int16", a, 0, STEP, BLOCK, 1, pack(np.ones((STEP, BLOCK), np.float32), kind), 0, 1):
        assert np.isnan(out[3]).all()
        assert np.isfinite(out[[2, 4]]).all()


def test_integers_never_overflow_and_keep_any_size() -> None:
    """The largest sums that there can be, in lines of very different sizes; lines of zeros; the least float32."""
    kind = KINDS["int16"]
    x = np.full((BLOCK, 3 * STEP), 3e30, np.float32)
    x[:, STEP : 2 * STEP] = 1e-20
    x[1::2] *= -1
    x[4] = 0
    x[5, :STEP] = np.float32(1e-45)
    matrix = np.ones((3 * STEP, BLOCK), np.float32)
    matrix[:, ::2] = -1
    expected = x.astype(np.float64) @ matrix.astype(np.float64)
    x[5, :STEP] = 0  # far below what a line's largest number counts as
    a = KINDS["int16"].empty(x.size)
    round_rows(x, a, 0, 3 * STEP)
    np.testing.assert_array_equal(a, stored(x, kind, 3 * STEP))
    for out in multiplied("int16", a, 0, 3 * STEP, BLOCK, 1, pack(matrix, kind), 0, 3):
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=0)
        assert not out[4].any()


@pytest.mark.parametrize(
    ("blocks", "inner", "columns", "kind"),
    [
        (1, 32, 32, "bf16"),
        (3, 96, 64, "bf16"),
        (70, 3200, 32, "bf16"),
        (3, 96, 64, "bf16x2"),
        (3, 96, 64, "bf16x3"),
        (8, 3072, 32, "bf16x3"),
        (3, 96, 64, "float32"),
        (8, 3072, 32, "float32"),
        (3, 96, 64, "int16"),
        (8, 3072, 32, "int16"),
    ],
)
def test_products_and_what_follows_them(blocks: int, inner: int, columns: int, kind: str) -> None:
    """The third and those of 3072 have more rows than are taken at once."""
    rows, matrix = normal(blocks * BLOCK, inner), normal(inner, columns, seed=1) / np.float32(math.sqrt(inner))
    bias, mean = normal(2, columns, seed=2)
    product = product_of(rows, matrix, kind) + bias
    close = {"rtol": left(KINDS[kind]), "atol": SUMS[kind]}
    given = (stored(rows, KINDS[kind], inner), 0, inner, 1, inner // STEP, blocks * BLOCK, pack(matrix, KINDS[kind]))
    height, width = len(rows) + 1, columns + STEP
    out = zeros_of(KINDS[kind], height * width)
    dense_narrow(*given, 0, columns, bias, True, mean, out, width + STEP, width)
    found, expected = read(out, KINDS[kind], height, width), gelu_of(product) - mean
    if kind == "int16":
        close["atol"] += left(KINDS[kind]) * np.abs(expected).max()
    np.testing.assert_allclose(found[1:, STEP:], expected, **close)
    assert not found[0].any()
    assert not found[:, :STEP].any()
    dense_narrow(*given, 0, columns, bias, False, 0 * mean, out, width + STEP, width)
    np.testing.assert_allclose(read(out, KINDS[kind], height, width)[1:, STEP:], product, **close)
    residual = normal(len(rows) + 1, columns + 16, seed=3)
    total = residual.copy()
    dense_add(*given, 0, columns, bias, False, total.reshape(-1), columns + 32, columns + 16)
    residual[1:, 16:] += product.astype(np.float32)
    np.testing.assert_allclose(total, residual, rtol=0, atol=SUMS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_of_some_columns(kind: str) -> None:
    rows, matrix, bias = normal(64, 64), normal(64, 96, seed=1) / 8, normal(96, seed=2)
    total = np.ones((64, 96), np.float32)
    given = (stored(rows, KINDS[kind], 64), 0, 64, 1, 2, 64, pack(matrix, KINDS[kind]))
    dense_add(*given, 0, 64, bias, True, total.reshape(-1), 0, 96)
    expected = gelu_of(product_of(rows, matrix, kind) + bias)
    np.testing.assert_allclose(total[:, :64], 1 + expected[:, :64], rtol=1e-5, atol=SUMS[kind])
    np.testing.assert_array_equal(total[:, 64:], 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "int16"])
def test_rows_that_overlap_make_a_convolution(kind: str) -> None:
    taps, channels, count = 9, 16, 32
    x, weight = normal(count + taps, channels), normal(taps * channels, 32, seed=1)
    total, none = np.zeros((count, 32), np.float32), np.zeros(32, np.float32)
    steps = -(-taps * channels // STEP)
    given = (stored(x, KINDS[kind], channels), 0, channels, 1, steps, count, pack(weight, KINDS[kind]))
    dense_add(*given, 0, 32, none, False, total.reshape(-1), 0, 32)
    windows = np.stack([x[row : row + taps].reshape(-1) for row in range(count)])
    np.testing.assert_allclose(total, product_of(windows, weight, kind), rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taps", [2, 3])
def test_runs_of_a_row_make_a_convolution_of_stride_2(taps: int, kind: str) -> None:
    channels, columns, count = 64, 96, 64
    x, weight = normal(2 * count + taps, channels), normal(taps * channels, columns, seed=1) / 8
    apart = 3 * STEP
    windows = np.stack([x[2 * row : 2 * row + taps].reshape(-1) for row in range(count)])
    rows, second = stored(x, KINDS[kind], apart), pack(weight, KINDS[kind])
    given = (rows, 0, 2 * apart, taps, channels // STEP, count, second, 0, columns)
    none, total = np.zeros(columns, np.float32), np.zeros((count, columns), np.float32)
    dense_add(*given, none, False, total.reshape(-1), 0, columns)
    np.testing.assert_allclose(total, product_of(windows, weight, kind), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replace", [False, True])
def test_normalize(replace: bool, kind: str) -> None:
    x, weight, bias = 3 * normal(5, 96) + 7, normal(96, seed=1), normal(96, seed=2)
    double = x.astype(np.float64)
    deviations = double - double.mean(axis=1, keepdims=True)
    expected = deviations / np.sqrt(np.square(deviations).mean(axis=1, keepdims=True) + 1e-5) * weight + bias
    before, out = x.copy(), zeros_of(KINDS[kind], 6 * 128)
    normalize(x, weight, bias, np.float32(1e-5), replace, out, 128 + STEP, 128)
    rows = read(out, KINDS[kind], 6, 128)
    close = 1e-5 if kind != "int16" else 1e-5 + left(KINDS[kind]) * np.abs(expected).max()
    np.testing.assert_allclose(rows[1:, STEP:], expected, rtol=left(KINDS[kind]), atol=close)
    assert not rows[0].any()
    assert not rows[:, :STEP].any()
    np.testing.assert_allclose(x, expected if replace else before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_round_rows(kind: str) -> None:
    x = normal(4, 64) * np.float32(100)
    x[0, 5] = -1000  # the largest of its line is below 0
    out = zeros_of(KINDS[kind], 5 * 96)
    round_rows(x, out, 96, 96)
    found = read(out, KINDS[kind], 5, 96)
    np.testing.assert_allclose(found[1:, :64], as_factors(x, KINDS[kind]), rtol=ROUNDED[kind])
    assert not found[0].any()
    assert not found[:, 64:].any()
    largest = np.abs(x.reshape(4, 2, STEP)).max(axis=2).repeat(STEP, axis=1) if kind == "int16" else np.abs(x)
    assert (np.abs(found[1:, :64] - x) <= left(KINDS[kind]) * largest).all()


def test_bfloat16_goes_to_the_nearest_and_from_the_middle_away_from_0() -> None:
    x = np.concatenate([normal(61), [1 + 2.0**-8, -1 - 2.0**-8, 0]]).astype(np.float32).reshape(2, 32)
    out = np.zeros((1, 64), np.uint16)
    round_rows(x, out, 0, 32)
    np.testing.assert_array_equal(out[0], narrow(x).reshape(-1))
    assert wide(out)[0, 61] == 1 + 2.0**-7
    assert wide(out)[0, 62] == -1 - 2.0**-7
    assert (np.abs(wide(out).reshape(x.shape) - x) <= HALF_ULP * np.abs(x)).all()
    assert rounded(x).shape == x.shape


@pytest.mark.parametrize("kind", ["bf16x2", "bf16x3", "float32"])
def test_write_windows(kind: str) -> None:
    samples = normal(40)
    windows = KINDS[kind].empty(4 * STEP)
    windows.fill(9)
    write_windows(samples, 20, 7, 5, STEP, windows)
    padded = np.pad(samples, (0, 20))
    expected = np.zeros((4, STEP), np.float32)
    expected[:, :5] = [padded[20 + 7 * row : 25 + 7 * row] for row in range(4)]
    expected[:, 5] = 1
    np.testing.assert_array_equal(windows, stored(expected, KINDS[kind], STEP))
