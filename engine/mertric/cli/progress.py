"""How far a command has come."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from mertric.cli.messages import say
from mertric.scheduler import MEMORY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mertric.encoder import Encoder
    from mertric.pairing import Pair
    from mertric.scoring import Row
    from mertric.windows import Windows

LINE_SECONDS = 60.0
"""Between two lines where there is no terminal."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Yield what is to be called for each of `total` parts that is done.

    Standard error shows a bar where it is a terminal, and else a line a minute.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _lines(what: str, total: int) -> Callable[[], None]:
    said = first = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal said, first, done
        done += 1
        now = time.monotonic()
        if done == 1:  # which takes longer: all is loaded for it
            first = now
        if now - said >= LINE_SECONDS and done < total:
            said = now
            left = f", about {(now - first) / (done - 1) * (total - done) / 60:.0f} min left" if done > 1 else ""
            say(f"{what}: {done} of {total}{left}")

    return advance


def score_with_progress(
    pairs: Sequence[Pair],
    encoder: Encoder | None,
    *,
    metrics: Sequence[str],
    layers: Sequence[int] | Literal["all"] | None,
    protocol: str,
    trim: bool = False,
    windows: Windows | None = None,
    journal: Path | None = None,
    memory: int = MEMORY_BYTES,
) -> list[Row]:
    """Score pairs and show how far that is, see `mertric.scoring.score_pairs`."""
    from mertric.scoring import score_pairs, split_metrics

    matched = sum(pair.problem is None for pair in pairs)
    with progress("scoring", matched * sum(map(bool, split_metrics(metrics)))) as advance:
        return score_pairs(
            pairs,
            encoder,
            metrics=metrics,
            layers=layers,
            protocol=protocol,
            trim=trim,
            windows=windows,
            journal=journal,
            memory=memory,
            advance=advance,
        )
