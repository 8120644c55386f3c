"""Many together or one alone, and what that is for: nothing else runs on a GPU while a CUDA graph is recorded."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mertric.session
from mertric.bound import BoundSession
from mertric.bundle import encoder_graph
from mertric.device import Device
from mertric.encoder import Encoder
from mertric.providers import PROVIDERS, FixedShapes
from mertric.session import Session
from mertric.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sound

PATIENCE = 10


def test_many_have_a_turn_together() -> None:
    turns, all_here = Turns(), threading.Barrier(3)

    def take() -> None:
        with turns.together():
            all_here.wait(PATIENCE)

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(take) for _ in range(3)]:
            future.result()


def test_one_alone_goes_before_those_that_come_later() -> None:
    turns, seen = Turns(), []
    begun, leave, asked = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with turns.together():
            begun.set()
            leave.wait(PATIENCE)
            seen.append("first")

    def alone() -> None:
        asked.set()
        with turns.alone():
            seen.append("alone")

    def later() -> None:
        with turns.together():
            seen.append("later")

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(first)]
        assert begun.wait(PATIENCE)
        futures.append(pool.submit(alone))
        assert asked.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        while not turns._gate.locked() and time.monotonic() < until:
            time.sleep(0.001)
        futures.append(pool.submit(later))
        assert seen == []
        leave.set()
        for future in futures:
            future.result()
    assert seen == ["first", "alone", "later"]


@pytest.mark.parametrize("name", ["together", "alone"])
def test_a_turn_ends_with_an_error(name: str) -> None:
    turns, seen = Turns(), []
    with pytest.raises(ValueError, match="no"), getattr(turns, name)():
        raise ValueError("no")

    def take() -> None:
        with turns.alone():
            seen.append("alone")
        with turns.together():
            seen.append("together")

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert seen == ["alone", "together"]


@pytest.mark.parametrize("nvidia", [True, False])
def test_a_recording_waits_for_the_runs_of_other_threads(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, sound: Sound, nvidia: bool
) -> None:
    """And those for it; on what is no GPU, nobody waits."""
    fixed = FixedShapes(attention={"fp32": "fused"}, captured=True)
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], nvidia=nvidia, fixed=fixed))
    encoder = Encoder(bundle, provider="cpu")
    beside, begun, recording, asked = [], threading.Event(), threading.Event(), threading.Event()
    run, record, alone = Session._run, BoundSession._run, Turns.alone
    running = [0]

    def run_slowly(self: Session, inputs: Any) -> Any:
        if self._bound is not None:
            return run(self, inputs)
        running[0] += 1
        if not begun.is_set():
            begun.set()
            (asked if nvidia else recording).wait(PATIENCE)
        try:
            return run(self, inputs)
        finally:
            running[0] -= 1

    def watch(self: BoundSession) -> None:
        beside.append(running[0])
        recording.set()
        record(self)

    def ask(self: Turns) -> Any:
        asked.set()
        return alone(self)

    monkeypatch.setattr(Session, "_run", run_slowly)
    monkeypatch.setattr(BoundSession, "_run", watch)
    monkeypatch.setattr(Turns, "alone", ask)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(encoder.embed, sound(4000), sample_rate=24000)
        assert begun.wait(PATIENCE)
        encoder._network.fix(1, 10, (4,))
        other.result()
    assert beside[0] == (0 if nvidia else 1)


@pytest.mark.parametrize("nvidia", [True, False])
def test_opening_and_running_on_a_gpu_take_turns(bundle: Path, monkeypatch: pytest.MonkeyPatch, nvidia: bool) -> None:
    """Of a session and of the small model that tells whether a provider works."""
    provider = replace(PROVIDERS["cpu"], nvidia=nvidia)
    turns, seen = Turns(), []
    run, opened = Session._run, mertric.session._open

    def note_run(self: Session, inputs: Any) -> Any:
        seen.append(("run", turns._together))
        return run(self, inputs)

    def note_open(*arguments: Any) -> Any:
        seen.append(("open", turns._together))
        return opened(*arguments)

    monkeypatch.setattr(mertric.session, "_TURNS", turns)
    monkeypatch.setattr(mertric.session, "_open", note_open)
    monkeypatch.setattr(Session, "_run", note_run)
    device = Device(provider=provider, precision="fp32", threads=1)
    session = Session(bundle / "fp32" / encoder_graph("fused"), ["state_1"], device=device)
    session.run({"state_0": np.zeros((1, 3, 64), np.float32)})
    mertric.session.square_unit_matrix(provider)
    assert seen == [(what, int(nvidia)) for what in ("open", "run", "open")]
    assert turns._together == 0
