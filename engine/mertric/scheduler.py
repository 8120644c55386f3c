"""Many clips through one encoder: read ahead, batched by length within a budget of memory, given back in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mertric.errors import RECOVERABLE, InputError, problem_of
from mertric.read_ahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mertric.embeddings import Embeddings
    from mertric.encoder import Encoder
    from mertric.windows import Windows

    Samples = NDArray[np.float32]

MEMORY_BYTES = 1 << 30
"""Unless said otherwise, what the activations of a batch may take, and samples half as much again."""
_READING = 2
"""Clips read ahead at least."""


@dataclass(frozen=True, eq=False)
class Scheduled:
    """What became of one clip.

    Attributes
    ----------
    embeddings : Embeddings or None
        None where it could not be read or embedded.
    silent : bool
        It holds only zeros.
    problem : str
        Why there are no embeddings.
    """

    embeddings: Embeddings | None = None
    silent: bool = False
    problem: str = ""


class _Waiting(NamedTuple):
    """A clip that has been read: its place in the order, and its samples."""

    number: int
    samples: Samples


class Scheduler:
    """Embeds many clips, keeping decoding, resampling and inference busy at once.

    Parameters
    ----------
    encoder
        From `mertric.load`. As many clips as its provider gains from share a batch, see `Encoder.alike`.
    layers
        Hidden states to return.
    windows
        Attend within windows only; None is exact.
    memory : int
        Bytes for the activations of a batch; of samples, half as much may be there before the next clips are read, see
        `ReadAhead`. A clip that needs more runs alone.

    Raises
    ------
    InputError
        `memory` is not positive.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        layers: Sequence[int],
        windows: Windows | None = None,
        memory: int = MEMORY_BYTES,
    ) -> None:
        if memory < 1:
            raise InputError(f"the memory for batches is {memory} bytes; expected more than 0.")
        self._encoder = encoder
        self._layers = layers
        self._windows = windows
        self._memory = memory
        self._most = 1 if windows is not None else encoder.batch

    def embed(self, reads: Iterable[Callable[[], Samples]]) -> Iterator[Scheduled]:
        """Yield what became of each clip, in the order given.

        Parameters
        ----------
        reads
            For each clip a function that returns its prepared samples (`Encoder.prepare`) or raises what is
            `RECOVERABLE`.
            They are begun in order, in as many threads as `Encoder.readers`.
        """
        waiting: deque[_Waiting] = deque()
        done: dict[int, Scheduled] = {}
        turn = number = 0
        readers = self._encoder.readers
        ahead = max(_READING, self._most, readers)
        with ReadAhead(reads, threads=readers, clips=ahead, memory=-(-self._memory // 2)) as clips:
            ended = False
            while True:
                if not ended and self._room_for_more(waiting):
                    try:
                        samples = clips.take()
                        if ended := samples is None:
                            continue
                        waiting.append(_Waiting(number, samples))
                    except RECOVERABLE as error:
                        done[number] = Scheduled(problem=problem_of(error))
                    number += 1
                elif waiting:
                    batch = self._next_batch(waiting)
                    for clip, result in zip(batch, self._run(batch), strict=True):
                        done[clip.number] = result
                        clips.release(clip.samples.nbytes)
                elif turn not in done:
                    return
                while turn in done:
                    yield done.pop(turn)
                    turn += 1

    def _room_for_more(self, waiting: Sequence[_Waiting]) -> bool:
        """Whether to read on before the next batch: with a choice of clips, more of them match in length."""
        most = 1 if self._most == 1 else 2 * self._most
        return len(waiting) < most and 2 * sum(clip.samples.nbytes for clip in waiting) < self._memory

    def _next_batch(self, waiting: deque[_Waiting]) -> list[_Waiting]:
        """Take the first clip and those that fit it, in length and in memory."""
        batch: list[_Waiting] = []
        for clip in list(waiting):
            sizes = [other.samples.size for other in (*batch, clip)]
            alike = self._encoder.alike(sizes)
            if not batch or (alike and self._encoder.memory(len(sizes), max(sizes), len(self._layers)) <= self._memory):
                batch.append(clip)
                waiting.remove(clip)
            if len(batch) == self._most:
                break
        return batch

    def _run(self, batch: Sequence[_Waiting]) -> list[Scheduled]:
        """Embed a batch, or, where that fails, each of its clips alone."""
        try:
            if len(batch) == 1:
                clip = batch[0].samples
                found = [self._encoder.embed_samples(clip, layers=self._layers, windows=self._windows)]
            else:
                found = self._encoder.embed_samples_batch([clip.samples for clip in batch], layers=self._layers)
        except RECOVERABLE as error:
            if len(batch) == 1:
                return [Scheduled(problem=problem_of(error))]
            return [result for clip in batch for result in self._run([clip])]
        return [
            Scheduled(embeddings, silent=not clip.samples.any()) for clip, embeddings in zip(batch, found, strict=True)
        ]
