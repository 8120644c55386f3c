"""Scores pairs of reference and estimate: each reference is embedded once, and no pair is ever lost."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mertric.audio import read_audio
from mertric.errors import InputError, MertricError
from mertric.loading import load
from mertric.metrics.embedding_mse import embedding_mse
from mertric.metrics.frechet import frechet_distance
from mertric.protocol import get_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from mertric.encoder import Encoder
    from mertric.pairing import Pair

MERT_METRICS = ("mert_mse", "mert_fad")
Row = dict[str, object]


@dataclass(frozen=True)
class Score:
    """How far an estimate is from its reference; smaller is better, 0 is identical.

    Attributes
    ----------
    mse : float
        Mean squared difference of the embeddings over frames and dimensions.
    fad : float
        Fréchet distance of the two clips' embeddings.
    layer : int
        The hidden state compared.
    frames : int
        Frames of the reference.
    """

    mse: float
    fad: float
    layer: int
    frames: int


def score(
    reference: Path | str | ArrayLike,
    estimate: Path | str | ArrayLike,
    *,
    encoder: Encoder | None = None,
    sample_rate: int | None = None,
    layer: int | None = None,
    protocol: str = "paper",
) -> Score:
    """Score one estimate against its reference.

    Parameters
    ----------
    reference, estimate
        Files, or arrays [samples] or [channels, samples] at `sample_rate` Hz.
    encoder
        From `mertric.load`; None loads MERT-v1-95M, at every call.
    layer
        The hidden state to compare; None is the last.
    protocol
        ``paper`` does the roundings and the cut of Bereuter & Sontacchi (2026), ``float`` none of them.

    Raises
    ------
    AudioError
        A clip cannot be read, is empty, not finite or too short.
    InputError
        The clips differ in frames, have one frame only, or the layer or the protocol is not known.
    """
    encoder = encoder or load()
    layers = None if layer is None else (layer,)
    rules = get_protocol(protocol)
    states = [
        encoder.embed(audio, sample_rate=sample_rate, layers=layers, protocol=protocol)
        for audio in (reference, estimate)
    ]
    x, y = (rules.finish(state.hidden[0]) for state in states)
    return Score(embedding_mse(x, y), frechet_distance(x, y), states[0].layers[0], len(x))


def score_pairs(
    pairs: Sequence[Pair],
    encoder: Encoder,
    *,
    layers: Sequence[int] | Literal["all"] | None = None,
    protocol: str = "paper",
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Score pairs of files.

    Parameters
    ----------
    pairs
        From `mertric.pairing`; those with a problem become rows too.
    encoder
        From `mertric.load`.
    layers, protocol
        See `Encoder.embed` and `score`.
    advance
        Called when a pair is done.

    Returns
    -------
    list of dict
        For each pair in order, and each layer: ``reference``, ``estimate``, ``model``, ``layer``, ``frames``,
        ``silent`` (which of the two holds only zeros), ``status``, ``reason``, ``mert_mse`` and ``mert_fad``.
        ``status`` is ``ok``; ``partial`` where a metric is not defined, which is then None; ``failed`` where a
        file could not be embedded; or ``unmatched``. ``reason`` says why.
    """
    run = _Run(encoder, encoder.check_layers(layers), get_protocol(protocol).name)
    order = {id(pair): index for index, pair in enumerate(pairs)}
    rows: list[list[Row]] = [[] for _ in pairs]
    for pair, scored in run.rows(pairs):
        rows[order[id(pair)]] = scored
        advance()
    return [row for scored in rows for row in scored]


@dataclass(frozen=True)
class _Clip:
    """A file's embeddings, or why there are none."""

    hidden: NDArray[np.float16] | NDArray[np.float32] | None
    silent: bool = False
    problem: str = ""


class _Run:
    """One call of `score_pairs`."""

    def __init__(self, encoder: Encoder, layers: tuple[int, ...], protocol: str) -> None:
        self._encoder = encoder
        self._layers = layers
        self._protocol = get_protocol(protocol)

    def rows(self, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, list[Row]]]:
        """Yield each pair's rows, grouped by reference."""
        groups: dict[Path, list[tuple[Pair, Path]]] = {}
        for pair in pairs:
            if pair.reference is None or pair.estimate is None:
                yield pair, [self._row(pair, None, "unmatched", pair.problem)]
            else:
                groups.setdefault(pair.reference, []).append((pair, pair.estimate))
        files = [path for reference, group in groups.items() for path in (reference, *(e for _, e in group))]
        clips = self._embed(files)
        for group in groups.values():
            reference = next(clips)
            for pair, _ in group:
                yield pair, self._compare(pair, reference, next(clips))

    def _embed(self, files: Sequence[Path]) -> Iterator[_Clip]:
        """Embed files in order, while the following ones are being decoded and resampled."""
        ahead: deque[Future[NDArray[np.float32]]] = deque()
        remaining = iter(files)
        with ThreadPoolExecutor(1) as pool:
            for _ in files:
                while len(ahead) < 2 and (path := next(remaining, None)) is not None:
                    ahead.append(pool.submit(self._prepare, path))
                yield self._clip(ahead.popleft())

    def _prepare(self, path: Path) -> NDArray[np.float32]:
        return self._encoder.prepare(read_audio(path, max_seconds=self._protocol.max_seconds), self._protocol)

    def _clip(self, prepared: Future[NDArray[np.float32]]) -> _Clip:
        try:
            samples = prepared.result()
        except MertricError as error:
            return _Clip(None, problem=str(error))
        hidden = self._encoder.embed_samples(samples, layers=self._layers).hidden
        return _Clip(self._protocol.finish(hidden), silent=not samples.any())

    def _compare(self, pair: Pair, reference: _Clip, estimate: _Clip) -> list[Row]:
        if reference.hidden is None or estimate.hidden is None:
            problems = [clip.problem for clip in (reference, estimate) if clip.problem]
            return [self._row(pair, layer, "failed", "; ".join(problems)) for layer in self._layers]
        silent = " and ".join(name for name, clip in (("reference", reference), ("estimate", estimate)) if clip.silent)
        rows = []
        for layer, x, y in zip(self._layers, reference.hidden, estimate.hidden, strict=True):
            values: Row = {}
            reasons = []
            for name, metric in zip(MERT_METRICS, (embedding_mse, frechet_distance), strict=True):
                try:
                    values[name] = metric(x, y)
                except InputError as error:
                    values[name] = None
                    reasons.append(f"{name}: {error}")
            status = "partial" if reasons else "ok"
            rows.append(self._row(pair, layer, status, "; ".join(reasons), frames=len(x), silent=silent) | values)
        return rows

    def _row(
        self,
        pair: Pair,
        layer: int | None,
        status: str,
        reason: str | None,
        *,
        frames: int | None = None,
        silent: str = "",
    ) -> Row:
        return {
            "reference": None if pair.reference is None else str(pair.reference),
            "estimate": None if pair.estimate is None else str(pair.estimate),
            "model": pair.model,
            "layer": layer,
            "frames": frames,
            "silent": silent or None,
            "status": status,
            "reason": reason or None,
            **dict.fromkeys(MERT_METRICS),
        }
