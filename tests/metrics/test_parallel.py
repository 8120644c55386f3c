"""Work over all cores: side by side, ahead, and without more threads than cores."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from threadpoolctl import threadpool_info

from mertric.metrics import parallel
from mertric.metrics.parallel import in_halves, map_ahead, map_threads, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_threads_share_the_work_with_one_blas_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)

    def blas_threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = blas_threads()
    meeting = threading.Barrier(2, timeout=20)

    def work(item: int) -> tuple[int, set[int]]:
        meeting.wait()
        return item, set(blas_threads())

    assert map_threads(work, [3, 4]) == [(3, {1}), (4, {1})]
    assert blas_threads() == before


def test_the_first_error_stops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    closed = threading.Event()

    class Pool(ThreadPoolExecutor):
        def __exit__(self, *error: Any) -> bool | None:
            closed.set()
            return super().__exit__(*error)

    def work(item: int) -> float:
        begun.append(item)
        assert item == 0 or closed.wait(20)
        return 1 / item

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    with pytest.raises(ZeroDivisionError):
        map_threads(work, range(9), workers=2)
    assert set(begun) <= {0, 1, 2}


def nothing(_: object) -> int:
    return 0


def test_results_of_work_done_ahead_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is computed until the third has been drawn; no more than three are drawn before its result."""
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    drawn, last = [], threading.Event()

    def items() -> Iterator[int]:
        for item in range(6):
            drawn.append(item)
            if item == 2:
                last.set()
            yield item

    def work(item: int) -> tuple[int, int]:
        assert last.wait(20)
        return item, len(drawn)

    results = map_ahead(work, items(), ahead=3, size=nothing, memory=1)
    assert next(results) == (0, 3)
    assert [item for item, _ in results] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("ahead", "size"), [(1, 0), (9, 50)])
def test_nothing_is_drawn_before_a_result_with_one_ahead_or_no_memory_left(ahead: int, size: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3):
            drawn.append(item)
            yield item

    results = map_ahead(lambda item: item, items(), ahead=ahead, size=lambda _: size, memory=50)
    for item, result in enumerate(results):
        assert result == item
        assert drawn == list(range(item + 1))


def test_memory_holds_some_items() -> None:
    drawn: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for item in range(5):
            drawn.append(item)
            if item == 2:
                third.set()
            yield item

    results = map_ahead(lambda item: third.wait(20) and item, items(), ahead=9, size=lambda _: 20, memory=50)
    assert next(results) == 0
    assert drawn == [0, 1, 2]
    assert list(results) == [1, 2, 3, 4]


def test_work_ahead_takes_one_core_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    both = threading.Barrier(2, timeout=20)

    def work(item: int) -> tuple[int, int]:
        both.wait()
        halves = len(in_halves(lambda part: part, 6, worth=True))
        return halves, max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    before = threadpool_info()
    assert list(map_ahead(work, range(4), ahead=3, size=nothing, memory=1)) == [(1, 1)] * 4
    assert threadpool_info() == before


def test_an_error_ahead_comes_in_its_place_and_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    begun: list[int] = []

    def work(item: int) -> float:
        begun.append(item)
        return 1 / item

    results = map_ahead(work, iter([1, 0, 2, 3, 4, 5]), ahead=2, size=nothing, memory=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert 5 not in begun


def test_work_ahead_that_is_not_wanted_any_more_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    closed = threading.Event()

    class Pool(ThreadPoolExecutor):
        def __exit__(self, *error: Any) -> bool | None:
            closed.set()
            return super().__exit__(*error)

    def work(item: int) -> int:
        begun.append(item)
        assert item == 0 or closed.wait(20)
        return item

    monkeypatch.setattr(parallel, "cores", lambda: 1)
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    results = map_ahead(work, range(9), ahead=4, size=nothing, memory=1)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert begun in ([0], [0, 1])


def test_parts_of_a_lone_pair_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=20)
    assert sorted(side_by_side(meeting.wait, meeting.wait)) == [0, 1]
    meeting.reset()
    spans = in_halves(lambda part: (part, meeting.wait()), 7, worth=True)
    assert [span for span, _ in spans] == [slice(3), slice(3, 7)]


def test_a_part_that_has_not_begun_is_done_by_the_waiting_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    done = threading.Event()
    occupied = parallel._helper().submit(done.wait, 20)
    here = threading.current_thread()
    assert side_by_side(threading.current_thread, threading.current_thread) == (here, here)
    done.set()
    assert occupied.result()


def test_cores_are_shared_with_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> int:
        return max(pool["num_threads"] for pool in threadpool_info())

    monkeypatch.setattr(parallel, "cores", lambda: 4)
    assert map_threads(lambda _: threads(), range(2)) == [2, 2]
    assert side_by_side(threads, threads) == (2, 2)


def test_the_error_of_the_first_part_comes_first_and_that_of_the_second_is_not_lost() -> None:
    def fail(kind: type[Exception]) -> None:
        raise kind

    for first, second in ((KeyError, OSError), (int, OSError)):
        with pytest.raises(KeyError if first is KeyError else OSError):
            side_by_side(lambda f=first: fail(f) if f is KeyError else None, lambda s=second: fail(s))


@pytest.mark.parametrize("workers", [None, 1])
def test_parts_of_one_pair_among_many_run_one_after_the_other(workers: int | None) -> None:
    def threads(_: int) -> set[str]:
        inner = side_by_side(*([lambda: threading.current_thread().name] * 2))
        return {threading.current_thread().name, *inner}

    for names in map_threads(threads, range(3), workers=workers):
        assert len(names) == 1
    assert (
        map_threads(lambda _: in_halves(lambda part: part, 6, worth=True), range(2), workers=workers)
        == [(slice(6),)] * 2
    )


def test_work_within_work_leaves_its_thread_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_: int) -> tuple[slice, ...]:
        map_threads(float, range(2), workers=1)
        return in_halves(lambda part: part, 6, worth=True)

    monkeypatch.setattr(parallel, "cores", lambda: 2)
    assert map_threads(work, range(2), workers=1) == [(slice(6),)] * 2


def test_parts_too_small_for_a_thread_stay_in_this_one() -> None:
    here = threading.current_thread()
    assert side_by_side(threading.current_thread, threading.current_thread, worth=False) == (here, here)
    assert in_halves(lambda part: part, 6, worth=False) == (slice(6),)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_gets_a_second_thread_of_its_own() -> None:
    side_by_side(int, int)
    child = os.fork()
    if not child:
        side_by_side(int, int)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_error_of_the_first_waits_for_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may still write to what both share."""
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    begun, done = threading.Event(), threading.Event()

    def first() -> None:
        assert begun.wait(30)
        raise ValueError("of the first")

    def second() -> None:
        begun.set()
        time.sleep(0.2)
        done.set()

    with pytest.raises(ValueError, match="of the first"):
        side_by_side(first, second)
    assert done.is_set()
