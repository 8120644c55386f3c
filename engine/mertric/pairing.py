"""Which estimate belongs to which reference. Nothing is guessed: what does not match is said."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mertric.errors import PairingError
from mertric.files import STEMS, SUFFIXES, find_sources, identifiers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_PARTS = frozenset((*STEMS, "accompaniment"))
"""What files of one track are named as, in a flat folder."""


_UNREAD = (".m4a", ".mp4", ".stem.mp4", ".aac", ".wma", ".webm", ".mka", ".mkv", ".ac3", ".npy")
"""Endings of files that hold audio, and that libsndfile does not read."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A reference and an estimate of it.

    Attributes
    ----------
    reference, estimate : Path or None
        None where there is no partner; then `problem` says why.
    model : str or None
        What made the estimate: its folder's name, where estimates come from folders.
    track : str or None
        What it is an excerpt of. References of one track are each other's interference.
    stem : str or None
        Which part of the track.
    model_type : str or None
        A group of models, from a manifest.
    problem : str or None
        Why the pair cannot be scored.
    """

    reference: Path | None
    estimate: Path | None
    model: str | None = None
    track: str | None = None
    stem: str | None = None
    model_type: str | None = None
    problem: str | None = None


def pair(reference: Path, estimates: Sequence[Path]) -> list[Pair]:
    """Pair a reference with estimates: a file with files, or a folder with folders.

    In folders, files pair by equal path below the folder, then by equal path without its ending, then without regard to
    case, then by a name that goes on where the reference's ends, then by an identifier in the path, such as
    ``fileid_12``, that exactly one file of each side has, where several or all files of a side are numbered so; where
    it is a folder's, the files must have one name. An estimates folder that holds folders and no audio, none of them
    named as a track of the references, is a folder of models. ``TRACK/STEM.wav`` and ``STEM/TRACK.wav`` give track and
    stem; beside stems, ``mixture`` and ``accompaniment`` are left out. In a flat folder a file is a track of its own,
    unless it is named for a stem, such as ``song1_vocals.wav`` beside ``song1_drums.wav``.

    Parameters
    ----------
    reference
        A file or a folder.
    estimates
        As many as there are models, or folders of models; each of the reference's kind.

    Returns
    -------
    list of Pair
        In the order of the estimates given, then of the references' paths; those without a partner are among them.

    Raises
    ------
    PairingError
        A path does not exist, is of the other kind, is given twice, or a folder holds no audio; of several models in
        a folder, one that holds none has no partners.
    """
    for path in (reference, *estimates):
        if not path.exists():
            raise PairingError(f"{path} does not exist. Check the path.")
    _require_different([path] for path in estimates)
    if not reference.is_dir():
        wrong = [str(path) for path in estimates if path.is_dir()]
        if wrong:
            raise PairingError(
                f"{reference} is a file but {', '.join(wrong)} is a folder; expected files with a file, or "
                "folders with a folder."
            )
        return [Pair(reference=reference, estimate=estimate, track=reference.stem) for estimate in estimates]
    files = [str(path) for path in estimates if not path.is_dir()]
    if files:
        raise PairingError(f"{reference} is a folder but {', '.join(files)} is a file; expected folders with a folder.")
    references = find_sources(reference)
    given = [_models(reference, references, folder) for folder in estimates]
    _require_different(given)
    for folder in estimates:
        find_sources(folder)
    folders = [folder for models in given for folder in models]
    return [
        found
        for folder, name in zip(folders, _model_names(folders), strict=True)
        for found in _pair_folder(reference, references, folder, name)
    ]


def _require_different(given: Iterable[Sequence[Path]]) -> None:
    """Refuse what stands for itself in two arguments; links in one folder of models are models of their own."""
    counts = Counter(path for paths in given for path in {path.resolve() for path in paths})
    repeated = [str(path) for path, count in counts.items() if count > 1]
    if repeated:
        raise PairingError(f"{', '.join(repeated)} is given twice as an estimate. Give each once.")


def _models(root: Path, references: Sequence[Path], folder: Path) -> list[Path]:
    """Return the folder, or the folders in it if it is a folder of models."""
    children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    tracks = {_folded(path.relative_to(root).parts[0]) for path in references}
    numbers = _Numbers({path: path.relative_to(root) for path in references}, {})
    taken = {number for track in tracks for number in numbers.of(Path(track))}
    holds_audio = any(path.suffix.lower() in SUFFIXES for path in children if path.is_file())
    folders = [path for path in children if path.is_dir()]
    if (
        holds_audio
        or not folders
        or any(_folded(path.name) in tracks or numbers.of(Path(path.name)) & taken for path in folders)
    ):
        return [folder]
    return folders


def _pair_folder(root: Path, references: Sequence[Path], folder: Path, model: str) -> list[Pair]:
    left = {path: path.relative_to(root) for path in references}
    try:
        right = {path: path.relative_to(folder) for path in find_sources(folder)}
    except PairingError:  # `pair` has refused a folder that was given
        right = {}
    everything = left, right
    numbers = _Numbers(*everything)
    tracks = _tracks(left, numbers) | _tracks(right, numbers)
    stems = {path: _stem(below) for path, below in left.items()}
    partners: dict[Path, Path] = {}
    keys: list[Callable[[Path], Iterable[str]]] = [
        lambda path: [_normal(path)],
        lambda path: [_normal(path.with_suffix(""))],
        lambda path: [_bare(path)],
        _Beginnings(left.values()).of,
        numbers.of,
    ]
    for key in keys:
        matched = {a: b for a, b in _match(*everything, key, numbers).items() if a in left and b in right}
        partners |= matched
        left = {path: below for path, below in left.items() if path not in matched}
        taken = set(matched.values())
        right = {path: below for path, below in right.items() if path not in taken}
    pairs = [
        Pair(
            reference=reference,
            estimate=partners.get(reference),
            model=model,
            track=tracks[reference],
            stem=stems[reference],
            problem=None
            if reference in partners
            else _reason(left[reference], right.values(), left.values(), folder, numbers),
        )
        for reference in references
    ]
    return pairs + [
        Pair(
            reference=None,
            estimate=path,
            model=model,
            track=tracks[path],
            stem=_stem(below),
            problem=_reason(below, left.values(), right.values(), root, numbers),
        )
        for path, below in right.items()
    ]


class _Beginnings:
    """Names of references that names of estimates begin with: ``song_(Vocals)_model.wav`` is of ``song.wav``.

    What follows is no number, which would be another song's, and a reference that is called as a stem is not meant: a
    ``bass_drum`` is no bass.
    """

    def __init__(self, references: Iterable[Path]) -> None:
        self._names = {_bare(below) for below in references if below.stem.lower() not in _PARTS}

    def of(self, below: Path) -> list[str]:
        """The longest such name."""
        own = _bare(below)
        found = [
            own[:end]
            for end in range(len(own), 0, -1)
            if own[:end] in self._names and (not own[end:] or _continues(own[end:]))
        ]
        return found[:1]


def _continues(rest: str) -> bool:
    """Whether what follows a name is said of it."""
    return not rest[0].isalnum() and not rest.strip("_- ().").isdigit() and "/" not in rest


class _Numbers:
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


def _word(identifier: str) -> str:
    """What an identifier is called without its number."""
    return identifier.rstrip("0123456789").rstrip("_-")


def _by_stem(below: Path) -> bool:
    """Whether a file is ``STEM/TRACK.wav``."""
    return len(below.parts) > 1 and below.parent.name.lower() in _PARTS and below.stem.lower() not in _PARTS


def _stem(below: Path) -> str | None:
    """The stem's name of ``TRACK/STEM.wav`` or ``STEM/TRACK.wav``."""
    if _by_stem(below):
        return below.parent.name
    return below.stem if len(below.parts) > 1 else None


