"""Order, batches, memory and faults of many clips through one encoder."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.encoder import Encoder
from mertric.errors import AudioError, InputError, ProviderError
from mertric.providers import PROVIDERS
from mertric.read_ahead import ReadAhead
from mertric.scheduler import Scheduler
from mertric.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]


class Stub:
    """An encoder that gives a clip's own samples back, and remembers what ran together."""

    def __init__(self, *, batch: int = 4, most: int = 10**9, readers: int = 1) -> None:
        self.batch, self.most, self.readers = batch, most, readers
        self.runs: list[list[int]] = []

    def memory(self, clips: int, samples: int, layers: int) -> int:
        return 100 * clips * samples * layers

    def alike(self, sizes: list[int]) -> bool:
        return min(sizes) >= 0.9 * max(sizes)

    def embed_samples(self, samples: NDArray[np.float32], **_: Any) -> Any:
        return self.embed_samples_batch([samples])[0]

    def embed_samples_batch(self, clips: list[NDArray[np.float32]], **_: Any) -> list[Any]:
        if len(clips) * max(clip.size for clip in clips) > self.most:
            raise ProviderError("out of memory")
        self.runs.append([clip.size for clip in clips])
        return [SimpleNamespace(hidden=clip) for clip in clips]


def clips(*sizes: int) -> list[NDArray[np.float32]]:
    return [np.full(size, number + 1, np.float32) for number, size in enumerate(sizes)]


def run(stub: Stub, given: list[NDArray[np.float32]], **options: Any) -> list[int]:
    """The number in each clip that came back."""
    scheduler = Scheduler(stub, layers=(1,), **options)  # type: ignore[arg-type]
    return [int(one.embeddings.hidden[0]) for one in scheduler.embed([lambda c=clip: c for clip in given])]


def test_clips_of_nearly_one_length_run_together_and_come_back_in_order() -> None:
    stub = Stub()
    assert run(stub, clips(100, 50, 95, 100, 49, 91, 100, 50)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert stub.runs == [[100, 95, 100, 91], [50, 49, 50], [100]]


@pytest.mark.parametrize(("memory", "most"), [(10**9, 4), (3 * 100 * 100, 3), (100 * 100, 1), (1, 1)])
def test_a_batch_keeps_within_the_memory_and_a_clip_alone_always_runs(memory: int, most: int) -> None:
    stub = Stub()
    assert run(stub, clips(*[100] * 9), memory=memory) == list(range(1, 10))
    assert max(map(len, stub.runs)) == most


def test_all_layers_count_as_memory() -> None:
    stub = Stub()
    scheduler = Scheduler(stub, layers=(1, 2, 3), memory=6 * 100 * 100)  # type: ignore[arg-type]
    assert len(list(scheduler.embed([lambda c=clip: c for clip in clips(100, 100, 100, 100)]))) == 4
    assert stub.runs == [[100, 100]] * 2


def test_clips_that_wait_take_half_the_memory() -> None:
    class Light(Stub):
        def memory(self, clips: int, samples: int, layers: int) -> int:
            return 1

    stub = Light()
    run(stub, clips(*[100] * 8), memory=4 * 400)
    assert stub.runs == [[100, 100]] * 4


def test_one_clip_at_a_time_where_the_provider_gains_nothing() -> None:
    stub = Stub(batch=1)
    run(stub, clips(100, 100, 100))
    assert stub.runs == [[100], [100], [100]]


def test_no_clips() -> None:
    assert run(Stub(), []) == []


def test_a_batch_that_fails_is_tried_clip_by_clip() -> None:
    stub = Stub(most=200)
    assert run(stub, clips(100, 100, 100)) == [1, 2, 3]
    assert stub.runs == [[100], [100], [100]]


def test_a_clip_that_cannot_be_read_or_embedded_says_why_in_its_place() -> None:
    def broken() -> NDArray[np.float32]:
        raise AudioError("b.wav is broken")

    good, large, silent = np.ones(100, np.float32), np.ones(300, np.float32), np.zeros(100, np.float32)
    reads = [lambda: good, broken, lambda: large, lambda: silent]
    found = list(Scheduler(Stub(most=250), layers=(1,)).embed(reads))  # type: ignore[arg-type]
    assert [one.problem for one in found] == ["", "b.wav is broken", "out of memory", ""]
    assert [one.embeddings is None for one in found] == [False, True, True, False]
    assert [one.silent for one in found] == [False, False, False, True]


def test_an_error_that_is_no_fault_of_a_clip_ends_the_run() -> None:
    def wrong() -> NDArray[np.float32]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Scheduler(Stub(), layers=(1,)).embed([wrong]))  # type: ignore[arg-type]


