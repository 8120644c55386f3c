from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mertric.fold import FirstConvolution, FoldedClip, fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAPS, STRIDE, CHANNELS = 10, 5, 24
EPSILON, NORM_EPSILON = 1e-7, 1e-5


def convolution(*, group: bool = True) -> FirstConvolution:
    rng = np.random.default_rng(3)
    return FirstConvolution(
        weight=rng.normal(0, 0.4, (CHANNELS, TAPS)),
        bias=rng.normal(0, 0.3, CHANNELS),
        stride=STRIDE,
        normalize_epsilon=EPSILON,
        scale=rng.normal(1, 0.3, CHANNELS) if group else None,
        offset=rng.normal(0, 0.3, CHANNELS) if group else None,
        norm_epsilon=NORM_EPSILON,
    )


def direct(first: FirstConvolution, samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Zero mean and unit variance, convolution, GroupNorm with a group per channel; [windows, channels]."""
    x = samples.astype(np.float64)
    x = (x - x.mean()) / np.sqrt(x.var() + EPSILON)
    count = (x.size - TAPS) // STRIDE + 1
    y = np.array([first.weight @ x[i * STRIDE : i * STRIDE + TAPS] + first.bias for i in range(count)])
    if first.scale is None:
        return y
    return (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + NORM_EPSILON) * first.scale + first.offset


def folded(clip: FoldedClip, samples: int) -> NDArray[np.float64]:
    windows = clip.windows(0, (samples - TAPS) // STRIDE + 1)
    return windows.astype(np.float64) @ clip.weights.astype(np.float64)


def noise(samples: int = 4003) -> NDArray[np.float64]:
    rng = np.random.default_rng(8)
    return np.convolve(rng.standard_normal(samples + 9), np.hanning(10), "valid") * 0.1


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize(
    ("gain", "offset"),
    [(1.0, 0.0), (1.0, 0.5), (1e-2, -0.9), (1e-4, 0.3), (1e-6, 0.0), (30.0, 4.0), (1e4, 0.0)],
)
def test_the_fold_is_direct_normalisation(gain: float, offset: float, group: bool) -> None:
    samples = (gain * noise() + offset).astype(np.float32)
    first = convolution(group=group)
    expected = direct(first, samples)
    difference = np.abs(folded(fold(first, samples), samples.size) - expected).max()
    assert difference < 4e-6 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("level", [0.0, 0.3, -1.0, 1e-9])
@pytest.mark.parametrize("group", [True, False])
def test_silence_and_direct_current(level: float, group: bool) -> None:
    samples = np.full(1000, level, np.float32)
    first = convolution(group=group)
    outputs = folded(fold(first, samples), samples.size)
    expected = np.broadcast_to(first.bias if first.offset is None else first.offset, outputs.shape)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_one_window_has_no_variance() -> None:
    samples = noise(TAPS).astype(np.float32)
    first = convolution()
    assert first.offset is not None
    np.testing.assert_allclose(folded(fold(first, samples), TAPS)[0], first.offset, atol=1e-4)


@given(st.floats(0.01, 100), st.floats(-10, 10), st.integers(TAPS, 600))
@settings(max_examples=25, deadline=None)
def test_gain_and_offset_change_nothing(gain: float, offset: float, samples: int) -> None:
    clip = noise(samples)
    first = convolution()
    one = folded(fold(first, clip.astype(np.float32)), samples)
    other = folded(fold(first, (gain * clip + offset).astype(np.float32)), samples)
    # float32 holds the offset, and the clip beside it with what precision is left.
    lost = 1e-6 * (1 + abs(offset) / gain)
    np.testing.assert_allclose(one, other, atol=3e4 * lost if samples < 60 else 3e3 * lost)


def test_blocks_of_windows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise().astype(np.float32)
    whole = fold(convolution(), samples).weights
    monkeypatch.setattr("mertric.fold._BLOCK", 64)
    np.testing.assert_allclose(fold(convolution(), samples).weights, whole, rtol=1e-6)


def test_the_clip_given_is_not_changed() -> None:
    samples = noise().astype(np.float32)
    before = samples.copy()
    fold(convolution(), samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize(("start", "rows"), [(0, 1), (0, 9), (3, 4), (7, 5), (50, 2)])
def test_windows(start: int, rows: int) -> None:
    samples = np.arange(1, 48, dtype=np.float32)
    clip = FoldedClip((samples,), np.zeros((TAPS + 1, 1), np.float32), TAPS, STRIDE)
    long = np.concatenate([samples, np.zeros(1000, np.float32)])
    windows = clip.windows(start, rows)
    assert windows.dtype == np.float32
    for row, window in enumerate(windows):
        at = (start + row) * STRIDE
        np.testing.assert_array_equal(window, [*long[at : at + TAPS], 1])


def bfloat16(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """Round as a processor does that multiplies in bfloat16: to the nearest, of two to the even one."""
    bits = array.view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_split_clip_loses_little_to_bfloat16(offset: float) -> None:
    samples = (noise() + offset).astype(np.float32)
    clip = fold(convolution(), samples)
    expected = clip.windows(0, 400).astype(np.float64) @ clip.weights

    def error(clip: FoldedClip) -> float:
        rounded = bfloat16(clip.windows(0, 400)) @ bfloat16(clip.weights)
        return float(np.abs(rounded - expected).max() / np.abs(expected).max())

    split = clip.split()
    assert split.weights.shape == (3 * TAPS + 2, len(convolution().weight))
    np.testing.assert_allclose(split.windows(0, 400).astype(np.float64) @ split.weights, expected, atol=1e-4)
    assert error(split) < 3e-5 < 1e-3 < error(clip)
