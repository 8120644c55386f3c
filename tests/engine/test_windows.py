from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mertric.errors import InputError
from mertric.windows import Span, Windows

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
@pytest.mark.parametrize("length", [1, 2, 22, 57, 58])
def test_every_frame_comes_from_the_window_it_is_deepest_in(length: int, overlap: float) -> None:
    for frames in (1, 2, 57, 374):
        spans = Windows(seconds=1, overlap=overlap).spans(frames, length)
        assert [frame for span in spans for frame in range(span.begin, span.end)] == list(range(frames))
        assert spans[-1].start == max(0, frames - length)
        for span in spans:
            for frame in range(span.begin, span.end):
                depths = {other: min(frame - other.start, other.start + length - 1 - frame) for other in spans}
                assert depths[span] == max(depths.values())


@given(st.integers(1, 40), st.floats(0, 0.99), st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_settled_spans_are_all_that_more_frames_cannot_change(length: int, overlap: float, frames: int) -> None:
    windows = Windows(seconds=1, overlap=overlap)

    def windows_of_frames(spans: list[Span]) -> list[int]:
        return [span.start for span in spans for _ in range(span.begin, span.end)]

    settled = windows_of_frames(windows.settled(frames, length))
    ends = [windows_of_frames(windows.spans(frames + more, length)) for more in range(2 * length + 2)]
    assert all(end[: len(settled)] == settled for end in ends)
    if frames < length:
        assert not settled
    elif len(settled) < frames:
        assert len({tuple(end[: len(settled) + 1]) for end in ends}) > 1


@pytest.mark.parametrize(
    ("seconds", "overlap", "message"),
    [
        (0.0, 0.5, "window of 0.0 s"),
        (float("nan"), 0.5, "window of nan"),
        (float("inf"), 0.5, "window of inf s was asked for; expected more than 0, and not infinite"),
        (1.0, 1.0, "overlap of 1.0"),
        (1.0, -0.1, "overlap"),
        ("1", 0.5, "window of '1' s"),
        (1.0, None, "overlap of None"),
    ],
)
def test_windows_that_cannot_be(seconds: float, overlap: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Windows(seconds=seconds, overlap=overlap)
