"""MERT metrics of many pairs: each reference is embedded once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from mertric.audio_file import AudioFile
from mertric.blas import limited
from mertric.errors import InputError, MertricError, problem_of
from mertric.journal import Outcome, journal_key
from mertric.metrics.embedding_mse import embedding_mse
from mertric.metrics.frechet import frechet_distance, load_kernels
from mertric.metrics.parallel import map_ahead
from mertric.metrics.prepared import PreparedEmbedding, prepare
from mertric.scheduler import MEMORY_BYTES, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mertric.encoder import Encoder
    from mertric.journal import Journal
    from mertric.pairing import Pair
    from mertric.protocol import Protocol
    from mertric.windows import Windows

    States = NDArray[np.float16] | NDArray[np.float32]

MERT_METRICS = ("mert_mse", "mert_fad")


class _Excerpt(NamedTuple):
    """A file, and how many seconds from its beginning; None for all."""

    path: Path
    seconds: float | None


@dataclass(frozen=True)
class _Clip:
    """An embedded excerpt, or why there is none."""

    states: States | None = None
    silent: bool = False
    problem: str = ""


class _Embedded(NamedTuple):
    """A pair whose clips are there, the reference's layers prepared, and its key in the journal."""

    pair: Pair
    key: str
    reference: _Clip
    prepared: Sequence[PreparedEmbedding | str]
    estimate: _Clip

    def bytes_held(self) -> int:
        """Bytes of the hidden states, and of the roots of the reference's covariances."""
        states = [clip.states.nbytes for clip in (self.reference, self.estimate) if clip.states is not None]
        return sum(states) + sum(one.root.nbytes for one in self.prepared if isinstance(one, PreparedEmbedding))


