"""Scores of many pairs of files, as rows of a table. No pair is ever lost."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mertric.errors import InputError
from mertric.journal import Journal, Outcome
from mertric.mert_scores import MERT_METRICS, MertScorer
from mertric.metrics.registry import WAVEFORM_METRICS
from mertric.protocol import get_protocol
from mertric.scheduler import MEMORY_BYTES
from mertric.waveform_scores import WaveformScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mertric.encoder import Encoder
    from mertric.pairing import Pair
    from mertric.windows import Windows

METRICS = (*MERT_METRICS, *WAVEFORM_METRICS)
"""Every metric, in the order of columns."""
Row = dict[str, object]


def score_pairs(
    pairs: Iterable[Pair],
    encoder: Encoder | None,
    *,
    metrics: Iterable[str] = MERT_METRICS,
    layers: Sequence[int] | Literal["all"] | None = None,
    protocol: str = "paper",
    trim: bool = False,
    windows: Windows | None = None,
    journal: Path | str | None = None,
    memory: int = MEMORY_BYTES,
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Score pairs of files.

    Parameters
    ----------
    pairs
        From `mertric.pairing` or `mertric.manifest`; those with a problem become rows too.
    encoder
        From `mertric.load`; None where no MERT metric is asked for.
    metrics
        Some of `METRICS`.
    layers, protocol
        Of the MERT metrics; see `Encoder.embed` and `score`.
    trim
        Compare only the part that both files of a pair have, and for waveform metrics all references of a track and
        one model's estimates of it.
    windows
        Attend within windows only, an approximation for long audio; None is exact.
    journal
        A file that keeps what has been computed; a later run with the same settings and files goes on there.
    memory : int
        Bytes for batches of clips, see `mertric.scheduler.Scheduler`.
    advance
        Called when a pair is done, once for MERT metrics and once for waveform metrics.

    Returns
    -------
    list of dict
        For each pair in order, and each layer: ``reference``, ``estimate``, ``model``, ``model_type``, ``track``,
        ``stem``, ``layer``, ``frames``, ``silent`` (which of the two holds only zeros), ``status``, ``reason`` and
        the metrics by name. ``status`` is ``ok``; ``partial`` where some metrics are not defined and None;
        ``failed`` where all are; or ``unmatched``. ``reason`` says why. ``settings`` is what `describe` says.

    Raises
    ------
    InputError
        A metric, a layer or the protocol is not known, or there is no encoder for MERT metrics.
    """
    if isinstance(metrics, str):
        raise InputError(f"metrics is {metrics!r}; expected a sequence of names, such as [{metrics!r}].")
    pairs, metrics = list(pairs), list(metrics)
    mert, waveform = split_metrics(metrics)
    found: dict[int, list[Outcome]] = {}
    more: dict[int, Outcome] = {}
    kept = Journal(None if journal is None else Path(journal))
    if mert:
        if encoder is None:
            raise InputError("MERT metrics need an encoder: pass one from mertric.load().")
        scorer = MertScorer(
            encoder,
            layers=encoder.check_layers(layers),
            protocol=get_protocol(protocol),
            trim=trim,
            windows=windows,
            journal=kept,
            memory=memory,
        )
        found = {id(pair): outcomes for pair, outcomes in scorer.score(pairs, advance)}
    if waveform:
        waveform_scorer = WaveformScorer(waveform, trim=trim, journal=kept)
        more = {id(pair): outcome for pair, outcome in waveform_scorer.score(pairs, advance)}
    settings = describe(encoder if mert else None, protocol=protocol, windows=windows, trim=trim)
    return [
        _row(pair, outcome, more.get(id(pair)), metrics, settings)
        for pair in pairs
        for outcome in found.get(id(pair), [None])
    ]


def describe(encoder: Encoder | None, *, protocol: str, windows: Windows | None = None, trim: bool = False) -> str:
    """Say in a line what numbers depend on beside the audio: for tables that are read long after."""
    parts = [f"mertric {version('mertric')}"]
    if encoder is not None:
        bundle = encoder.bundle
        weights = f"weights {bundle.weights_sha256[:12]}" if bundle.trained else "untrained weights"
        parts += [f"{bundle.model}, {weights}", f"{encoder.precision} on {encoder.provider}", f"protocol {protocol}"]
    if windows is not None:
        parts.append(f"windows of {windows.seconds:g} s, overlap {windows.overlap:g}")
    if trim:
        parts.append("trimmed")
    return "; ".join(parts)


def split_metrics(metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part names of metrics into MERT's and the waveform's.

    Raises
    ------
    InputError
        A name is not known, or there are none.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        what = f"metrics are not known: {', '.join(unknown)}" if unknown else "metrics are none"
        raise InputError(f"{what}; expected some of {', '.join(METRICS)}.")
    return [name for name in metrics if name in MERT_METRICS], [name for name in metrics if name in WAVEFORM_METRICS]


def _row(pair: Pair, mert: Outcome | None, waveform: Outcome | None, metrics: Sequence[str], settings: str) -> Row:
    outcomes = [outcome for outcome in (mert, waveform) if outcome is not None]
    values = {name: value for outcome in outcomes for name, value in outcome.values.items()}
    values = {name: values.get(name) for name in metrics}
    reasons = dict.fromkeys(reason for outcome in outcomes for reason in outcome.reasons)
    silent = dict.fromkeys(name for outcome in outcomes for name in outcome.silent)
    defined = [value is not None for value in values.values()]
    status = "unmatched" if not outcomes else "ok" if all(defined) else "partial" if any(defined) else "failed"
    return {
        "reference": None if pair.reference is None else str(pair.reference),
        "estimate": None if pair.estimate is None else str(pair.estimate),
        "model": pair.model,
        "model_type": pair.model_type,
        "track": pair.track,
        "stem": pair.stem,
        "layer": mert.layer if mert else None,
        "frames": mert.frames if mert else None,
        "silent": " and ".join(silent) or None,
        "status": status,
        "reason": "; ".join(reasons) or pair.problem,
        **values,
        "settings": settings,
    }
