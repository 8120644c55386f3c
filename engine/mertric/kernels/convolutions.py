"""Samples laid out as factors, so that the first convolution is a product of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.factors import store_number
from mertric.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric.kernels.factors import Array


@kernel()
def write_windows(
    samples: NDArray[np.float32], start: int, stride: int, taps: int, columns: int, windows: Array
) -> None:
    """Write windows of a clip from sample `start` on, with ones for the biases.

    Parameters
    ----------
    samples : float32 [samples]
        A clip, which is followed by zeros.
    windows
        Each row gets `taps` samples, a one, and zeros.
    """
    for row in range(windows.shape[1] // columns):
        line, first = row * columns, start + row * stride
        for tap in range(taps):
            inside = first + tap < samples.size
            store_number(windows, line + tap, samples[first + tap] if inside else np.float32(0))
        store_number(windows, line + taps, np.float32(1))
        for piece in range(windows.shape[0]):
            windows[piece, line + taps + 1 : line + columns] = 0