def test_reading_goes_on_during_a_run_and_stays_within_bounds() -> None:
    """The third clip is read while the first runs; no more are read ahead than a batch can choose from."""
    third, read = threading.Event(), []

    class Slow(Stub):
        def embed_samples(self, samples: NDArray[np.float32], **options: Any) -> Any:
            assert third.wait(20)
            return super().embed_samples(samples, **options)

    def reader(number: int) -> Callable[[], NDArray[np.float32]]:
        def run() -> NDArray[np.float32]:
            read.append(number)
            if number == 2:
                third.set()
            return np.ones(10, np.float32)

        return run

    results = Scheduler(Slow(batch=1), layers=(1,)).embed([reader(number) for number in range(50)])  # type: ignore[arg-type]
    next(results)
    assert 2 in read
    assert len(read) <= 4
    assert len(list(results)) == 49
    assert read == list(range(50))


def test_a_whole_batch_is_read_while_another_runs() -> None:
    """The second batch is in memory before the first has run."""
    read: list[int] = []
    ready = threading.Event()

    class Slow(Stub):
        def embed_samples_batch(self, clips: list[NDArray[np.float32]], **options: Any) -> list[Any]:
            assert ready.wait(20)
            return super().embed_samples_batch(clips, **options)

    def reader(number: int) -> NDArray[np.float32]:
        read.append(number)
        if number == 11:
            ready.set()
        return np.ones(10, np.float32)

    reads = [lambda n=number: reader(n) for number in range(16)]
    assert len(list(Scheduler(Slow(batch=4), layers=(1,)).embed(reads))) == 16  # type: ignore[arg-type]


def test_several_files_are_read_at_once_and_come_back_in_order() -> None:
    """Four reads wait for one another; with fewer threads none would end."""
    together = threading.Barrier(4)

    def reader(number: int) -> NDArray[np.float32]:
        together.wait(20)
        return np.full(10, number, np.float32)

    reads = [lambda n=number: reader(n) for number in range(16)]
    found = Scheduler(Stub(readers=4), layers=(1,)).embed(reads)  # type: ignore[arg-type]
    assert [int(one.embeddings.hidden[0]) for one in found] == list(range(16))  # type: ignore[union-attr]


@pytest.mark.parametrize("readers", [1, 3, 100])
def test_readers_are_the_provider_s_but_no_more_than_processors(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, readers: int
) -> None:
    monkeypatch.setattr("mertric.encoder.cores", lambda: 8)
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], readers=readers))
    assert Encoder(bundle, provider="cpu").readers == min(readers, 8)


@pytest.mark.parametrize(
    ("attention", "sizes", "alike"),
    [
        ("fused", (24000, 24079), True),  # 74 frames each
        ("fused", (24000, 24080), False),
        ("portable", (24000, 24080), True),
        ("portable", (24000, 21600), True),
        ("portable", (24000, 21500), False),
    ],
)
def test_which_clips_share_a_batch(bundle: Path, attention: str, sizes: tuple[int, ...], alike: bool) -> None:
    assert Encoder(bundle, provider="cpu", attention=attention).alike(sizes) == alike


@pytest.mark.parametrize("readers", [1, 3])
def test_samples_that_are_not_embedded_yet_stay_within_half_the_memory(readers: int) -> None:
    """But for the clips that are being read."""
    size, held, most, lock = 1000, 0, 0, threading.Lock()

    def reader() -> NDArray[np.float32]:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return np.ones(size, np.float32)

    class Counting(Stub):
        def embed_samples_batch(self, clips: list[NDArray[np.float32]], **options: Any) -> list[Any]:
            nonlocal held
            with lock:
                held -= len(clips)
            return super().embed_samples_batch(clips, **options)

    stub = Counting(batch=8, readers=readers)
    memory = 2 * 4 * size * 4 - 8  # half of it is just below four clips
    reads = [reader] * 40
    assert len(list(Scheduler(stub, layers=(1,), memory=memory).embed(reads))) == 40  # type: ignore[arg-type]
    assert most <= 4 + readers


