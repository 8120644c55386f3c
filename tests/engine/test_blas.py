"""How many threads BLAS takes, and where it is held to one."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from mertric import fold, resample
from mertric.blas import limited

LATE = """
from threadpoolctl import threadpool_info
from mertric.blas import limited
import sys
with limited(1):
    assert "scipy.linalg" not in sys.modules
    import scipy.linalg
    with limited(1):
        print([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
"""


FORK = """
import os
from mertric import blas
with blas.limited(1), blas._lock:
    child = os.fork()
    if child == 0:
        free = blas._lock.acquire(blocking=False)
        os._exit(0 if free and not blas._wanted and not blas._before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def threads() -> set[int]:
    """Threads of each BLAS library here."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_callers_at_once_leave_blas_as_the_first_one_found_it() -> None:
    """Whoever leaves last; and the lowest of their limits holds meanwhile."""
    before = threads()
    with threadpool_limits(3, user_api="blas"):
        first, second = limited(2), limited(1)
        first.__enter__()
        assert threads() == {2}
        second.__enter__()
        assert threads() == {1}
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {3}
    assert threads() == before


def test_any_thread_holds_blas_and_sets_it_back() -> None:
    """And the thread that did so last does not keep others from it."""

    def hold() -> set[int]:
        with limited(1):
            return threads()

    with threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            for found in (hold(), pool.submit(hold).result()):
                assert found == {1}
                assert threads() == {3}
        with threadpool_limits(2, user_api="blas"):
            assert threads() == {2}
            assert pool.submit(hold).result() == {1}
            assert threads() == {2}
        assert threads() == {3}


def test_a_library_that_is_loaded_late_is_held_too() -> None:
    result = subprocess.run([sys.executable, "-c", LATE], check=True, capture_output=True, text=True, timeout=120)
    assert set(result.stdout.strip("[]\n").split(", ")) == {"1"}


def test_resampling_and_the_fold_leave_the_other_cores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[set[int]] = []
    copied, phases = np.ascontiguousarray, fold._phases

    def copy(array: object) -> object:
        found.append(threads())
        return copied(array)

    def watched(*args: object) -> object:
        found.append(threads())
        return phases(*args)  # type: ignore[arg-type]

    ones = np.ones((3, 10))
    first = fold.FirstConvolution(
        weight=ones,
        bias=ones[:, 0],
        stride=5,
        normalize_epsilon=1e-7,
        scale=ones[:, 0],
        offset=ones[:, 0],
        norm_epsilon=1e-5,
    )
    with threadpool_limits(2, user_api="blas"):
        monkeypatch.setattr(resample.np, "ascontiguousarray", copy)
        resample.Resampler(44100, 24000).push(np.zeros(44100, np.float32))
        resampling = len(found)
        monkeypatch.setattr(fold, "_phases", watched)
        fold.fold(first, np.zeros(100, np.float32))
    assert 0 < resampling < len(found)
    assert all(one == {1} for one in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_begins_anew() -> None:
    """The callers of its parent are not there to leave, nor to let go of the lock."""
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "0"
