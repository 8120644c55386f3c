from __future__ import annotations

import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mertric.encoder import Encoder
from mertric.errors import AudioError, InputError, ProviderError
from mertric.protocol import get_protocol
from mertric.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from mertric.embeddings import Embeddings
    from mertric.stream import Stream

    Sound = Callable[..., NDArray[np.float32]]

RATE = 24000
HOP, SEEN = 320, 400


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, provider="cpu", threads=1)


def offline(
    encoder: Encoder, samples: NDArray[np.float32], *, length: int, hop: int, layers: Any = None
) -> NDArray[np.float32]:
    """Hidden states of a whole signal at the model's rate by a stream's definition, frame by frame.

    Windows of `length` frames start every `hop` frames, and one ends with the last frame; a frame comes from the
    window whose nearer edge is farthest from it, the later one of two.
    """
    frames = (samples.size - SEEN) // HOP + 1
    if frames < length:
        return encoder.embed_samples(samples, layers=layers).hidden
    starts = sorted({*range(0, frames - length, hop), frames - length})
    clips = [samples[start * HOP : (start + length - 1) * HOP + SEEN] for start in starts]
    states = [encoder.embed_samples(clip, layers=layers).hidden for clip in clips]
    columns = []
    for frame in range(frames):
        depths = [min(frame - start, start + length - 1 - frame) for start in starts]
        best = max(range(len(starts)), key=lambda window: (depths[window], window))
        columns.append(states[best][:, frame - starts[best]])
    return np.stack(columns, axis=1)


def streamed(stream: Stream, pieces: Iterable[Any]) -> Embeddings:
    return joined([*map(stream.push, pieces), stream.finish()])


def joined(parts: list[Embeddings]) -> Embeddings:
    hidden = np.concatenate([part.hidden for part in parts], axis=1)
    return type(parts[0])(hidden, parts[0].layers, np.concatenate([part.times for part in parts]))


def cut(samples: NDArray[Any], sizes: Iterable[int]) -> list[NDArray[Any]]:
    return np.split(samples, np.cumsum(list(sizes)), axis=-1)


