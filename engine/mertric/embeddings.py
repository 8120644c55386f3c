"""What the encoder returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 17
"""Numbers that are looked at together."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Hidden states of one clip.

    Attributes
    ----------
    hidden : float32 [layers, frames, dim]
    layers : tuple of int
        Which hidden state each of `hidden` is.
    times : float64 [frames]
        Seconds; the middle of what each frame's convolutions see.
    """

    hidden: NDArray[np.float32]
    layers: tuple[int, ...]
    times: NDArray[np.float64]


def all_finite(states: NDArray[np.float32]) -> bool:
    """Whether no number is infinite or not one; in blocks, as new pages for all answers take longer than to look."""
    flat = states.reshape(-1)
    answers = np.empty(min(flat.size, _BLOCK), np.bool_)
    blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    return all(np.isfinite(block, out=answers[: block.size]).all() for block in blocks)
