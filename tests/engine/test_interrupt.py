"""Commands that are told to end: `mertric.cli.interrupt`, and what ONNX Runtime is at."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mertric.session
from mertric.cli.interrupt import prompt
from mertric.encoder import Encoder
from mertric.errors import ProviderError
from mertric.session import stop_runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]
    WriteWav = Callable[..., Path]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@posix
@pytest.mark.parametrize(
    ("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", SystemExit), ("SIGHUP", SystemExit)]
)
def test_runs_are_stopped_at_once(name: str, error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(mertric.session, "stop_runs", stopped.set)
    number = getattr(signal, name)
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        with pytest.raises(error) as caught, prompt():
            os.kill(os.getpid(), number)
            for _ in range(1000):
                threading.Event().wait(0.01)
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert stopped.wait(10)
    assert error is KeyboardInterrupt or caught.value.code == 128 + number
    assert not [thread for thread in threading.enumerate() if thread.name == "mertric-signals"]


@posix
def test_other_signals_and_other_handlers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mertric.session, "stop_runs", lambda: pytest.fail("nothing was to stop"))
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGUSR1, signal.SIGTERM)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with prompt():
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGHUP)  # as `nohup` has it
            assert signal.getsignal(signal.SIGTERM) is note
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == [signal.SIGUSR1]


def test_other_threads_have_no_signals() -> None:
    entered = []

    def enter() -> None:
        with prompt():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered


def test_a_run_that_is_stopped_fails_and_the_next_does_not(
    bundle: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(bundle, provider="cpu")
    expected = encoder.embed(sound(), sample_rate=24000).hidden

    class Stopped(set[Any]):
        def add(self, options: Any) -> None:
            super().add(options)
            stop_runs()

    monkeypatch.setattr(mertric.session, "_RUNS", Stopped())
    with pytest.raises(ProviderError, match=r"ONNX Runtime failed on .*terminate"):
        encoder.embed(sound(), sample_rate=24000)
    assert not mertric.session._RUNS
    monkeypatch.undo()
    np.testing.assert_array_equal(encoder.embed(sound(), sample_rate=24000).hidden, expected)


@posix
def test_an_output_that_nobody_reads_is_no_failed_row(bundle: Path, sound: Sound, write_wav: WriteWav) -> None:
    files = [write_wav(f"{name}.wav", sound(seed=seed)) for seed, name in enumerate("ab")]
    command = [sys.executable, "-m", "mertric", "score", *map(str, files), "--model", str(bundle), "--provider", "cpu"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    finally:
        os.close(writer)
    assert run.returncode == 141
    assert not re.search("Traceback|Error|failed", run.stderr), run.stderr


def test_who_listened_for_signals_does_so_again() -> None:
    """As asyncio does, in a program that runs a command."""
    told, tell = socket.socketpair()
    tell.setblocking(False)
    before = signal.set_wakeup_fd(tell.fileno())
    try:
        with prompt():
            pass
        assert signal.set_wakeup_fd(before) == tell.fileno()
    finally:
        signal.set_wakeup_fd(before)
        told.close()
        tell.close()
