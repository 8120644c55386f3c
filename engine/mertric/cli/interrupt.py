"""How a command ends when it is told to, whatever it is at."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def prompt() -> Iterator[None]:
    """End soon, and clean up, where Ctrl-C is pressed or the process is told to terminate.

    Python tends to signals only between its own instructions, and one run of ONNX Runtime may take minutes. So a thread
    learns of them at once, and has such runs stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    told, tell = socket.socketpair()
    tell.setblocking(False)
    woken = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _end) for number in numbers if signal.getsignal(number) is signal.SIG_DFL}
    thread = threading.Thread(target=_stop_runs_when, args=(told, numbers), name="mertric-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        tell.close()
        thread.join()
        told.close()


def _end(number: int, _: FrameType | None) -> None:
    """Leave by an exception, so that what is unfinished is removed, with the exit code that shells have for it."""
    sys.exit(128 + number)


def _stop_runs_when(told: socket.socket, numbers: list[int]) -> None:
    while said := told.recv(1):
        session = sys.modules.get("mertric.session")  # not imported where nothing runs
        if said[0] in numbers and session is not None:
            session.stop_runs()
