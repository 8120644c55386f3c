"""Float32 to bfloat16 and back: the upper half of its bits, here a uint16."""

from __future__ import annotations

import numpy as np

from mertric.kernels.instructions import as_bits, as_single
from mertric.kernels.jit import kernel


@kernel()
def rounded(number: np.float32) -> np.uint16:
    """A finite number in bfloat16, to the nearest, of two equally near to the one farther from 0."""
    return np.uint16((as_bits(number) + np.uint32(0x8000)) >> np.uint32(16))


@kernel()
def widened(number: np.uint16) -> np.float32:
    """The value of a bfloat16."""
    return as_single(np.uint32(number) << np.uint32(16))  # type: ignore[no-any-return]
