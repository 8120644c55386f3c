"""Published listening tests as they are unpacked: which files are references, models' estimates and ratings."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mertric.errors import MertricError, PairingError
from mertric.files import find_sources
from mertric.listening.ratings import detect_format
from mertric.listening.tables import read_table
from mertric.pairing import pair

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mertric.pairing import Pair

OTHERS = re.compile(r"(noisy_)?mix(tures?)?|interferences?|accompaniment|bass|drums|other|vocals", re.IGNORECASE)
"""Names of folders that hold neither references nor a model's estimates."""
REFERENCES = re.compile(r"(?:reference|target|ground.?truth|musdb|clean).*|test|.*_test(_.*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published listening test.

    Attributes
    ----------
    name : str
        What `mertric study` calls it, and the ratings' format.
    depth : int
        Folders between a collection's folder and its files: 0 for flat ones, 1 for ``TRACK/STEM.wav``.
    by : str
        The column that the paper splits its table by.
    metrics : tuple of str
        Those of the paper's table.
    """

    name: str
    depth: int
    by: str
    metrics: tuple[str, ...]


_COMMON = ("mert_mse", "mert_fad", "sdr", "si_sdr")
STUDIES: Mapping[str, Study] = {
    "gensvs": Study(name="gensvs", depth=0, by="model_type", metrics=(*_COMMON, "spectrogram_mse", "waveform_mse")),
    "bakeoff": Study(
        name="bakeoff",
        depth=1,
        by="stem",
        metrics=(*_COMMON, "si_sir", "si_sar", "spectrogram_mse", "waveform_mse"),
    ),
}
"""Bereuter & Sontacchi (DAGA 2026), tables 1 and 2."""


def find_pairs(study: Study, directory: Path, *, references: Path | None, estimates: Path | None) -> list[Pair]:
    """Pair what an unpacked data set holds.

    A collection is a folder of audio files, or of track folders. One collection is the references, by its name
    or as given; those that hold mixtures or one of their parts by name are left out, and every other one is a
    model.

    Parameters
    ----------
    directory
        Where the data are.
    references, estimates
        Where the references and the folder of model folders are, if not to be found by name in `directory`.

    Raises
    ------
    PairingError
        There is no collection, or not exactly one of references.
    """
    for path in (directory, references, estimates):
        if path is not None and not path.is_dir():
            raise PairingError(f"{path} is not a folder; expected the unpacked data of {study.name}.")
    models = _collections(estimates or directory, study.depth)
    if references is None:
        found = [path for path in _collections(directory, study.depth) if REFERENCES.fullmatch(path.name)]
        if len(found) != 1:
            named = ", ".join(map(str, found)) or "none by name"
            raise PairingError(
                f"expected one folder of references in {directory}, got {named}. Say which with --references, "
                "and with --estimates where its models are."
            )
        references = found[0]
    resolved = references.resolve()
    chosen = [
        path
        for path in models
        if path.resolve() != resolved
        and resolved not in path.resolve().parents
        and not OTHERS.fullmatch(path.name)
        and not REFERENCES.fullmatch(path.name)
    ]
    if not chosen:
        raise PairingError(
            f"{estimates or directory} holds no folders of estimates; expected "
            f"MODEL/{'TRACK/' * study.depth}FILE.wav. Say where they are with --estimates."
        )
    return pair(references, chosen)


def find_ratings(study: Study, directory: Path) -> Path:
    """Return the CSV file in an unpacked data set that holds the study's ratings.

    Raises
    ------
    PairingError
        There is none, or there are several.
    """
    found = [path for path in sorted(directory.rglob("*.csv")) if _is_ratings(path, study.name)]
    if len(found) != 1:
        named = ", ".join(map(str, found)) or "none"
        raise PairingError(
            f"expected one CSV file with the ratings of {study.name} in {directory}, got {named}. "
            "Say which with --ratings."
        )
    return found[0]


def _is_ratings(path: Path, name: str) -> bool:
    try:
        return detect_format(read_table(path)) == name
    except MertricError:
        return False


def _collections(directory: Path, depth: int) -> list[Path]:
    """Find the folders in a directory with audio `depth` + 1 levels down; of two in one another, the fuller one."""
    counts = Counter(file.parents[depth] for file in find_sources(directory))
    found = {path: count for path, count in counts.items() if directory in path.parents}
    inside = {path: sum(found[other] for other in found if path in other.parents) for path in found}
    fuller = [path for path in found if found[path] >= inside[path]]
    return sorted(path for path in fuller if not any(outer in path.parents for outer in fuller))
