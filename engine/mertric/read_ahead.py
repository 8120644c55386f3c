"""Clips that threads read, in order, ahead of who takes them, within a budget of memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]


class ReadAhead:
    """Reads clips. A context manager, to be used by one thread; left early, it waits for what is being read only.

    Parameters
    ----------
    reads
        For each clip a function that returns its samples, or raises.
    threads : int
        To read in.
    clips : int
        To read ahead at most.
    memory : int
        Bytes of samples from which on, until enough of them are released, no clip is begun but the one that is waited
        for. Clips that were begun before may be as many more as there are threads.
    """

    def __init__(self, reads: Iterable[Callable[[], Samples]], *, threads: int, clips: int, memory: int) -> None:
        self._reads = enumerate(reads)
        self._clips, self._memory = clips, memory
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mertric-read")
        self._begun: deque[tuple[int, Future[Samples]]] = deque()
        self._changed = Condition()
        self._held = 0
        self._wanted = -1
        self._left = False

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def take(self) -> Samples | None:
        """Return the next clip, which counts as held until it is released, or None after the last.

        What its function raised is raised.
        """
        self._begin()
        if not self._begun:
            return None
        with self._changed:
            self._wanted, future = self._begun.popleft()
            self._changed.notify_all()
        self._begin()
        return future.result()

    def release(self, samples: int) -> None:
        """Let go of so many bytes of what was taken."""
        with self._changed:
            self._held -= samples
            self._changed.notify_all()

    def _begin(self) -> None:
        while len(self._begun) < self._clips and (following := next(self._reads, None)) is not None:
            number, read = following
            self._begun.append((number, self._pool.submit(self._read, number, read)))

    def _read(self, number: int, read: Callable[[], Samples]) -> Samples:
        with self._changed:
            self._changed.wait_for(lambda: self._left or self._held < self._memory or number <= self._wanted)
            if self._left:
                raise CancelledError
        samples = read()
        with self._changed:
            self._held += samples.nbytes
        return samples
