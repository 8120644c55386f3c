"""What names of files say: which file they mean, however they are spelled, of which track, and which part of it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mertric.files import STEMS, SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_IDENTIFIER = re.compile(r"[A-Za-z]+[_-]?\d+")
_WORD = re.compile(r"[^\W_]+")
_PARTS = frozenset((*STEMS, "accompaniment"))
"""What files of one track are named as, in a flat folder."""


@lru_cache(1 << 16)
def identifiers(path: Path) -> frozenset[str]:
    """Return the words with a number in a path, such as ``fileid_12``, in lower case."""
    name = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return frozenset(match.lower() for match in _IDENTIFIER.findall(name.as_posix()))


def bare(path: Path) -> str:
    """Spell a path without its ending and without regard to case."""
    return folded(path.with_suffix("").as_posix())


def folded(name: str) -> str:
    """Spell a name with composed characters and without regard to case."""
    return unicodedata.normalize("NFC", name).casefold()


def composed(path: Path) -> str:
    """Spell a path with composed characters, whichever way the file system has them."""
    return unicodedata.normalize("NFC", path.as_posix())


class Beginnings:
    """Names of references that names of estimates begin with: ``song_(Vocals)_model.wav`` is of ``song.wav``.

    What follows is no number, which would be another song's, and a reference that is called as a stem is not meant: a
    ``bass_drum`` is no bass.
    """

    def __init__(self, references: Iterable[Path]) -> None:
        self._names = {bare(below) for below in references if below.stem.lower() not in _PARTS}

    def of(self, below: Path) -> list[str]:
        """The longest such name."""
        own = bare(below)
        found = [
            own[:end]
            for end in range(len(own), 0, -1)
            if own[:end] in self._names and (not own[end:] or _continues(own[end:]))
        ]
        return found[:1]


def _continues(rest: str) -> bool:
    """Whether what follows a name is said of it: something that is parted from it, and begins with no number."""
    words = _WORD.findall(rest)
    return not rest[0].isalnum() and bool(words) and not words[0].isdigit() and "/" not in rest


class Numbers:
    """Identifiers that number files: of their word there are several on a side, or all files have one, as ``id_1``.

    A name such as U2, which nothing parts from its number, is none where it is the only one.

    Parameters
    ----------
    left, right
        Both sides' files, and what they are called below their folder.
    """

    def __init__(self, left: Mapping[Path, Path], right: Mapping[Path, Path]) -> None:
        self._words: set[str] = set()
        self._known: dict[Path, frozenset[str]] = {}
        for side in (left, right):
            found = [identifiers(below) for below in side.values()]
            numbers = Counter(map(_word, frozenset().union(*found)))
            parted = [{_word(name) for name in names if {*name} & {*"_-"}} for names in found]
            everywhere = set.intersection(*parted) if parted else set()
            self._words |= {word for word in numbers if numbers[word] > 1} | everywhere

    def of(self, below: Path) -> frozenset[str]:
        """The identifiers of a file."""
        if below not in self._known:
            self._known[below] = frozenset(name for name in identifiers(below) if _word(name) in self._words)
        return self._known[below]

    def same_part(self, below: Path, other: Path) -> bool:
        """Whether two files can be the same part: of files in folders, ``TRACK_1/bass`` is not ``TRACK_1/drums``."""
        nested = len(below.parts) > 1 and len(other.parts) > 1
        named = self.of(Path(below.name)) & self.of(Path(other.name))
        return not nested or bool(named) or folded(below.stem) == folded(other.stem)


def _word(identifier: str) -> str:
    """What an identifier is called without its number."""
    return identifier.rstrip("0123456789").rstrip("_-")


def _by_stem(below: Path) -> bool:
    """Whether a file is ``STEM/TRACK.wav``."""
    return len(below.parts) > 1 and below.parent.name.lower() in _PARTS and below.stem.lower() not in _PARTS


def stem_of(below: Path) -> str | None:
    """The stem's name of ``TRACK/STEM.wav`` or ``STEM/TRACK.wav``."""
    if _by_stem(below):
        return below.parent.name
    return below.stem if len(below.parts) > 1 else None


def tracks_of(files: Mapping[Path, Path], numbers: Numbers) -> dict[Path, str]:
    """Name each file's track: its folder, or in a flat folder its only identifier, or its name.

    An identifier that several files have, such as a version, is a track's only if these are otherwise named as stems.
    """
    flat = {path: numbers.of(below) for path, below in files.items() if len(below.parts) == 1}
    stems = Counter(files[path].stem for path in flat)
    owners = defaultdict(list)
    for path, found in flat.items():
        for name in found:
            owners[name].append(files[path].stem.lower())
    names = {}
    for path, below in files.items():
        names[path] = below.parent.as_posix()
        if _by_stem(below):
            names[path] = (below.parent.parent / below.stem).as_posix()
        if path in flat:
            names[path] = below.stem if stems[below.stem] == 1 else below.name
            for name in flat[path] if len(flat[path]) == 1 else ():
                if len(owners[name]) == 1 or all(_rest(stem, name) in _PARTS for stem in owners[name]):
                    names[path] = name
    return names


def _rest(stem: str, identifier: str) -> str:
    """What a file's name says beside its identifier."""
    return stem.replace(identifier, "").strip(" ._-")
