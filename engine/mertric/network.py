"""A bundle at work: front end and transformer on one device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

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
        Frames per run of the front end.
    attention
        Which encoder graphs to run, see `Transformer`.

    Attributes
    ----------
    entry
        `FrontEnd.entry`.
    states
        `Transformer.states`.
    fix
        `Transformer.fix`.
    memory
        `Transformer.memory`.

    Raises
    ------
    BundleError
        A file is missing, truncated or changed, or the bundle has no graphs of the device's precision.
    """

    def __init__(self, bundle: Bundle, *, device: Device, chunk: int, attention: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            check = pool.submit(bundle.check_files, device.graphs)
            try:
                frontend = FrontEnd(bundle, device=device, chunk=chunk)
            finally:
                check.result()  # a damaged file is a better reason than what ONNX Runtime makes of it
        transformer = Transformer(bundle, device=device, attention=attention)
        self.entry = frontend.entry
        self.states, self.fix, self.memory = transformer.states, transformer.fix, transformer.memory