def test_a_run_that_is_left_early_reads_no_more() -> None:
    """Also where the next clip waits for memory."""
    read: list[int] = []
    second = threading.Event()

    def reader(number: int) -> NDArray[np.float32]:
        read.append(number)
        if number == 1:
            second.set()
        return np.ones(1000, np.float32)

    reads = [lambda n=number: reader(n) for number in range(50)]
    results = Scheduler(Stub(batch=8), layers=(1,), memory=100).embed(reads)  # type: ignore[arg-type]
    next(results)
    assert second.wait(20)
    time.sleep(0.1)
    results.close()  # type: ignore[attr-defined]
    assert read == [0, 1]


def test_memory_must_be_positive(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="memory for batches is 0 bytes; expected more than 0"):
        Scheduler(encoder, layers=(1,), memory=0)


def test_batches_give_what_clips_give_alone(encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(encoder), "batch", 3)
    given = [sound(size, seed) for seed, size in enumerate((12000, 11800, 24000, 12000, 11500, 23000))]
    found = list(Scheduler(encoder, layers=(0, 4)).embed([lambda c=clip: c for clip in given]))
    for clip, one in zip(given, found, strict=True):
        assert one.embeddings is not None
        alone = encoder.embed_samples(clip, layers=(0, 4))
        np.testing.assert_allclose(one.embeddings.hidden, alone.hidden, atol=3e-5)
        np.testing.assert_array_equal(one.embeddings.times, alone.times)


def test_memory_grows_with_clips_and_length(bundle: Path) -> None:
    encoder = Encoder(bundle, provider="cpu")
    one, two, longer = encoder.memory(1, 24000), encoder.memory(2, 24000), encoder.memory(1, 48000)
    layer, front = 74 * 64 * 15 * 4, 2 * 64 * 75 * 32 * 4
    assert (one, two) == (layer + front, 2 * layer + front)
    assert one < longer < 2.1 * one
    assert encoder.memory(1, 24000, 5) == 74 * 64 * (14 + 5) * 4 + front
    small = Encoder(bundle, provider="cpu", chunk=9)
    assert small.memory(1, 24000) - layer == small.memory(1, 48000) - 149 * 64 * 15 * 4 == 2 * 64 * 10 * 32 * 4


def test_a_clip_for_which_there_is_no_memory_costs_itself_alone() -> None:
    """Whether it runs out while the clip is read or while its batch is embedded."""

    def fail() -> NDArray[np.float32]:
        raise MemoryError("of 8 GiB")

    class Small(Stub):
        def embed_samples_batch(self, clips: list[NDArray[np.float32]], **_: Any) -> list[Any]:
            if any(clip.size > 100 for clip in clips):
                raise MemoryError
            return super().embed_samples_batch(clips)

    reads = [lambda: clips(100)[0], fail, lambda: clips(105)[0], lambda: clips(100)[0]]
    found = list(Scheduler(Small(), layers=(1,)).embed(reads))  # type: ignore[arg-type]
    assert [one.embeddings is not None for one in found] == [True, False, False, True]
    assert found[1].problem == "memory ran out (of 8 GiB). Use shorter clips or smaller batches."
    assert found[2].problem == "memory ran out. Use shorter clips or smaller batches."


def test_from_the_memory_given_on_no_clip_is_begun() -> None:
    samples = np.zeros(100, np.float32)
    begun = [threading.Event() for _ in range(3)]

    def read(number: int) -> NDArray[np.float32]:
        begun[number].set()
        return samples

    reads = [functools.partial(read, number) for number in range(3)]
    with ReadAhead(reads, threads=1, clips=3, memory=samples.nbytes) as clips:
        assert clips.take() is samples
        assert not begun[1].wait(0.2)
        clips.release(samples.nbytes)
        assert begun[1].wait(10)
        assert not begun[2].wait(0.2)
        assert clips.take() is samples
        assert clips.take() is samples
        assert clips.take() is None


def test_clips_in_windows_run_one_by_one() -> None:
    """A batch knows of no windows."""
    stub = Stub()
    assert run(stub, clips(100, 100, 100), windows=Windows(seconds=1)) == [1, 2, 3]
    assert stub.runs == [[100]] * 3