@pytest.mark.parametrize(("overlap", "hop"), [(0.5, 19), (0.0, 38), (0.8, 8)])
@pytest.mark.parametrize("samples", [400, 12239, 12240, 12559, 12560, 18000, 30000])
def test_a_stream_is_its_windows(encoder: Encoder, sound: Sound, samples: int, overlap: float, hop: int) -> None:
    clip = sound(samples)
    stream = encoder.stream(sample_rate=RATE, seconds=0.5, overlap=overlap, layers="all")
    got = streamed(stream, cut(clip, [1000] * (samples // 1000)))
    np.testing.assert_array_equal(got.hidden, offline(encoder, clip, length=38, hop=hop, layers="all"))
    np.testing.assert_array_equal(got.times, encoder.embed_samples(clip).times)
    assert got.layers == (0, 1, 2, 3, 4)


@given(
    st.sampled_from([RATE, 44100, 16000]),
    st.lists(st.one_of(st.just(0), st.integers(1, 900), st.integers(1, 20000)), max_size=12),
)
@settings(max_examples=25, deadline=None)
def test_pushes_of_any_sizes_give_the_same_to_the_bit(
    encoder: Encoder, sound: Sound, rate: int, sizes: list[int]
) -> None:
    clip = np.stack([sound(30000, 1), sound(30000, 2)])
    stream = encoder.stream(sample_rate=rate, seconds=0.3, overlap=0.4)
    got = streamed(stream, cut(clip, sizes))
    expected = offline(encoder, resample(clip.mean(axis=0), rate, RATE), length=22, hop=13)
    np.testing.assert_array_equal(got.hidden, expected)


def test_one_sample_at_a_time(encoder: Encoder, sound: Sound) -> None:
    clip = sound(6000)
    stream = encoder.stream(sample_rate=44100, seconds=0.05)
    got = streamed(stream, np.split(clip, clip.size))
    np.testing.assert_array_equal(got.hidden, offline(encoder, resample(clip, 44100, RATE), length=4, hop=2))


def test_one_sample_of_many_channels_at_a_time(encoder: Encoder) -> None:
    clip = np.random.default_rng(0).uniform(-1, 1, (12, 1500)).astype(np.float32)
    expected = streamed(encoder.stream(sample_rate=RATE, seconds=0.05), [clip])
    got = streamed(encoder.stream(sample_rate=RATE, seconds=0.05), np.split(clip, 1500, axis=1))
    np.testing.assert_array_equal(got.hidden, expected.hidden)


def test_frames_come_as_soon_as_they_are_final(encoder: Encoder, sound: Sound) -> None:
    """A window's first half when it is complete, and after it a frame for every two, until the next one is."""
    stream = encoder.stream(sample_rate=RATE, seconds=0.5)
    clip = sound(60000)
    assert stream.push(clip[: 37 * HOP + SEEN - 1]).hidden.shape == (1, 0, 64)
    assert stream.push(clip[37 * HOP + SEEN - 1 : 37 * HOP + SEEN]).times.size == 19
    at = 37 * HOP + SEEN
    counts = [stream.push(clip[start : start + HOP]).times.size for start in range(at, at + 40 * HOP, HOP)]
    assert counts == [*[0, 1] * 9, 10, *[0, 1] * 9, 10, 0, 1]


def test_a_window_is_embedded_once(encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    embed_samples = encoder.embed_samples

    def count(samples: NDArray[np.float32], *, layers: tuple[int, ...]) -> Embeddings:
        sizes.append(samples.size)
        return embed_samples(samples, layers=layers)

    monkeypatch.setattr(encoder, "embed_samples", count)
    streamed(encoder.stream(sample_rate=RATE, seconds=0.5), np.split(sound(37 * HOP + SEEN + 40 * HOP), 8))
    assert sizes == [37 * HOP + SEEN] * 4  # from frames 0, 19, 38 and 40


def test_a_stream_of_the_windows_length_is_one_clip(encoder: Encoder, sound: Sound) -> None:
    """5 s are 375 frames apart, but a clip of 5 s has 374: it is shorter than a window of 5 s."""
    clip = sound(5 * RATE)
    stream = encoder.stream(sample_rate=RATE)
    assert stream.push(clip).times.size == 0
    np.testing.assert_array_equal(stream.finish().hidden, encoder.embed_samples(clip).hidden)


def test_the_paper_rounds_a_stream_and_does_not_cut_it(encoder: Encoder, sound: Sound, monkeypatch: Any) -> None:
    clip = sound(20000)
    rounded = get_protocol("paper").prepare(clip)
    got = streamed(encoder.stream(sample_rate=RATE, seconds=0.5, protocol="paper"), [clip])
    np.testing.assert_array_equal(got.hidden, offline(encoder, rounded, length=38, hop=19))
    long = encoder.stream(sample_rate=100, seconds=0.01, overlap=0, protocol="paper")
    monkeypatch.setattr(encoder, "embed_samples", lambda samples, layers: type(got)(np.zeros((1, 1, 64)), (4,), None))
    assert streamed(long, [np.ones(361 * 100)]).times[-1] > 360.9


def test_integers_and_lists(encoder: Encoder, sound: Sound) -> None:
    integers = np.rint(sound(9000) * 30000).astype(np.int16)
    expected = streamed(encoder.stream(sample_rate=RATE, seconds=0.1), [integers / 32768])
    got = streamed(encoder.stream(sample_rate=RATE, seconds=0.1), [integers[:5000], integers[5000:]])
    np.testing.assert_array_equal(got.hidden, expected.hidden)
    listed = encoder.stream(sample_rate=RATE, seconds=0.1)
    assert listed.push([]).times.size == listed.push([0.0, 0.5]).times.size == 0


def test_the_callers_buffer_may_be_used_again(encoder: Encoder, sound: Sound) -> None:
    clip = sound(20000)
    buffer = np.empty(1000, np.float32)
    stream, parts = encoder.stream(sample_rate=RATE, seconds=0.2), []
    for piece in np.split(clip, 20):
        buffer[:] = piece
        parts.append(stream.push(buffer))
    expected = streamed(encoder.stream(sample_rate=RATE, seconds=0.2), [clip])
    np.testing.assert_array_equal(joined([*parts, stream.finish()]).hidden, expected.hidden)


def test_memory_does_not_grow(encoder: Encoder, sound: Sound) -> None:
    clip = sound(44100)
    stream = encoder.stream(sample_rate=44100, seconds=0.5)
    tracemalloc.start()
    try:
        held = []
        for _ in range(3):
            for _ in range(8):
                stream.push(clip)
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(held) < held[0] + 50000


def test_streams_in_many_threads_share_an_encoder(encoder: Encoder, sound: Sound) -> None:
    clips = [sound(20000 + 3000 * seed, seed) for seed in range(4)]

    def run(clip: NDArray[np.float32]) -> NDArray[np.float32]:
        return streamed(encoder.stream(sample_rate=44100, seconds=0.1), np.array_split(clip, 17)).hidden

    expected = list(map(run, clips))
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(run, clips), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_failed_run_loses_nothing(encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = sound(40000)
    expected = streamed(encoder.stream(sample_rate=RATE, seconds=0.3), [clip])
    stream = encoder.stream(sample_rate=RATE, seconds=0.3)
    first = stream.push(clip[:15000])

    def fail(*args: object, **options: object) -> None:
        raise ProviderError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(encoder, "embed_samples", fail)
        with pytest.raises(ProviderError):
            stream.push(clip[15000:30000])
    rest = [stream.push(np.zeros(0)), stream.push(clip[30000:])]
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "embed_samples", fail)
        with pytest.raises(ProviderError):
            stream.finish()
    with pytest.raises(InputError, match="the stream is finished"):
        stream.push(clip)
    rest.append(stream.finish())
    np.testing.assert_array_equal(joined([first, *rest]).hidden, expected.hidden)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 10)), "push has 3 channels, the ones before it had 2; expected as many.*begin another"),
        (np.zeros(10), "push has 1 channels, the ones before it had 2"),
        (np.full((2, 3), np.nan), "push holds 6 samples that are NaN, infinite"),
        (np.zeros((64, 2)), r"push has shape \(64, 2\).*Transpose it"),
        (np.zeros((480, 2)), r"push has shape \(480, 2\).*1 to 64 channels\. Transpose it"),
        (np.zeros((0, 5)), r"push has shape \(0, 5\)"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\); expected \[samples\] or \[channels, samples\]"),
        ([["a"]], "dtype <U1; expected floating point at full scale 1"),
    ],
)
def test_a_bad_push_is_left_out(encoder: Encoder, sound: Sound, bad: Any, message: str) -> None:
    clip = np.stack([sound(9000, 1), sound(9000, 2)])
    expected = streamed(encoder.stream(sample_rate=RATE, seconds=0.1), [clip])
    stream = encoder.stream(sample_rate=RATE, seconds=0.1)
    parts = [stream.push(np.zeros((1, 0))), stream.push(clip[:, :5000])]
    with pytest.raises(AudioError, match=message):
        stream.push(bad)
    parts += [stream.push([]), stream.push(clip[:, 5000:]), stream.finish()]
    np.testing.assert_array_equal(joined(parts).hidden, expected.hidden)


