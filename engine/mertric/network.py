"""A bundle at work on one device: clips of any lengths to hidden states, whole or in stages."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from mertric.bundle import PORTABLE
from mertric.clips import Clips
from mertric.errors import ProviderError
from mertric.frontend import FrontEnd
from mertric.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        A file is missing, truncated or changed, or the bundle was not exported in the device's precision, or not for
        its provider.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int | None, attention: str | None) -> None:
        bundle.require(device.precision, device.provider.name)
        self._bundle, self._device, self._chunk = bundle, device, chunk
        self._attention = attention or device.provider.attention
        self._most = device.provider.clips if attention is None and chunk is None else 0
        self._clips = Clips(bundle, device=device) if self._most else None
        self._opened: _FrontEnd | None = None
        self._lock = threading.Lock()
        with ThreadPoolExecutor(1) as pool:
            check = pool.submit(bundle.check_files, device.graphs)
            try:
                self._transformer = self._open()
            finally:
                check.result()  # a damaged file is a better reason than what comes of it

    def embed(self, clips: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Run clips [samples] of any lengths: for each float32 [layers, frames, dim], what it would give alone."""
        found: dict[int, NDArray[np.float32]] = {}
        if self._clips is not None:
            lengths: dict[int, list[int]] = {}
            for index, clip in enumerate(clips):
                lengths.setdefault(self._bundle.frames(clip.size), []).append(index)
            for frames, indices in lengths.items():
                found |= self._embed_whole(self._clips, {index: clips[index] for index in indices}, frames, layers)
        rest = [index for index in range(len(clips)) if index not in found]
        if rest:
            found |= zip(rest, self.states([self.entry(clips[index]) for index in rest], layers), strict=True)
        return [found[index] for index in range(len(clips))]

    def _embed_whole(
        self, whole: Clips, clips: dict[int, NDArray[np.float32]], frames: int, layers: tuple[int, ...]
    ) -> dict[int, NDArray[np.float32]]:
        """Run clips of one length whole, as many at once as there is room for; those for which there is none are left.

        Where memory runs out, half as much is tried from then on, and a clip that is too long alone is left to stages.
        """
        found: dict[int, NDArray[np.float32]] = {}
        waiting = list(clips)
        while waiting and (together := self._room(frames)):
            part = waiting[:together]
            try:
                found |= zip(part, whole.states([clips[index] for index in part], layers), strict=True)
            except ProviderError as error:
                with self._lock:
                    self._most = min(self._most, len(part) // 2 * frames if len(part) > 1 else frames - 1)
                if not self._room(frames):
                    whole.close()
                    warnings.warn(f"clips of {frames} frames and more run in stages: {error}", stacklevel=4)
            else:
                del waiting[:together]
        return found

    def _room(self, frames: int) -> int:
        """Clips of so many frames that run whole at once."""
        return self._most // max(frames, 1)

    def alike(self, sizes: Sequence[int]) -> bool:
        """Whether clips of so many samples run together, and what is padded for that costs little."""
        if len({self._bundle.frames(size) for size in sizes}) == 1:
            return True
        if self._device.provider.ragged:
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
        if self._clips is not None and (room := self._room(frames)):
            return self._clips.memory(min(clips, room), frames, layers)
        return self._frontend().memory(frames) + self._transformer.memory(clips, frames, layers)

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Open sessions for batches of just so many clips and frames, where the provider gains from them.

        They have their own copy of the weights in memory. Where the provider cannot, a warning says so, and all runs
        as it would without them.
        """
        try:
            if self._clips is not None and (room := self._room(frames)):
                self._clips.fix(min(clips, room), frames, layers)
            else:
                self._transformer.fix(clips, frames, layers)
                self._frontend().fix(frames)
        except ProviderError as error:
            warnings.warn(f"no session for {clips} clips of {frames} frames: {error}", stacklevel=3)

    def _open(self) -> _Transformer:
        """Open the transformer and, where clips do not run whole, the front end."""
        if self._device.provider.native:
            from mertric.native.stages import open_stages  # with Numba, which takes long to load

            self._opened, transformer = open_stages(self._bundle, device=self._device, chunk=self._chunk)
            return transformer
        if self._clips is None:
            self._frontend()
        return Transformer(self._bundle, device=self._device, attention=self._attention)

    def _frontend(self) -> _FrontEnd:
        with self._lock:
            if self._opened is None:
                self._opened = FrontEnd(self._bundle, device=self._device, chunk=self._chunk, attention=self._attention)
            return self._opened


class _FrontEnd(Protocol):
    """From samples to what enters the first layer, see `FrontEnd`."""

    def entry(self, samples: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def fix(self, frames: int) -> None: ...

    def memory(self, frames: int) -> int: ...


class _Transformer(Protocol):
    """From there to hidden states, see `Transformer`."""

    def states(self, entries: Sequence[NDArray[np.float32]], layers: tuple[int, ...]) -> list[NDArray[np.float32]]: ...

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None: ...

    def memory(self, clips: int, frames: int, layers: int) -> int: ...
