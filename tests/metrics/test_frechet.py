from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from frechet_oracles import exact_frechet, spectrum, svd_frechet
from hypothesis import given, settings
from hypothesis import strategies as st

from mertric.errors import InputError
from mertric.metrics import prepared
from mertric.metrics.frechet import CLOSE, frechet_distance
from mertric.metrics.prepared import prepare

SHAPES = [(5, 7, 12), (12, 5, 9), (30, 4, 6), (20, 25, 6), (2, 2, 3), (2, 40, 5), (7, 7, 1), (6, 6, 6)]


@pytest.mark.parametrize(("m", "n", "dim"), SHAPES)
@pytest.mark.parametrize("decades", [0, 6, 12])
def test_agrees_with_50_digits_for_any_shape_and_condition(m: int, n: int, dim: int, decades: int) -> None:
    rng = np.random.default_rng(m * 100 + n + decades)
    values = np.logspace(0, -decades, dim)
    x, y = spectrum(rng, m, values), spectrum(rng, n, values)
    assert frechet_distance(x, y) == pytest.approx(exact_frechet(x, y), rel=1e-12)


@pytest.mark.parametrize("opposed", [False, True])
def test_agrees_where_small_directions_of_one_are_large_in_the_other(opposed: bool) -> None:
    rng = np.random.default_rng(3)
    values = np.logspace(0, -12, 8)
    x = rng.standard_normal((20, 8)) * values
    y = rng.standard_normal((20, 8)) * (values[::-1] if opposed else values)
    assert frechet_distance(x, y) == pytest.approx(exact_frechet(x, y), rel=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 5, 11, 12])
@pytest.mark.parametrize("frames", [9, 20])
def test_agrees_for_every_rank(rank: int, frames: int) -> None:
    rng = np.random.default_rng(rank)
    x = rng.standard_normal((frames, rank)) @ rng.standard_normal((rank, 12))
    y = rng.standard_normal((frames, rank)) @ rng.standard_normal((rank, 12))
    assert frechet_distance(x, y) == pytest.approx(exact_frechet(x, y), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("frames", [5, 18])
def test_agrees_for_scales_and_offsets(scale: float, offset: float, frames: int) -> None:
    rng = np.random.default_rng(5)
    x = scale * (rng.standard_normal((frames, 8)) + offset)
    y = scale * (1.5 * rng.standard_normal((frames, 8)) + offset)
    assert frechet_distance(x, y) == pytest.approx(exact_frechet(x, y), rel=1e-9)


@pytest.mark.parametrize(
    ("m", "n", "dtype"),
    [(75, 75, np.float64), (374, 374, np.float16), (374, 900, np.float32), (900, 749, np.float64)],
)
def test_agrees_with_svd_at_full_size(m: int, n: int, dtype: type) -> None:
    rng = np.random.default_rng(m)
    values = np.logspace(0, -2, 768)
    x, y = spectrum(rng, m, values).astype(dtype), spectrum(rng, n, values).astype(dtype)
    assert frechet_distance(x, y) == pytest.approx(svd_frechet(x, y), rel=1e-11)


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_keeps_relative_accuracy_for_embeddings_that_are_nearly_alike(distance: float) -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((12, 10)) * np.logspace(0, -2, 10)
    y = x + distance * rng.standard_normal((12, 10))
    assert frechet_distance(x, y) == pytest.approx(exact_frechet(x, y), rel=1e-8)
    assert frechet_distance(x[:8], y[:9]) == pytest.approx(exact_frechet(x[:8], y[:9]), rel=1e-9)


def test_keeps_what_a_frame_more_adds_to_a_clip_that_is_else_the_same() -> None:
    """What the longer one's root has outside of the other's rows counts too."""
    x = np.random.default_rng(4).standard_normal((201, 300))
    x[-1] = x[:-1].mean(0) + 0.1 * x[-1]
    found = frechet_distance(x[:-1], x)
    assert found < CLOSE * np.trace(np.cov(x, rowvar=False))
    assert found == pytest.approx(svd_frechet(x[:-1], x), rel=1e-6)


@pytest.mark.parametrize(("frames", "offset"), [(2, 0.0), (75, 1e4), (374, 0.0), (900, 1e4)])
def test_is_zero_for_identical_embeddings(frames: int, offset: float) -> None:
    x = spectrum(np.random.default_rng(1), frames, np.logspace(0, -6, 768)) + offset
    assert frechet_distance(x, x.copy()) == 0.0


def test_is_the_closed_form_for_diagonal_covariances() -> None:
    """Frames ±s_i e_i have the covariance diag(2 s² / (frames - 1)): |m1 - m2|² + Σ (a_i - b_i)²."""
    s, t = np.array([3.0, 2.0, 0.5, 0.0]), np.array([1.0, 2.5, 0.5, 4.0])
    x, y = (np.vstack([np.diag(v), -np.diag(v)]) for v in (s, t))
    expected = 4 * 0.25 + np.sum((s - t) ** 2) * 2 / 7
    assert frechet_distance(x, y + 0.5) == pytest.approx(expected, rel=1e-14)


def test_of_constant_embeddings_is_the_distance_of_their_means() -> None:
    assert frechet_distance(np.zeros((3, 2)), np.full((5, 2), 2.0)) == 8.0
    x = np.random.default_rng(0).standard_normal((20, 2))
    assert frechet_distance(x, np.zeros((3, 2))) == pytest.approx(
        (x.mean(0) ** 2).sum() + x.var(0, ddof=1).sum(), rel=1e-14
    )


def test_takes_any_dtype_strides_and_read_only_arrays() -> None:
    rng = np.random.default_rng(2)
    half = rng.standard_normal((40, 24)).astype(np.float16)
    y = rng.standard_normal((12, 12))
    view = half[::-2, 1::2]
    view.setflags(write=False)
    expected = frechet_distance(np.ascontiguousarray(view).astype(np.float64), y)
    for x in (view, view.astype(np.float32), np.asfortranarray(view.astype(np.float64)), view.tolist()):
        assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-14)
    integers = np.arange(24).reshape(4, 6) ** 2
    assert frechet_distance(integers, y[:, :6]) == frechet_distance(integers.astype(float), y[:, :6])


