"""What the encoder returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
