from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from mertric.errors import InputError
from mertric.metrics import kernel_distance as module
from mertric.metrics.kernel_distance import kernel_audio_distance, median_distance

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def reseeded() -> None:
    """Give each test the same draws, whatever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def _kad(x: np.ndarray, y: np.ndarray, bandwidth: float | None = None) -> float:
    """kadtk's definition on full distance matrices of SciPy."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    width = np.median(pdist(x)) if bandwidth is None else bandwidth
    xx, yy, xy = (np.exp(-cdist(a, b, "sqeuclidean") / (2 * width**2)) for a, b in ((x, x), (y, y), (x, y)))
    m, n = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
    return float(100 * (within - 2 * xy.mean()))


@pytest.mark.parametrize(("m", "n"), [(3, 2), (11, 6), (70, 31)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("tile", [4, 512])
def test_agrees_with_full_distance_matrices(
    m: int, n: int, dtype: type, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", tile)
    x, y = RNG.standard_normal((m, 8)).astype(dtype), (RNG.standard_normal((n, 8)) + 0.5).astype(dtype)
    assert kernel_audio_distance(x, y) == pytest.approx(_kad(x, y), rel=1e-10)
    assert kernel_audio_distance(x, y, bandwidth=0.9, scale=1.0) == pytest.approx(_kad(x, y, 0.9) / 100)


def test_a_large_offset_of_both_changes_nothing() -> None:
    x, y = RNG.standard_normal((20, 4)), RNG.standard_normal((20, 4))
    assert kernel_audio_distance(x + 2.0**20, y + 2.0**20) == pytest.approx(kernel_audio_distance(x, y), rel=1e-6)


def test_is_about_zero_for_samples_of_one_distribution_and_grows_with_a_shift() -> None:
    x, y = RNG.standard_normal((2, 600, 3))
    near, far, farther = (kernel_audio_distance(x, y + by) for by in (0.0, 1.0, 2.0))
    assert abs(near) < 0.5
    assert 5.0 < far < farther


def test_threads_do_not_change_it() -> None:
    x = RNG.standard_normal((1200, 3))
    assert kernel_audio_distance(x, x[::2], workers=1) == kernel_audio_distance(x, x[::2], workers=3)


def test_median_is_the_lower_one_of_all_pairs() -> None:
    x = RNG.standard_normal((8, 3))
    assert median_distance(x) == pytest.approx(np.sort(pdist(x))[13], rel=1e-14)
    assert median_distance(np.array([[0.0], [3.0]])) == 3.0


def test_median_of_many_frames_is_of_a_seeded_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG.standard_normal((900, 3))
    whole = median_distance(x)
    monkeypatch.setattr(module, "MEDIAN_FRAMES", 300)
    assert median_distance(x) == median_distance(x) == pytest.approx(whole, rel=0.05)
    assert median_distance(x) != whole


@pytest.mark.parametrize(
    ("x", "y", "bandwidth", "message"),
    [
        (np.ones((1, 2)), np.ones((4, 2)), None, "x has 1 frame"),
        (np.ones((4, 3)), np.ones((4, 2)), None, "x has 3 dimensions and y has 2"),
        (np.ones((4, 2)), np.eye(2), None, "the median distance of x's frames is 0.0"),
        (np.eye(2), np.eye(2), 0.0, "bandwidth is 0.0; expected a number above 0 whose square is a float64"),
        (np.eye(2), np.eye(2), 1e-170, "bandwidth is 1e-170; expected a number above 0 whose square is a float64"),
        (np.eye(2), np.eye(2), 1e170, "bandwidth is 1e\\+170; expected"),
        (np.eye(2), np.eye(2), -1.0, "bandwidth is -1.0; expected"),
        (np.eye(2), np.eye(2), float("inf"), "bandwidth is inf"),
        (np.array([[0.0, np.nan], [0, 0]]), np.eye(2), None, "x holds nan at frame 0, dimension 1"),
        (np.eye(2), np.array([[0.0, 0], [0, np.inf]]), None, "y holds inf at frame 1, dimension 1"),
        (np.eye(2) * 1e200, np.eye(2), None, "x holds values up to 1e\\+200"),
    ],
)
def test_says_what_is_wrong(x: np.ndarray, y: np.ndarray, bandwidth: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kernel_audio_distance(x, y, bandwidth=bandwidth)


@pytest.mark.parametrize("offset", [2.0**20, 2.0**30])
def test_an_estimate_far_from_its_reference_keeps_its_own_digits(offset: float) -> None:
    x, y = RNG.standard_normal((40, 4)), np.round(RNG.standard_normal((40, 4)), 6)
    moved = y + offset
    within = kernel_audio_distance(x, moved, bandwidth=1.0)
    assert within == pytest.approx(_kad(x, moved - offset + 1e4, 1.0), rel=1e-9)


def test_no_frame_is_drawn_twice() -> None:
    """Of 2001 numbers in a row, one is left out."""
    numbers = np.arange(module.MEDIAN_FRAMES + 1.0)[:, None]
    exact = np.median(pdist(numbers))
    assert abs(median_distance(numbers) - exact) <= 1
