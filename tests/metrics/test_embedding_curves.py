from __future__ import annotations

import numpy as np
import pytest

from mertric.errors import InputError
from mertric.metrics.curves import frechet_curve, mse_curve
from mertric.metrics.embedding_mse import embedding_mse, frame_mse, layer_mse
from mertric.metrics.frechet import frechet_distance

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def reseeded() -> None:
    """Give each test the same draws, whatever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


@pytest.mark.parametrize("x_type", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("y_type", [np.float16, np.float64])
def test_mse_is_that_of_numpy_in_float64(x_type: type, y_type: type) -> None:
    x, y = (9 * RNG.standard_normal((31, 44))).astype(x_type), RNG.standard_normal((31, 44)).astype(y_type)
    squares = (x.astype(np.float64) - y.astype(np.float64)) ** 2
    assert embedding_mse(x, y) == pytest.approx(squares.mean(), rel=1e-14)
    np.testing.assert_allclose(frame_mse(x, y), squares.mean(1), rtol=1e-13)


def test_mse_takes_strides_and_is_zero_on_identity() -> None:
    x = RNG.standard_normal((20, 30))
    x.setflags(write=False)
    assert embedding_mse(x[::2, ::-3], x[1::2, ::-3]) == pytest.approx(np.mean((x[::2] - x[1::2])[:, ::-3] ** 2))
    assert embedding_mse(x, x) == 0.0
    assert embedding_mse(x[:1], x[1:2]) > 0.0


def test_mse_of_close_values_does_not_cancel() -> None:
    x = np.full((3, 5), 1e8)
    assert embedding_mse(x, x + 2.0**-20) == 2.0**-40


def test_layer_mse_is_that_of_each_layer() -> None:
    x, y = RNG.standard_normal((2, 3, 5, 7))
    np.testing.assert_allclose(layer_mse(x, y), ((x - y) ** 2).mean((1, 2)), rtol=1e-14)
    np.testing.assert_allclose(layer_mse(x[0], y[0]), [embedding_mse(x[0], y[0])])
    with pytest.raises(InputError, match="x has 3 layers and y has 2"):
        layer_mse(x, y[:2])
    with pytest.raises(InputError, match=r"y has shape \(7,\); expected \[frames, dim\], or \[layers"):
        layer_mse(x, y[0, 0])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((4, 3)), np.ones((5, 3)), "x has 4 frames and y has 5; this metric compares frame by frame"),
        (np.ones((4, 3)), np.ones((4, 2)), "x has 3 dimensions and y has 2"),
        (np.ones((0, 3)), np.ones((0, 3)), "x has no frames"),
        (np.ones((2, 2)), np.array([[1, 2], [np.nan, 4]]), "y holds nan at frame 1, dimension 0"),
        (np.full((2, 2), np.inf), np.full((2, 2), np.inf), "x holds inf at frame 0, dimension 0"),
        (np.full((2, 2), 1e200), np.ones((2, 2)), "x holds values up to 1e\\+200, whose squares overflow"),
        (np.ones((2, 2)), np.full((2, 2), -1e200), "y holds values up to 1e\\+200, whose squares overflow"),
        (np.ones((1, 2, 2)), np.ones((2, 2)), "Take one layer of it"),
    ],
)
def test_mse_says_what_is_wrong(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedding_mse(x, y)


def test_mse_curve_has_the_time_of_every_frame() -> None:
    x, y = RNG.standard_normal((2, 150, 4))
    curve = mse_curve(x, y)
    np.testing.assert_allclose(curve.times[[0, 75, 149]], [0.0, 1.0, 149 / 75])
    assert curve.values.mean() == pytest.approx(embedding_mse(x, y), rel=1e-13)


def test_frechet_curve_is_that_of_its_windows() -> None:
    x, y = RNG.standard_normal((2, 40, 4))
    curve = frechet_curve(x, y, window=1.0, hop=0.5, frame_rate=10.0)
    expected = [frechet_distance(x[s : s + 10], y[s : s + 10]) for s in range(0, 31, 5)]
    np.testing.assert_allclose(curve.values, expected, rtol=1e-12)
    np.testing.assert_allclose(curve.times, [(s + 4.5) / 10 for s in range(0, 31, 5)])


def test_curves_show_which_seconds_are_bad() -> None:
    x = RNG.standard_normal((750, 6))
    y = x + 0.01 * RNG.standard_normal(x.shape)
    y[300:375] += 2.0 * RNG.standard_normal((75, 6))
    worst = mse_curve(x, y)
    assert 4.0 <= worst.times[np.argmax(worst.values)] < 5.0
    windows = frechet_curve(x, y, window=1.0, hop=1.0)
    assert windows.times[np.argmax(windows.values)] == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0.0}, "window is 0.0; expected a finite number above 0"),
        ({"hop": -1.0}, "hop is -1.0"),
        ({"frame_rate": float("nan")}, "frame_rate is nan"),
        ({"window": 0.01}, "are 1 and 75 frames at 75.0 frames a second; expected at least 2 and 1"),
        ({"window": 0.1, "hop": 0.001}, "are 8 and 0 frames at 75.0 frames a second; expected at least 2 and 1"),
        ({"window": 9.0}, "a window of 9.0 s is 675 frames; the clip has 40. Take a shorter window"),
    ],
)
def test_curves_say_what_is_wrong(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet_curve(np.ones((40, 2)), np.ones((40, 2)), **options)


def test_curves_say_what_is_wrong_with_embeddings() -> None:
    with pytest.raises(InputError, match="x has 40 frames and y has 39"):
        frechet_curve(np.ones((40, 2)), np.ones((39, 2)))
    with pytest.raises(InputError, match=r"frame_rate is 0.0"):
        mse_curve(np.ones((4, 2)), np.ones((4, 2)), frame_rate=0.0)
