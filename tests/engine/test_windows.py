from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mertric.errors import InputError
from mertric.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mertric.encoder import Encoder

    Sound = Callable[..., NDArray[np.float32]]

RATE = 24000


def test_a_window_longer_than_the_clip_is_exact(encoder: Encoder, sound: Sound) -> None:
    clip = sound(RATE)
    exact = encoder.embed(clip, sample_rate=RATE, layers="all")
    got = encoder.embed(clip, sample_rate=RATE, layers="all", windows=Windows(seconds=1.0))
    np.testing.assert_array_equal(got.hidden, exact.hidden)


def test_state_0_knows_no_attention(encoder: Encoder, sound: Sound) -> None:
    clip = sound(3 * RATE)
    exact = encoder.embed(clip, sample_rate=RATE, layers=(0,))
    got = encoder.embed(clip, sample_rate=RATE, layers=(0,), windows=Windows(seconds=0.5))
    np.testing.assert_array_equal(got.hidden, exact.hidden)


def test_longer_windows_come_nearer(encoder: Encoder, sound: Sound) -> None:
    clip = sound(6 * RATE)
    exact = encoder.embed(clip, sample_rate=RATE).hidden

    def error(seconds: float) -> float:
        got = encoder.embed(clip, sample_rate=RATE, windows=Windows(seconds=seconds)).hidden
        assert got.shape == exact.shape
        return float(np.square(got - exact).mean() / np.square(exact).mean())

    errors = [error(seconds) for seconds in (0.5, 2.0, 5.0)]
    assert 1 > errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.77])
def test_every_frame_comes_from_one_window(seconds: float, overlap: float) -> None:
    for frames in (1, 2, 57, 374):
        length = max(1, round(seconds * 75))
        if length >= frames:
            continue
        spans = list(Windows(seconds=seconds, overlap=overlap)._spans(frames, length))
        covered = [frame for start, begin, end in spans for frame in range(begin, end)]
        assert covered == list(range(frames))
        assert all(start <= begin <= end <= start + length for start, begin, end in spans)


@pytest.mark.parametrize(
    ("seconds", "overlap", "message"),
    [
        (0.0, 0.5, "window of 0.0 s"),
        (float("nan"), 0.5, "window of nan"),
        (1.0, 1.0, "overlap of 1.0"),
        (1.0, -0.1, "overlap"),
    ],
)
def test_windows_that_cannot_be(seconds: float, overlap: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Windows(seconds=seconds, overlap=overlap)
