"""A bundle at work: front end and transformer on one device."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mertric.errors import ProviderError
from mertric.frontend import FrontEnd
from mertric.transformer import Transformer

if TYPE_CHECKING:
    from mertric.bundle import Bundle
    from mertric.device import Device


class Network:
    """A bundle's graphs, ready to run. Safe to use from several threads.

    Parameters
    ----------
    bundle
        Its files are checked while they are loaded.
    device
        Where it runs.
    chunk
        Frames per run of the front end and of the positional convolution; None for the provider's own.
    attention
        Which encoder graphs to run, see `Transformer`.

    Attributes
    ----------
    entry
        `FrontEnd.entry`.
    states
        `Transformer.states`.

    Raises
    ------
    BundleError
        A file is missing, truncated or changed, or the bundle was not exported in the device's precision.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int | None, attention: str) -> None:
        bundle.require(device.precision)
        with ThreadPoolExecutor(1) as pool:
            check = pool.submit(bundle.check_files, device.graphs)
            try:
                frontend = FrontEnd(bundle, device=device, chunk=chunk, attention=attention)
            finally:
                check.result()  # a damaged file is a better reason than what ONNX Runtime makes of it
        transformer = Transformer(bundle, device=device, attention=attention)
        self.entry = frontend.entry
        self.states = transformer.states
        self._frontend, self._transformer = frontend, transformer

    def memory(self, clips: int, frames: int, layers: int) -> int:
        """Return about how many bytes the activations of a batch take, the longest clip having so many frames.

        The front end takes clip after clip, and keeps what it took.
        """
        return self._frontend.memory(frames) + self._transformer.memory(clips, frames, layers)

    def fix(self, clips: int, frames: int, layers: tuple[int, ...]) -> None:
        """Open sessions for batches of just so many clips and frames, where the provider gains from them.

        They have their own copy of the weights in memory. Where the provider cannot, a warning says so, and all runs
        as it would without them.
        """
        try:
            self._transformer.fix(clips, frames, layers)
            self._frontend.fix(frames)
        except ProviderError as error:
            warnings.warn(f"no session for {clips} clips of {frames} frames: {error}", stacklevel=3)
