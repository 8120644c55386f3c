"""Waveform metrics of many pairs, a track at a time: some need all references of a track, or all its estimates."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from mertric.audio import Audio
from mertric.audio_file import read_audio
from mertric.errors import RECOVERABLE, MertricError, problem_of
from mertric.journal import Outcome, journal_key
from mertric.metrics.registry import WAVEFORM_METRICS, Undefined, score_track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mertric.journal import Journal
    from mertric.metrics.registry import Value
    from mertric.pairing import Pair

    Loaded = Audio | str


class WaveformScorer:
    """Computes metrics of `WAVEFORM_METRICS`, on the files as they are: their own rate and channels.

    Parameters
    ----------
    names
        Which metrics.
    trim
        Compare only the part that all references of a track and one model's estimates of it have.
    journal
        Where outcomes are found again and kept.
    """

    def __init__(self, names: Sequence[str], *, trim: bool, journal: Journal) -> None:
        self._names = list(names)
        self._trim = trim
        self._journal = journal

    def score(self, pairs: Sequence[Pair], advance: Callable[[], None]) -> Iterator[tuple[Pair, Outcome]]:
        """Yield each complete pair with its outcome, grouped by track, or by reference where nothing else is needed."""
        alone = not self._trim and all(WAVEFORM_METRICS[name].references == "own" for name in self._names)
        tracks: dict[Path | str | None, list[Pair]] = defaultdict(list)
        for pair in pairs:
            tracks[pair.reference if alone else pair.track].append(pair)
        for track in tracks.values():
            sources = list(dict.fromkeys(pair.reference for pair in track if pair.reference is not None))
            loaded: dict[Path, Loaded] = {}
            for group in _sets(track):
                for pair, outcome in zip(group, self._model(group, sources, loaded), strict=True):
                    yield pair, outcome
                    advance()

    def _model(self, group: Sequence[Pair], sources: Sequence[Path], loaded: dict[Path, Loaded]) -> list[Outcome]:
        """Score one model's estimates of one track."""
        estimates = [pair.estimate for pair in group if pair.estimate is not None]
        settings = {"metrics": self._names, "trim": self._trim}
        owners = [pair.reference for pair in group if pair.reference is not None]
        keys = [
            journal_key(settings, (owner, own, *estimates, *sources))
            for owner, own in zip(owners, estimates, strict=True)
        ]
        known = [found for key in keys if (found := self._journal.find(key, self._names, layers=[None])) is not None]
        if len(known) == len(keys):
            return [outcomes[0] for outcomes in known]
        for source in sources:
            if source not in loaded:
                loaded[source] = _load(source)
        clips = {path: _load(path) for path in estimates}
        try:
            outcomes = self._compare(group, {path: loaded[path] for path in sources}, clips)
        except MemoryError as error:  # of which the journal must not know: there may be more next time
            return [self._outcome(None, problem_of(error), ()) for _ in group]
        if all(isinstance(clip, Audio) for clip in (*(loaded[path] for path in sources), *clips.values())):
            for key, outcome in zip(keys, outcomes, strict=True):
                self._journal.keep(key, [outcome])
        return outcomes

    def _compare(
        self, group: Sequence[Pair], references: Mapping[Path, Loaded], estimates: Mapping[Path, Loaded]
    ) -> list[Outcome]:
        sound = {path: audio for path, audio in references.items() if isinstance(audio, Audio)}
        missing = [f"{problem}" for problem in references.values() if isinstance(problem, str)]
        usable: list[tuple[int, Audio, int]] = []
        problems: dict[int, str] = {}
        order = list(sound)
        if self._trim:
            shortest = min(
                (clip.seconds for clip in (*sound.values(), *estimates.values()) if isinstance(clip, Audio)), default=0
            )
            sound = {path: audio.cut(shortest) for path, audio in sound.items()}
        for index, pair in enumerate(group):
            own, clip = _get(references, pair.reference), _get(estimates, pair.estimate)
            if isinstance(own, str) or isinstance(clip, str):
                problems[index] = "; ".join(item for item in (own, clip) if isinstance(item, str))
                continue
            if self._trim:
                own, clip = own.cut(shortest), clip.cut(shortest)
            if mismatch := _mismatch(own, clip):
                problems[index] = mismatch
            elif pair.reference is not None:
                usable.append((index, clip, order.index(pair.reference)))
        values: list[dict[str, Value]]
        try:
            values = self._score(list(sound.values()), [u[1] for u in usable], [u[2] for u in usable], missing)
        except MertricError as error:
            values = [dict.fromkeys(self._names, Undefined(str(error))) for _ in usable]
        found = {index: row for (index, _, _), row in zip(usable, values, strict=True)}
        return [
            self._outcome(found.get(index), problems.get(index), _silent(pair, references, estimates))
            for index, pair in enumerate(group)
        ]

    def _score(
        self, references: list[Audio], estimates: list[Audio], sources: list[int], missing: list[str]
    ) -> list[dict[str, Value]]:
        """Compute what can be computed; metrics that need the whole track are undefined where it is not whole."""
        if not estimates:
            return []
        reason = missing[0] if missing else next((m for r in references if (m := _mismatch(references[0], r))), "")
        own = [name for name in self._names if WAVEFORM_METRICS[name].references == "own" or not reason]
        if reason:
            rows = [
                score_track([references[source].samples], [clip.samples], names=own, sample_rate=clip.sample_rate)[0]
                for clip, source in zip(estimates, sources, strict=True)
            ]
        else:
            rows = score_track(
                [reference.samples for reference in references],
                [clip.samples for clip in estimates],
                names=own,
                sample_rate=estimates[0].sample_rate,
                sources=sources,
            )
        undefined = Undefined(f"the track's references cannot be used together: {reason}")
        return [{name: row.get(name, undefined) for name in self._names} for row in rows]

    def _outcome(self, row: Mapping[str, Value] | None, problem: str | None, silent: tuple[str, ...]) -> Outcome:
        if row is None:
            return Outcome(dict.fromkeys(self._names), (problem or "",), silent=silent)
        values = {name: None if isinstance(value, Undefined) else value for name, value in row.items()}
        named: dict[str, list[str]] = defaultdict(list)
        for name, value in row.items():
            if isinstance(value, Undefined):
                named[value.reason].append(name)
        reasons = tuple(f"{', '.join(names)}: {reason}" for reason, names in named.items())
        return Outcome(values, reasons, silent=silent)


