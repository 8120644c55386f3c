"""Pairs of clips that precisions are compared on: made-up music, or a user's audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.audio_file import read_audio
from mertric.errors import AudioError, PairingError
from mertric.music import GRADES, compose, degrade
from mertric.pairing import pair
from mertric.protocol import get_protocol

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Clip = Path | NDArray[np.float64]

PROTOCOL = "paper"
LEAST_SECONDS = 0.1
"""Seconds of a clip below which there is little to compare."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """References and estimates.

    Attributes
    ----------
    description : str
        What the manifest calls it.
    clips : dict of str to path or float array [samples] at `mertric.music.SAMPLE_RATE`
        Each clip once, by its name.
    pairs : tuple of (str, str)
        Names of a reference and an estimate.
    """

    description: str
    clips: dict[str, Clip]
    pairs: tuple[tuple[str, str], ...]


def made_up_music(seed: int = 0) -> Material:
    """Degrade the lead voice of a made-up piece in every way and strength of `mertric.music.GRADES`."""
    lead, others = compose(seed)
    clips: dict[str, Clip] = {"lead": lead}
    for kind, strengths in GRADES.items():
        for grade, strength in enumerate(strengths, 1):
            clips[f"{kind}_{grade}"] = degrade(lead, others, kind, strength, np.random.default_rng([seed, grade]))
    pairs = tuple(("lead", name) for name in clips if name != "lead")
    return Material(description=f"made-up music, seed {seed}", clips=clips, pairs=pairs)


def read_material(references: Path, estimates: Path) -> Material:
    """Pair a user's files or folders, see `mertric.pairing.pair`, and check that every pair can be scored.

    Raises
    ------
    AudioError
        A file cannot be read or is too short, or the two of a pair differ in length.
    PairingError
        A path does not exist, or a file has no partner.
    """
    pairs = []
    for found in pair(references, [estimates]):
        if found.reference is None or found.estimate is None:
            raise PairingError(
                f"{found.reference or found.estimate} has {found.problem}; expected pairs only. Leave it out of the "
                "audio to verify with, or give its partner."
            )
        pairs.append((found.reference, found.estimate))
    clips = {str(path): path for one in pairs for path in one}
    lengths = {name: _seconds(path) for name, path in clips.items()}
    for reference, estimate in pairs:
        if lengths[str(reference)] != lengths[str(estimate)]:
            raise AudioError(
                f"{reference} has {lengths[str(reference)]:.6f} s and {estimate} {lengths[str(estimate)]:.6f} s; "
                "expected pairs of one length. Trim the longer, or leave the pair out."
            )
    return Material(
        description=f"{references} against {estimates}",
        clips=dict(clips),
        pairs=tuple((str(reference), str(estimate)) for reference, estimate in pairs),
    )


def _seconds(path: Path) -> float:
    """Decode a file, and return how many of its seconds are scored."""
    seconds = read_audio(path, max_seconds=get_protocol(PROTOCOL).max_seconds).seconds
    if seconds < LEAST_SECONDS:
        raise AudioError(f"{path} has {seconds:.3f} s; expected at least {LEAST_SECONDS} s to verify with.")
    return seconds