def test_leaves_its_input_as_it_was() -> None:
    x = np.random.default_rng(0).standard_normal((9, 4))
    kept = x.copy()
    frechet_distance(x, 2 * x)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("frames", [80, 700])
def test_long_clips_are_reduced_alike_in_blocks_and_by_both_factors(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((frames, 20)) + 3.0, rng.standard_normal((frames, 20)) * 1.2
    whole = frechet_distance(x, y)
    monkeypatch.setattr(prepared, "BLOCK", 64)
    assert frechet_distance(x, y) == pytest.approx(whole, rel=1e-12)
    monkeypatch.setattr(prepared, "LEAST_RCOND", 2.0)
    assert frechet_distance(x, y) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("decades", "taken"), [(0, 0), (4, 0), (6, 1), (12, 1)])
def test_an_ill_conditioned_long_clip_takes_the_triangular_route(
    decades: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a condition of 1e5 on: what a scatter matrix squares."""
    calls = []
    triangular = prepared._triangular
    monkeypatch.setattr(prepared, "_triangular", lambda *a: calls.append(1) or triangular(*a))
    prepare(np.random.default_rng(6).standard_normal((50, 8)) * np.logspace(0, -decades, 8))
    assert len(calls) == taken


@pytest.mark.parametrize("decades", [0, 12])
def test_the_root_of_a_long_clip_is_triangular(decades: int) -> None:
    x = np.random.default_rng(2).standard_normal((40, 12)) * np.logspace(0, -decades, 12) + 5.0
    ready = prepare(x)
    centred = x - x.mean(0)
    assert ready.triangular
    np.testing.assert_array_equal(ready.root, np.triu(ready.root))
    np.testing.assert_allclose(ready.root.T @ ready.root, centred.T @ centred, rtol=1e-9, atol=1e-13)
    assert not prepare(x[:12]).triangular


def test_a_prepared_embedding_stands_for_its_array() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((10, 6)), rng.standard_normal((14, 6))
    assert frechet_distance(prepare(x), y) == frechet_distance(x, prepare(y)) == frechet_distance(x, y)


embeddings = st.tuples(
    st.integers(2, 14), st.integers(2, 14), st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(-3, 3)
)


def _pair(
    case: tuple[int, int, int, int, float],
) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    m, n, dim, seed, decades = case
    rng = np.random.default_rng(seed)
    scale = 10.0**decades
    return rng, scale * rng.standard_normal((m, dim)), scale * (rng.standard_normal((n, dim)) * 1.7 + 0.3)


@settings(max_examples=60, deadline=None)
@given(embeddings)
def test_symmetry_and_positivity(case: tuple[int, int, int, int, float]) -> None:
    _, x, y = _pair(case)
    value = frechet_distance(x, y)
    assert value >= 0.0
    assert frechet_distance(y, x) == pytest.approx(value, rel=1e-11)


@settings(max_examples=40, deadline=None)
@given(embeddings)
def test_zero_on_identity_whatever_the_order_of_frames(case: tuple[int, int, int, int, float]) -> None:
    rng, x, y = _pair(case)
    shuffled = rng.permutation(x)
    assert 0.0 <= frechet_distance(x, shuffled) <= 1e-12 * prepare(x).trace
    assert frechet_distance(shuffled, y) == pytest.approx(frechet_distance(x, y), rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(embeddings, st.floats(-100, 100))
def test_translation_of_both_changes_nothing(case: tuple[int, int, int, int, float], by: float) -> None:
    _, x, y = _pair(case)
    move = by * np.abs(x).max() * np.linspace(-1, 1, x.shape[1])
    assert frechet_distance(x + move, y + move) == pytest.approx(frechet_distance(x, y), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(embeddings)
def test_rotation_of_both_changes_nothing(case: tuple[int, int, int, int, float]) -> None:
    rng, x, y = _pair(case)
    turn = np.linalg.qr(rng.standard_normal((x.shape[1], x.shape[1])))[0]
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1, max_size=6))
def test_closed_form_for_diagonal_covariances(scales: list[tuple[float, float]]) -> None:
    s, t = np.array(scales).T
    x, y = (np.vstack([np.diag(v), -np.diag(v)]) for v in (s, t))
    frames = len(x)
    expected = np.sum((s - t) ** 2) * 2 / (frames - 1)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12 * np.sum(s * t))


BAD = [
    (np.zeros(4), r"x has shape \(4,\); expected two axes, \[frames, dim\]\."),
    (np.zeros((2, 4, 3)), r"x has shape \(2, 4, 3\).* Take one layer of it"),
    (np.zeros((0, 3)), "x has no frames"),
    (np.zeros((4, 0)), "no dimensions"),
    (np.zeros((1, 3)), "x has 1 frame, of which no covariance can be taken; expected at least 2"),
    (np.zeros((4, 2)), "x has 2 dimensions and y has 3"),
    (np.zeros((4, 3), complex), "x has dtype complex128; expected real numbers"),
    (np.array([["a", "b", "c"]] * 2), "expected real numbers"),
    ([[1.0, 2.0, 3.0], [4.0]], r"x is no array of numbers \(.*\); expected \[frames, dim\]"),
    (np.full((4, 3), np.nan), r"x holds nan at frame 0, dimension 0 \(12 of 12 values are not finite\)"),
    (np.array([[0, 0, 0], [0, np.inf, 0]], np.float16), r"x holds inf at frame 1, dimension 1 \(1 of 6"),
    (np.full((4, 3), 1e200) * np.arange(4)[:, None], "values up to 3e\\+200, whose squares overflow"),
]


@pytest.mark.parametrize(("x", "message"), BAD)
def test_says_what_is_wrong(x: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet_distance(x, np.ones((4, 3)))


def test_says_which_of_the_two_is_wrong() -> None:
    with pytest.raises(InputError, match=r"^y has 1 frame,"):
        frechet_distance(np.ones((4, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match=r"^y holds -inf at frame 9, dimension 2"):
        y = np.zeros((10, 3))
        y[9, 2] = -np.inf
        frechet_distance(np.ones((4, 3)), y)


def test_kernels_are_loaded_before_the_first_distance() -> None:
    """In a fresh process: nothing is left to compile for half or single precision, short clips or long."""
    program = """
import numpy as np
from mertric.kernels.jit import examples
from mertric.metrics.frechet import frechet_distance, load_kernels
load_kernels()
before = {name: len(dispatcher.signatures) for name, (dispatcher, _) in examples.items()}
rng = np.random.default_rng(0)
for frames in (9, 40, 41):
    for kind in (np.float16, np.float32):
        x, y = rng.standard_normal((2, frames, 16)).astype(kind)
        frechet_distance(x, y)
        frechet_distance(x[:, [0, *range(15)]], y[:, [0, *range(15)]])
assert {name: len(dispatcher.signatures) for name, (dispatcher, _) in examples.items()} == before
assert sum(before.values()) >= 5, before
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_masked_values_are_refused() -> None:
    masked = np.ma.masked_less(np.random.default_rng(0).standard_normal((9, 4)), 0)
    with pytest.raises(InputError, match="masked values; expected all of them"):
        frechet_distance(masked, np.zeros((9, 4)))