def _tracks(files: Mapping[Path, Path], numbers: _Numbers) -> dict[Path, str]:
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


def _match(
    left: Mapping[Path, Path], right: Mapping[Path, Path], key: Callable[[Path], Iterable[str]], numbers: _Numbers
) -> dict[Path, Path]:
    """Match the files that share a key no other file of either side has, unless their keys name different files."""
    owners: list[dict[str, list[Path]]] = []
    for side in (left, right):
        table = defaultdict(list)
        for path, below in side.items():
            for name in key(below):
                table[name].append(path)
        owners.append(table)
    links = {
        (owners[0][name][0], owners[1][name][0])
        for name in owners[0].keys() & owners[1].keys()
        if len(owners[0][name]) == len(owners[1][name]) == 1
    }
    links = {(a, b) for a, b in links if _compatible(left[a], right[b], numbers)}
    lefts, rights = Counter(a for a, _ in links), Counter(b for _, b in links)
    return {a: b for a, b in links if lefts[a] == rights[b] == 1}


def _compatible(below: Path, other: Path, numbers: _Numbers) -> bool:
    """Whether two files can be the same part: of files in folders, ``TRACK_1/bass`` is not ``TRACK_1/drums``."""
    nested = len(below.parts) > 1 and len(other.parts) > 1
    named = numbers.of(Path(below.name)) & numbers.of(Path(other.name))
    return not nested or bool(named) or _folded(below.stem) == _folded(other.stem)


def _reason(below: Path, others: Iterable[Path], same: Iterable[Path], where: Path, numbers: _Numbers) -> str:
    """Say why a file has no partner in `where`."""
    own = numbers.of(below)
    rivals = [
        other.as_posix() for other in others if own and own & numbers.of(other) and _compatible(below, other, numbers)
    ]
    if not rivals:
        unread = _unread(where / below)
        return f"no partner in {where}" + (f", where {unread} is of a kind that is not read" if unread else "")
    shared = [other.as_posix() for other in same if own & numbers.of(other) and other != below]
    return f"ambiguous: could belong to {', '.join(sorted(rivals)[:4])}" + (
        f", as could {', '.join(sorted(shared)[:4])}" if shared else ""
    )


def _unread(path: Path) -> str | None:
    """Name a file that differs from a path in its ending alone, and holds audio that is not read."""
    names = (path.stem + ending for ending in _UNREAD)
    return next((name for name in names if (path.parent / name).is_file()), None)


def _bare(path: Path) -> str:
    """Spell a path without its ending and without regard to case."""
    return _folded(path.with_suffix("").as_posix())


def _folded(name: str) -> str:
    """Spell a name with composed characters and without regard to case."""
    return unicodedata.normalize("NFC", name).casefold()


def _normal(path: Path) -> str:
    """Spell a path with composed characters, whichever way the file system has them."""
    return unicodedata.normalize("NFC", path.as_posix())


def _model_names(folders: Sequence[Path]) -> list[str]:
    """Name each folder by its last part, or by as many parts as tell the folders apart."""
    resolved = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100  (links keep their names)
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in resolved]
