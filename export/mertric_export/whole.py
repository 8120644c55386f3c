"""Whole clips on the CPU, which otherwise runs clips in stages: for checking what GPUs run where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mertric.choice import choose_device
from mertric.clips import Clips
from mertric.encoder import Encoder
from mertric.providers import FRAMES, FixedShapes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.embeddings import Embeddings
    from mertric.windows import Windows


def whole_clips(bundle: Bundle, precision: str) -> Clips:
    """Open the graphs of whole clips on the CPU, which with `Clips.fix` takes those for fixed shapes."""
    device = choose_device("cpu", precision)
    return Clips(bundle, device=replace(device, provider=replace(device.provider, fixed=FixedShapes())))


class WholeEncoder(Encoder):
    """An encoder that runs clips whole on the CPU, up to 30 s: longer ones take too much memory there.

    Takes and raises what `Encoder` does; a graph of whole clips that fails is an error.
    """

    def __init__(
        self, bundle: Path | str, *, provider: str = "cpu", precision: str = "fp32", attention: str | None = None
    ) -> None:
        super().__init__(bundle, provider=provider, precision=precision, attention=attention)
        self._whole = whole_clips(self.bundle, precision)

    def embed_samples(
        self,
        samples: NDArray[np.float32],
        *,
        layers: Sequence[int] | Literal["all"] | None = None,
        windows: Windows | None = None,
    ) -> Embeddings:
        """Compute hidden states of prepared samples, see `Encoder.embed_samples`."""
        if windows is not None or self.bundle.frames(samples.size) > FRAMES[2]:
            return super().embed_samples(samples, layers=layers, windows=windows)
        chosen = self.check_layers(layers)
        return self._embeddings(self._whole.states([samples], chosen)[0], chosen)
