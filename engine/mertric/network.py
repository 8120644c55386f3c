"""A bundle at work on one device: clips of any lengths to hidden states, whole or in stages."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mertric.bundle import PORTABLE
from mertric.clips import Clips
from mertric.errors import ProviderError
from mertric.frontend import FrontEnd
from mertric.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.device import Device

_LEAST_SHARE = 0.9
"""Length of a batch's shortest clip, over its longest: what is padded is computed for nothing."""


class Network:
    """A bundle's graphs, ready to run. Safe to use from several threads.

    Where the provider gains from it, clips run whole (`Clips`), if they are short enough. Otherwise, and for what looks
    between the stages, the front end and the transformer run one after the other.

    Parameters
    ----------
    bundle
        Its files are checked while they are loaded.
    device
        Where it runs.
    chunk
        Frames per run of the front end and of the positional convolution, and always in stages; None for what the
        provider runs best.
    attention
        Which encoder graphs to run, see `Transformer`, and always in stages; None for what the provider runs best.

    Raises
    ------
    BundleError
        A file is missing, truncated or changed, or the bundle was not exported in the device's precision.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int | None, attention: str | None) -> None:
        bundle.require(device.precision)
        self._bundle, self._device, self._chunk = bundle, device, chunk
        self._attention = attention or device.provider.attention
        self._most = device.provider.clips if attention is None and chunk is None else 0
        self._clips = Clips(bundle, device=device)
        self._transformer = Transformer(bundle, device=device, attention=self._attention)
        self._opened: FrontEnd | None = None
        self._lock = threading.Lock()
        with ThreadPoolExecutor(1) as pool:
            check = pool.submit(bundle.check_files, device.graphs)
            try:
                if not self._most:
                    self._frontend()
            finally:
                check.result()  # a damaged file is a better reason than what ONNX Runtime makes of it

    def embed(self, clips: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run clips [samples] of any lengths: for each float32 [layers, frames, dim], what it would give alone."""
        found: dict[int, NDArray[np.float32]] = {}
        for part in self._parts(clips):
            found |= zip(part, self._together([clips[index] for index in part], layers), strict=True)
        rest = [index for index in range(len(clips)) if index not in found]
        found |= zip(rest, self._staged([clips[index] for index in rest], layers), strict=True)
        return [found[index] for index in range(len(clips))]

    def _parts(self, clips: Sequence[NDArray[np.float32]]) -> Iterator[list[int]]:
        """Find the clips to run whole: by their indices, those that run together."""
        lengths: dict[int, list[int]] = {}
        for index, clip in enumerate(clips):
            lengths.setdefault(self._bundle.frames(clip.size), []).append(index)
        for frames, indices in lengths.items():
            if most := self._most // frames:
                yield from (indices[start : start + most] for start in range(0, len(indices), most))

    def _together(self, clips: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run clips of one length whole; where memory runs out, half of them at a time, and one alone in stages."""
        try:
            return self._clips.states(clips, layers)
        except ProviderError as error:
            if len(clips) > 1:
                half = len(clips) // 2
                return [*self._together(clips[:half], layers), *self._together(clips[half:], layers)]
            warnings.warn(f"clips of {clips[0].size} samples run in stages: {error}", stacklevel=4)
            return self._staged(clips, layers)

    def _staged(self, clips: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        return self.states([self.entry(clip) for clip in clips], layers) if clips else []

    def alike(self, sizes: Sequence[int]) -> bool:
        """Whether clips of so many samples run together, and what is padded for that costs little."""
        if len({self._bundle.frames(size) for size in sizes}) == 1:
            return True
        return self._attention in PORTABLE and min(sizes) >= _LEAST_SHARE * max(sizes)

    def entry(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the front end on a clip, see `FrontEnd.entry`."""
        return self._frontend().entry(samples)

    def states(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run the layers over what `entry` gave, see `Transformer.states`."""
        return self._transformer.states(entries, layers)

    def memory(self, clips: int, frames: int, layers: int) -> int:
        """Return about how many bytes the activations of a batch take, the longest clip having so many frames.

        In stages, the front end takes clip after clip, and keeps what it took.
        """
        together = min(clips, self._most // frames)
        if together:
            return self._clips.memory(together, frames, layers)
        return self._frontend().memory(frames) + self._transformer.memory(clips, frames, layers)

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Open sessions for batches of just so many clips and frames, where the provider gains from them.

        They have their own copy of the weights in memory. Where the provider cannot, a warning says so, and all runs
        as it would without them.
        """
        try:
            if clips * frames <= self._most:
                self._clips.fix(clips, frames, layers)
            else:
                self._transformer.fix(clips, frames, layers)
                self._frontend().fix(frames)
        except ProviderError as error:
            warnings.warn(f"no session for {clips} clips of {frames} frames: {error}", stacklevel=3)

    def _frontend(self) -> FrontEnd:
        with self._lock:
            if self._opened is None:
                self._opened = FrontEnd(self._bundle, device=self._device, chunk=self._chunk, attention=self._attention)
            return self._opened
