"""The two ways of preparing audio and embeddings: as the paper does, and without its roundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is done to audio before, and to embeddings after, the encoder.

    Attributes
    ----------
    name : str
        ``paper`` or ``float``.
    pcm16 : bool
        Round resampled audio to 16-bit PCM.
    float16 : bool
        Round embeddings to float16 before distances.
    max_seconds : float or None
        Cut longer input to this.
    """

    name: str
    pcm16: bool
    float16: bool
    max_seconds: float | None

    def prepare(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Round samples at the model's rate, float32 [samples], to the values that 16-bit PCM can hold."""
        if not self.pcm16:
            return samples
        with np.errstate(over="ignore"):  # what is too loud is cut off, however loud
            steps = np.rint(samples * np.float32(32768)).clip(-32768, 32767)
        return np.asarray(steps / np.float32(32768), np.float32)

    def finish(self, hidden: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.float16]:
        """Round hidden states for the distances."""
        with np.errstate(over="ignore"):  # who takes them refuses infinities
            return hidden.astype(np.float16) if self.float16 else hidden


PROTOCOLS = {
    "paper": Protocol(name="paper", pcm16=True, float16=True, max_seconds=360.0),
    "float": Protocol(name="float", pcm16=False, float16=False, max_seconds=None),
}


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in tuple(PROTOCOLS):
        raise InputError(f"protocol {name!r} is not known; expected one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
