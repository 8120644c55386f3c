"""Who may use a GPU at a time: many together, or one alone."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turns:
    """Lets threads do something together, or one alone. Nobody may ask while it has a turn.

    Who wants to be alone waits for those who have begun; others begin after it.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._changed = threading.Condition()
        self._together = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do something that others may do meanwhile."""
        with self._gate, self._changed:
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Do something while no other thread has a turn."""
        with self._gate:
            with self._changed:
                self._changed.wait_for(lambda: not self._together)
            yield
