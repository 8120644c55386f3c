"""Whether products on tiles work here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import ProviderError
from mertric.kernels.dense import dense_add, pack
from mertric.kernels.processor import request_tiles
from mertric.kernels.sizes import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONE = 0x3F80
"""1 in bfloat16."""


def square_unit_matrix() -> NDArray[np.float32]:
    """Multiply a unit matrix by itself, and return the first two rows and columns of the result.

    Raises
    ------
    ProviderError
        There are no tiles.
    """
    if problem := request_tiles():
        raise ProviderError(problem)
    rows = np.zeros((1, BLOCK * BLOCK), np.uint16)
    rows[0, :: BLOCK + 1] = _ONE
    packed = pack(np.eye(BLOCK, dtype=np.float32), 1)
    out = np.zeros((BLOCK, BLOCK), np.float32)
    bias = np.zeros(BLOCK, np.float32)
    dense_add(rows, 0, BLOCK, 1, 1, 1, packed, BLOCK, bias, False, out.reshape(-1), 0, BLOCK)
    return out[:2, :2]