class MertScorer:
    """Computes `MERT_METRICS`.

    Parameters
    ----------
    encoder
        From `mertric.load`.
    layers
        Hidden states to compare.
    protocol
        Roundings and cut.
    trim
        Compare only the part that both files of a pair have.
    windows
        Attend within windows only; None is exact.
    journal
        Where outcomes are found again and kept.
    memory : int
        Bytes for batches, see `mertric.scheduler.Scheduler`, and as much for clips that wait to be compared.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        layers: tuple[int, ...],
        protocol: Protocol,
        trim: bool,
        windows: Windows | None,
        journal: Journal,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self._encoder = encoder
        self._scheduler = Scheduler(encoder, layers=layers, windows=windows, memory=memory)
        self._memory = memory
        self._layers = layers
        self._protocol = protocol
        self._trim = trim
        self._durations: dict[Path, float] = {}
        self._journal = journal
        self._settings = {
            "metrics": MERT_METRICS,
            "weights": encoder.bundle.weights_sha256,
            "provider": encoder.provider,
            "precision": encoder.precision,
            "layers": layers,
            "protocol": protocol.name,
            "trim": trim,
            "windows": None if windows is None else [windows.seconds, windows.overlap],
        }

    def score(self, pairs: Iterable[Pair], advance: Callable[[], None]) -> Iterator[tuple[Pair, list[Outcome]]]:
        """Yield each complete pair with an outcome for each layer, grouped by reference."""
        groups: dict[_Excerpt, list[tuple[Pair, _Excerpt, str]]] = {}
        for pair in pairs:
            if pair.reference is None or pair.estimate is None:
                continue
            key = journal_key(self._settings, (pair.reference, pair.estimate))
            if (known := self._journal.find(key, MERT_METRICS, layers=self._layers)) is not None:
                yield pair, known
                advance()
                continue
            reference, estimate = self._excerpts(pair.reference, pair.estimate)
            groups.setdefault(reference, []).append((pair, estimate, key))
        if groups:
            Thread(target=load_kernels, name="mertric-kernels", daemon=True).start()
        clips = self._embed([e for first, group in groups.items() for e in (first, *(entry[1] for entry in group))])
        embedded = _embedded(groups, clips)
        for work, outcomes in map_ahead(
            self._outcomes, embedded, ahead=self._encoder.batch, size=_Embedded.bytes_held, memory=self._memory
        ):
            if not (work.reference.problem or work.estimate.problem):
                self._journal.keep(work.key, outcomes)
            yield work.pair, outcomes
            advance()

    def _excerpts(self, reference: Path, estimate: Path) -> tuple[_Excerpt, _Excerpt]:
        whole = _Excerpt(reference, None), _Excerpt(estimate, None)
        if not self._trim:
            return whole
        try:
            lengths = self._seconds(reference), self._seconds(estimate)
        except MertricError:
            return whole
        shorter = min(lengths)
        if not self._encoder.bundle.frames(math.ceil(shorter * self._encoder.bundle.sample_rate)):
            return whole  # of which that one will say that it is too short
        first, second = (
            _Excerpt(path, shorter if length > shorter else None)
            for path, length in zip((reference, estimate), lengths, strict=True)
        )
        return first, second

    def _seconds(self, path: Path) -> float:
        """How long a file is, looked up once, as compressed ones have to be read for it."""
        if path not in self._durations:
            self._durations[path] = _duration(path)
        return self._durations[path]

    def _embed(self, excerpts: Sequence[_Excerpt]) -> Iterator[_Clip]:
        """Embed excerpts, and give them back in order."""
        for scheduled in self._scheduler.embed([partial(self._read, excerpt) for excerpt in excerpts]):
            if scheduled.embeddings is None:
                yield _Clip(problem=scheduled.problem)
            else:
                yield _Clip(self._protocol.finish(scheduled.embeddings.hidden), silent=scheduled.silent)

    def _read(self, excerpt: _Excerpt) -> NDArray[np.float32]:
        limits = [limit for limit in (excerpt.seconds, self._protocol.max_seconds) if limit is not None]
        with AudioFile(excerpt.path, max_seconds=min(limits, default=None)) as file:
            return self._encoder.prepare(file, self._protocol)

    def _outcomes(self, work: _Embedded) -> tuple[_Embedded, list[Outcome]]:
        try:
            return work, [self._compare(index, work) for index in range(len(self._layers))]
        except MemoryError as error:  # of which the journal must not know: there may be more next time
            work = work._replace(estimate=_Clip(problem=problem_of(error)))
            return self._outcomes(work)

    def _compare(self, index: int, work: _Embedded) -> Outcome:
        """Compare one layer of two clips."""
        layer, reference, estimate = self._layers[index], work.reference, work.estimate
        if reference.states is None or estimate.states is None:
            problems = tuple(clip.problem for clip in (reference, estimate) if clip.problem)
            return Outcome(dict.fromkeys(MERT_METRICS), problems, layer)
        x, y = reference.states[index], estimate.states[index]
        values: dict[str, float | None] = dict.fromkeys(MERT_METRICS)
        reasons = []
        try:
            values["mert_mse"] = self._mse(x, y)
        except InputError as error:
            reasons.append(f"mert_mse: {error}")
        try:
            first = _usable(work.prepared[index])
            with limited(1):
                second = prepare(y, name="the estimate")
            values["mert_fad"] = frechet_distance(first, second)
        except InputError as error:
            reasons.append(f"mert_fad: {error}")
        silent = tuple(name for name, clip in (("reference", reference), ("estimate", estimate)) if clip.silent)
        return Outcome(values, tuple(reasons), layer, len(x), silent)

    def _mse(self, reference: States, estimate: States) -> float:
        if self._trim and abs(len(reference) - len(estimate)) == 1:  # of two rates, one length is cut to two
            reference, estimate = reference[: len(estimate)], estimate[: len(reference)]
        if len(reference) != len(estimate):
            raise InputError(
                f"the reference has {len(reference)} frames and the estimate {len(estimate)}; "
                + (
                    "--trim went by their headers, of which one is wrong: render it again"
                    if self._trim
                    else "--trim compares the part that both have"
                )
            )
        return embedding_mse(reference, estimate)


def _embedded(
    groups: Mapping[_Excerpt, Sequence[tuple[Pair, _Excerpt, str]]], clips: Iterator[_Clip]
) -> Iterator[_Embedded]:
    """Yield pairs as their clips come: for each group its reference, then the estimates."""
    for group in groups.values():
        reference = next(clips)
        try:
            with limited(1):  # as estimates are prepared: of equal clips the same bits
                prepared = _prepare(reference)
        except MemoryError as error:
            reference, prepared = _Clip(problem=problem_of(error)), []
        for pair, _, key in group:
            yield _Embedded(pair, key, reference, prepared, next(clips))


def _duration(path: Path) -> float:
    with AudioFile(path) as file:
        return file.seconds


def _prepare(reference: _Clip) -> list[PreparedEmbedding | str]:
    """Prepare each layer of a reference for Fréchet distances, or say why it cannot be."""
    prepared: list[PreparedEmbedding | str] = []
    for states in reference.states if reference.states is not None else ():
        try:
            prepared.append(prepare(states, name="the reference"))
        except InputError as error:
            prepared.append(str(error))
    return prepared


def _usable(prepared: PreparedEmbedding | str) -> PreparedEmbedding:
    if isinstance(prepared, str):
        raise InputError(prepared)
    return prepared
