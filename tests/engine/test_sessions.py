"""Sessions that are opened at their first use, by several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mertric.errors import ProviderError
from mertric.sessions import Sessions


def test_each_is_opened_once_and_kept() -> None:
    opened: list[str] = []

    def opener(key: str) -> Any:
        opened.append(key)
        return key.upper()

    sessions = Sessions(opener)
    assert "a" not in sessions
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sessions.open, "aabbabab")) == list("AABBABAB")
    assert sorted(opened) == ["a", "b"]
    assert dict(sessions) == {"a": "A", "b": "B"}
    sessions.close()
    assert len(sessions) == 0
    assert sessions.open("a") == "A"
    assert len(opened) == 3


def test_opening_one_keeps_nobody_from_another_and_it_is_there_when_it_is_open() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def opener(key: str) -> Any:
        if key == "slow":
            begun.set()
            assert go_on.wait(20)
        return key

    sessions = Sessions(opener)
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(sessions.open, "slow") for _ in range(2))
        assert begun.wait(20)
        assert sessions.open("fast") == "fast"
        assert dict(sessions) == {"fast": "fast"}
        assert "slow" not in sessions
        go_on.set()
        assert first.result() is second.result()
    assert "slow" in sessions


def test_what_failed_is_tried_again() -> None:
    results: list[Any] = [ProviderError("no"), "yes"]

    def opener(key: str) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    sessions = Sessions(opener)
    with pytest.raises(ProviderError, match="no"):
        sessions.open("a")
    assert "a" not in sessions
    assert sessions.open("a") == "yes"


def test_what_fails_after_all_were_let_go_of_says_why() -> None:
    def opener(key: str) -> Any:
        sessions.close()
        raise ProviderError("no")

    sessions: Sessions[str] = Sessions(opener)
    with pytest.raises(ProviderError, match="no"):
        sessions.open("a")
    assert "a" not in sessions


def test_a_failure_leaves_what_was_opened_after_all_were_let_go() -> None:
    opened: list[str] = []

    def opener(key: str) -> Any:
        opened.append(key)
        if len(opened) > 1:
            return "second"
        sessions.close()
        assert sessions.open(key) == "second"
        raise ValueError("of the first")

    sessions: Sessions[str] = Sessions(opener)
    with pytest.raises(ValueError, match="of the first"):
        sessions.open("a")
    assert dict(sessions) == {"a": "second"}
    assert len(opened) == 2
