"""Which estimate belongs to which reference. Nothing is guessed: what does not match is said."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mertric.audio import SUFFIXES
from mertric.errors import PairingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_IDENTIFIER = re.compile(r"[A-Za-z]+[_-]?\d+")


@dataclass(frozen=True)
class Pair:
    """A reference and an estimate of it.

    Attributes
    ----------
    reference, estimate : Path or None
        None where there is no partner; then `problem` says why.
    model : str or None
        The estimate folder's name, where estimates come from folders.
    problem : str or None
        Why the pair cannot be scored.
    """

    reference: Path | None
    estimate: Path | None
    model: str | None = None
    problem: str | None = None


def pair(reference: Path, estimates: Sequence[Path]) -> list[Pair]:
    """Pair a reference with estimates: a file with files, or a folder with folders.

    In folders, files pair by equal path below the folder, then by equal path without its ending, then by an
    identifier in the path, such as ``fileid_12``, that exactly one unpaired file of each side has.

    Parameters
    ----------
    reference
        A file or a folder.
    estimates
        As many as there are models; each of the reference's kind.

    Returns
    -------
    list of Pair
        In the order of the estimates given, then of the references' paths; those without a partner are among them.

    Raises
    ------
    PairingError
        A path does not exist, is of the other kind, is given twice, or a folder holds no audio.
    """
    for path in (reference, *estimates):
        if not path.exists():
            raise PairingError(f"{path} does not exist. Check the path.")
    repeated = [str(path) for path, count in Counter(path.resolve() for path in estimates).items() if count > 1]
    if repeated:
        raise PairingError(f"{', '.join(repeated)} is given twice as an estimate. Give each once.")
    if not reference.is_dir():
        folders = [str(path) for path in estimates if path.is_dir()]
        if folders:
            raise PairingError(
                f"{reference} is a file but {', '.join(folders)} is a folder; expected files with a file, or "
                "folders with a folder."
            )
        return [Pair(reference, estimate) for estimate in estimates]
    files = [str(path) for path in estimates if not path.is_dir()]
    if files:
        raise PairingError(f"{reference} is a folder but {', '.join(files)} is a file; expected folders with a folder.")
    references = find_audio(reference)
    return [
        pair
        for folder, model in zip(estimates, _model_names(estimates), strict=True)
        for pair in _pair_folder(reference, references, folder, model)
    ]


def find_audio(folder: Path) -> list[Path]:
    """List a folder's audio files at any depth, by their endings, sorted; hidden ones are left out.

    Raises
    ------
    PairingError
        There are none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise PairingError(f"{folder} holds no audio files; expected files that end in {', '.join(sorted(SUFFIXES))}.")
    return found


def identifiers(path: Path) -> set[str]:
    """Return the words with a number in a path, such as ``fileid_12``, in lower case."""
    return {match.lower() for match in _IDENTIFIER.findall(path.with_suffix("").as_posix())}


def _pair_folder(root: Path, references: Sequence[Path], folder: Path, model: str) -> list[Pair]:
    left = {path: path.relative_to(root) for path in references}
    right = {path: path.relative_to(folder) for path in find_audio(folder)}
    partners: dict[Path, Path] = {}
    keys: list[Callable[[Path], Iterable[str]]] = [
        lambda path: [path.as_posix()],
        lambda path: [path.with_suffix("").as_posix()],
        identifiers,
    ]
    for key in keys:
        matched = _match(left, right, key)
        partners |= matched
        left = {path: below for path, below in left.items() if path not in matched}
        right = {path: below for path, below in right.items() if path not in matched.values()}
    pairs = []
    for reference in references:
        if reference in partners:
            pairs.append(Pair(reference, partners[reference], model))
        else:
            pairs.append(Pair(reference, None, model, _reason(left[reference], right.values(), left.values(), folder)))
    pairs += [
        Pair(None, path, model, _reason(below, left.values(), right.values(), root)) for path, below in right.items()
    ]
    return pairs


def _match(left: dict[Path, Path], right: dict[Path, Path], key: Callable[[Path], Iterable[str]]) -> dict[Path, Path]:
    """Match the files that share a key no other file has, unless their keys point to different files."""
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
    counts = Counter(path for link in links for path in link)
    return {a: b for a, b in links if counts[a] == counts[b] == 1}


def _reason(below: Path, others: Iterable[Path], same: Iterable[Path], where: Path) -> str:
    """Say why a file has no partner in `where`."""
    own = identifiers(below)
    rivals = [other.as_posix() for other in others if own & identifiers(other)]
    if not rivals:
        return f"no partner in {where}"
    shared = [other.as_posix() for other in same if own & identifiers(other) and other != below]
    return f"ambiguous: could belong to {', '.join(sorted(rivals)[:4])}" + (
        f", as could {', '.join(sorted(shared)[:4])}" if shared else ""
    )


def _model_names(folders: Sequence[Path]) -> list[str]:
    """Name each folder by its last part, or by as many parts as tell the folders apart."""
    resolved = [folder.resolve() for folder in folders]
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in resolved]
