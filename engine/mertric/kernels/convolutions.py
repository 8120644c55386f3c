"""Samples and features laid out in bfloat16, so that convolutions are products of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.kernels.bfloat16 import rounded
from mertric.kernels.jit import kernel
from mertric.kernels.lanes import load, store_rounded
from mertric.kernels.sizes import SINGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONE = 0x3F80
"""1 in bfloat16."""


@kernel()
def write_windows(
    high: NDArray[np.float32], low: NDArray[np.float32], start: int, stride: int, taps: int, windows: NDArray[np.uint16]
) -> None:
    """Write windows of a clip from sample `start` on, as `mertric.fold.FoldedClip.split` has them.

    Parameters
    ----------
    high, low : float32 [samples]
        The parts of a clip, which is followed by zeros.
    windows : uint16 [rows, columns]
        Gets `taps` samples of `high`, the same again, those of `low`, two ones, and zeros.
    """
    for row in range(windows.shape[0]):
        first = start + row * stride
        for tap in range(taps):
            upper = lower = np.uint16(0)
            if first + tap < high.size:
                upper, lower = rounded(high[first + tap]), rounded(low[first + tap])
            windows[row, tap] = upper
            windows[row, taps + tap] = upper
            windows[row, 2 * taps + tap] = lower
        windows[row, 3 * taps] = _ONE
        windows[row, 3 * taps + 1] = _ONE
        windows[row, 3 * taps + 2 :] = 0


@kernel()
def round_columns(features: NDArray[np.float32], column: int, rows: NDArray[np.uint16], before: int) -> None:
    """Write columns of features [frames, dim] in bfloat16, as many as `rows` [rows, width] has, from row `before` on.

    `column` is the first of them. It and `width` are multiples of `SINGLES`.
    """
    for frame in range(len(features)):
        line, out = features[frame], rows[before + frame]
        for j in range(rows.shape[1] // SINGLES):
            store_rounded(out, j, load(line, column // SINGLES + j))