def _sets(track: Sequence[Pair]) -> list[list[Pair]]:
    """Part a track's complete pairs into sets of estimates that belong together: of one model, one a reference."""
    sets: dict[tuple[str | None, int], list[Pair]] = defaultdict(list)
    seen: Counter[tuple[str | None, Path]] = Counter()
    for pair in track:
        if pair.reference is not None and pair.estimate is not None:
            sets[pair.model, seen[pair.model, pair.reference]].append(pair)
            seen[pair.model, pair.reference] += 1
    return list(sets.values())


def _load(path: Path) -> Loaded:
    try:
        return read_audio(path)
    except RECOVERABLE as error:
        return problem_of(error)


def _get(clips: Mapping[Path, Loaded], path: Path | None) -> Loaded:
    return "there is no file" if path is None else clips[path]


def _mismatch(first: Audio, second: Audio) -> str:
    """Say how two files differ that must be alike, or nothing."""
    for what, a, b in (
        ("sample rate", f"{first.sample_rate} Hz", f"{second.sample_rate} Hz"),
        ("channels", first.samples.shape[0], second.samples.shape[0]),
        ("samples", first.samples.shape[1], second.samples.shape[1]),
    ):
        if a != b:
            advice = "; --trim compares the part that both have" if what == "samples" else "; render them alike"
            return f"{first.name} and {second.name} differ in {what}: {a} and {b}{advice}"
    return ""


def _silent(pair: Pair, references: Mapping[Path, Loaded], estimates: Mapping[Path, Loaded]) -> tuple[str, ...]:
    clips = (("reference", _get(references, pair.reference)), ("estimate", _get(estimates, pair.estimate)))
    return tuple(name for name, clip in clips if isinstance(clip, Audio) and not clip.samples.any())
