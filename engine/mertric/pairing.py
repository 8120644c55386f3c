"""Which estimate belongs to which reference. Nothing is guessed: what does not match is said."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mertric.errors import PairingError
from mertric.files import SUFFIXES, find_sources
from mertric.names import Beginnings, Numbers, bare, composed, folded, stem_of, tracks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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


def pair(reference: Path | str, estimates: Iterable[Path | str]) -> list[Pair]:
    """Pair a reference with estimates: a file with files, or a folder with folders.

    In folders, files pair by equal path below the folder, then by equal path without its ending, then without regard to
    case, then by a name that goes on where the reference's ends, with no number next, which would be another song's,
    then by an identifier in the path, such as ``fileid_12``, that exactly one file of each side has, where several or
    all files of a side are numbered so; where it is a folder's, the files must have one name. An estimates folder that
    holds folders and no audio, none of them named as a track of the references, is a folder of models.
    ``TRACK/STEM.wav`` and ``STEM/TRACK.wav`` give track and stem; beside stems, ``mixture`` and ``accompaniment`` are
    left out. In a flat folder a file is a track of its own, unless it is named for a stem, such as ``song1_vocals.wav``
    beside ``song1_drums.wav``.

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
    if isinstance(estimates, (str, PathLike)):
        raise PairingError(f"estimates is {estimates!r}; expected a sequence of paths, such as [{estimates!r}].")
    return _pair(Path(reference), [Path(path) for path in estimates])


def _pair(reference: Path, estimates: Sequence[Path]) -> list[Pair]:
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
    folders = [folder for models in given for folder in models]
    sources = {folder: _sources(folder) for folder in folders}
    for folder, models in zip(estimates, given, strict=True):
        if not any(sources[model] for model in models):
            find_sources(folder)  # which says what it lacks
    return [
        found
        for folder, name in zip(folders, _model_names(folders), strict=True)
        for found in _pair_folder(reference, references, folder, sources[folder], name)
    ]


def _sources(folder: Path) -> list[Path]:
    try:
        return find_sources(folder)
    except PairingError:
        return []


def _require_different(given: Iterable[Sequence[Path]]) -> None:
    """Refuse what stands for itself in two arguments; links in one folder of models are models of their own."""
    counts = Counter(path for paths in given for path in {path.resolve() for path in paths})
    repeated = [str(path) for path, count in counts.items() if count > 1]
    if repeated:
        raise PairingError(f"{', '.join(repeated)} is given twice as an estimate. Give each once.")


def _models(root: Path, references: Sequence[Path], folder: Path) -> list[Path]:
    """Return the folder, or the folders in it if it is a folder of models."""
    children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    tracks = {folded(path.relative_to(root).parts[0]) for path in references}
    numbers = Numbers({path: path.relative_to(root) for path in references}, {})
    taken = {number for track in tracks for number in numbers.of(Path(track))}
    holds_audio = any(path.suffix.lower() in SUFFIXES for path in children if path.is_file())
    folders = [path for path in children if path.is_dir()]
    if (
        holds_audio
        or not folders
        or any(folded(path.name) in tracks or numbers.of(Path(path.name)) & taken for path in folders)
    ):
        return [folder]
    return folders


def _pair_folder(
    root: Path, references: Sequence[Path], folder: Path, estimates: Sequence[Path], model: str
) -> list[Pair]:
    left = {path: path.relative_to(root) for path in references}
    right = {path: path.relative_to(folder) for path in estimates}
    everything = left, right
    numbers = Numbers(*everything)
    tracks = tracks_of(left, numbers) | tracks_of(right, numbers)
    stems = {path: stem_of(below) for path, below in left.items()}
    partners: dict[Path, Path] = {}
    keys: list[tuple[Callable[[Path], Iterable[str]], Callable[[Path, Path], bool]]] = [
        (lambda path: [composed(path)], _always),
        (lambda path: [composed(path.with_suffix(""))], _always),
        (lambda path: [bare(path)], _always),
        (Beginnings(left.values()).of, _always),
        (numbers.of, numbers.same_part),
    ]
    for key, allowed in keys:
        matched = {a: b for a, b in _match(*everything, key, allowed).items() if a in left and b in right}
        partners |= matched
        left = {path: below for path, below in left.items() if path not in matched}
        taken = set(matched.values())
        right = {path: below for path, below in right.items() if path not in taken}
    rivals, same = (_by_key({below: below for below in side.values()}, numbers.of) for side in (right, left))
    pairs = [
        Pair(
            reference=reference,
            estimate=partners.get(reference),
            model=model,
            track=tracks[reference],
            stem=stems[reference],
            problem=None if reference in partners else _reason(left[reference], rivals, same, folder, numbers),
        )
        for reference in references
    ]
    return pairs + [
        Pair(
            reference=None,
            estimate=path,
            model=model,
            track=tracks[path],
            stem=stem_of(below),
            problem=_reason(below, same, rivals, root, numbers),
        )
        for path, below in right.items()
    ]


def _always(_: Path, __: Path) -> bool:
    return True


def _match(
    left: Mapping[Path, Path],
    right: Mapping[Path, Path],
    key: Callable[[Path], Iterable[str]],
    allowed: Callable[[Path, Path], bool],
) -> dict[Path, Path]:
    """Match the files that share a key no other file of either side has, unless their keys name different files."""
    one, other = (_by_key(side, key) for side in (left, right))
    links = {(one[k][0], other[k][0]) for k in one.keys() & other.keys() if len(one[k]) == len(other[k]) == 1}
    links = {(a, b) for a, b in links if allowed(left[a], right[b])}
    lefts, rights = Counter(a for a, _ in links), Counter(b for _, b in links)
    return {a: b for a, b in links if lefts[a] == rights[b] == 1}


def _by_key(files: Mapping[Path, Path], key: Callable[[Path], Iterable[str]]) -> dict[str, list[Path]]:
    """List the files that have each key, which goes by where they are below a folder."""
    table = defaultdict(list)
    for path, below in files.items():
        for name in key(below):
            table[name].append(path)
    return table


def _reason(
    below: Path, others: Mapping[str, Sequence[Path]], same: Mapping[str, Sequence[Path]], where: Path, numbers: Numbers
) -> str:
    """Say why a file has no partner in `where`."""
    own = numbers.of(below)
    rivals = _some(other for name in sorted(own) for other in others.get(name, ()) if numbers.same_part(below, other))
    if not rivals:
        unread = _unread(where / below)
        return f"no partner in {where}" + (f", where {unread} is of a kind that is not read" if unread else "")
    shared = _some(other for name in sorted(own) for other in same.get(name, ()) if other != below)
    return f"ambiguous: could belong to {', '.join(rivals)}" + (f", as could {', '.join(shared)}" if shared else "")


def _some(files: Iterable[Path]) -> list[str]:
    """Name four of the files at the most, each once."""
    return sorted(dict.fromkeys(path.as_posix() for path in islice(files, 4)))


def _unread(path: Path) -> str | None:
    """Name a file that differs from a path in its ending alone, and holds audio that is not read."""
    names = (path.stem + ending for ending in _UNREAD)
    return next((name for name in names if (path.parent / name).is_file()), None)


def _model_names(folders: Sequence[Path]) -> list[str]:
    """Name each folder by its last part, or by as many parts as tell the folders apart."""
    resolved = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100  (links keep their names)
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in resolved]
