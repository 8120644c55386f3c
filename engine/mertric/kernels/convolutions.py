"""Samples and features laid out as factors, so that convolutions are products of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.factors import store_lanes, store_number
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load
from mertric.kernels.sizes import SINGLES

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


@kernel()
def round_columns(features: NDArray[np.float32], column: int, width: int, rows: Array, before: int) -> None:
    """Write columns of features [frames, dim], `width` from `column` on, to rows from number `before` on.

    Both are multiples of `SINGLES`; `rows` is [pieces, rows * width].
    """
    for frame in range(len(features)):
        line, out = features[frame], (before + frame) * width // SINGLES
        for j in range(width // SINGLES):
            store_lanes(rows, out + j, load(line, column // SINGLES + j))
