"""Keeps what has been computed, so that a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mertric.errors import InputError, OutputError
from mertric.output import writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_START = '{"key": "'


@dataclass(frozen=True)
class Outcome:
    """What was found for one pair, on one layer where that matters.

    Attributes
    ----------
    values : mapping
        Metrics by name; None where one is not defined.
    reasons : tuple of str
        Why metrics are None.
    layer, frames : int or None
        Of MERT metrics.
    silent : tuple of str
        Which of ``reference`` and ``estimate`` hold only zeros.
    """

    values: Mapping[str, float | None]
    reasons: tuple[str, ...] = ()
    layer: int | None = None
    frames: int | None = None
    silent: tuple[str, ...] = field(default=())


class Journal:
    """Outcomes on disk, one JSON line for each pair, found again as long as files and settings are the same.

    Parameters
    ----------
    path
        The file, made where it is not there; None keeps nothing.

    Raises
    ------
    InputError
        The file cannot be read, or is not a journal.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[Outcome]] = {}
        self._cut_off = False
        if path is None or not path.exists():
            return
        if not path.is_file():
            raise InputError(f"the journal {path} cannot be read (it is not a regular file). Name another file.")
        try:
            text = path.read_text(encoding="utf-8", errors="replace")  # a torn line may end with any bytes
        except OSError as error:
            raise InputError(f"the journal {path} cannot be read ({error}). Name another file.") from error
        for line in text.splitlines():
            self._read(line)
        self._cut_off = bool(text) and not text.endswith("\n")
        if text.strip() and not self._known and not text.startswith(_START[: len(text)]):
            raise InputError(f"{path} is not a journal of mertric; it was left as it is. Name another file.")

    def find(self, key: str, metrics: Iterable[str], *, layers: Sequence[int | None]) -> list[Outcome] | None:
        """Return the outcomes under a key, if they are of these metrics on these layers; otherwise None."""
        found = self._known.get(key)
        if found is None or any(outcome.values.keys() != set(metrics) for outcome in found):
            return None
        return found if [outcome.layer for outcome in found] == list(layers) else None

    def keep(self, key: str, outcomes: list[Outcome]) -> None:
        """Append outcomes under a key. Where the file system refuses, a warning says so, and no more is kept."""
        if self._path is None:
            return
        line = json.dumps({"key": key, "outcomes": [asdict(outcome) for outcome in outcomes]})
        try:
            with writing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write("\n" * self._cut_off + line + "\n")
        except OutputError as error:
            warnings.warn(f"{error} The run goes on, and the journal ends here.", stacklevel=2)
            self._path = None
        self._cut_off = False

    def _read(self, line: str) -> None:
        """Take in a line; the last one may have been cut off when the run was interrupted."""
        try:
            entry = json.loads(line)
            self._known[entry["key"]] = [_outcome(fields) for fields in entry["outcomes"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return


def journal_key(settings: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Return a key that changes with mertric's version, the settings, and each file's path, size and times.

    Among these is that of its last change in place, which copies that keep the other do not keep.
    """
    states = []
    for file in files:
        try:
            status = file.stat()
            states.append([str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
        except (OSError, ValueError):
            states.append([str(file), None, None, None])
    return hashlib.sha256(json.dumps([version("mertric"), settings, states], sort_keys=True).encode()).hexdigest()


def _outcome(fields: dict[str, Any]) -> Outcome:
    """Make an outcome of what stands in a line; TypeError or ValueError where it is none."""
    outcome = Outcome(**fields | {"reasons": tuple(fields["reasons"]), "silent": tuple(fields["silent"])})
    values = outcome.values.values() if isinstance(outcome.values, dict) else [""]
    if (
        any(type(value) not in (float, int, type(None)) or value != value for value in values)
        or any(type(text) is not str for text in (*outcome.reasons, *outcome.silent))
        or any(type(number) not in (int, type(None)) for number in (outcome.layer, outcome.frames))
        or (None in values and not outcome.reasons)
    ):
        raise ValueError("it is no outcome")
    return outcome