def test_a_finished_stream_takes_no_more(encoder: Encoder, sound: Sound) -> None:
    stream = encoder.stream(sample_rate=RATE)
    stream.push(sound(2000))
    stream.finish()
    for more in (lambda: stream.push(sound(10)), stream.finish):
        with pytest.raises(InputError, match=r"the stream is finished\. Begin another"):
            more()


@pytest.mark.parametrize(("samples", "rate"), [(0, 24000), (399, 24000), (1, 44100), (733, 44100)])
def test_a_stream_shorter_than_a_frame(encoder: Encoder, samples: int, rate: int) -> None:
    stream = encoder.stream(sample_rate=rate)
    assert stream.push(np.zeros(samples)).times.size == 0
    with pytest.raises(AudioError, match=r"the stream is too short: .* the first frame needs 400"):
        stream.finish()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample rate must be a positive integer in Hz, at most 768000, got 0"),
        ({"sample_rate": 44100.5}, "got 44100.5"),
        ({"overlap": 1.0}, "overlap of 1.0"),
        ({"seconds": 0}, "window of 0 s"),
        ({"layers": (9,)}, r"layers is \(9,\)"),
        ({"protocol": "loose"}, "protocol 'loose' is not known"),
        ({"protocol": []}, r"protocol \[\] is not known"),
        ({"seconds": None}, "window of None s"),
        ({"overlap": "0.5"}, "overlap of '0.5'"),
        ({"sample_rate": np.array([24000])}, "got array"),
    ],
)
def test_streams_that_cannot_be(encoder: Encoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.stream(**({"sample_rate": RATE} | options))


def test_a_stream_of_another_scale_is_warned_of_once(encoder: Encoder, sound: Sound) -> None:
    stream = encoder.stream(sample_rate=RATE, protocol="paper")
    with pytest.warns(UserWarning, match=r"the stream peaks at .* times full scale, and protocol paper cuts") as seen:
        for piece in np.split(32768 * sound(RATE), 4):
            stream.push(piece)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.stream(sample_rate=RATE, protocol="float").push(32768 * sound(RATE))
        encoder.stream(sample_rate=RATE, protocol="paper").push(sound(RATE))


def test_a_long_push_is_let_go(encoder: Encoder, sound: Sound) -> None:
    """What is kept of it is no view of all of it."""
    stream = encoder.stream(sample_rate=RATE, seconds=0.5, layers=[1])
    stream.push(np.zeros(400, np.float32))
    tracemalloc.start()
    stream.push(sound(60 * RATE))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 1 << 20
