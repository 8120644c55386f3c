"""Whether products work here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import ProviderError
from mertric.kernels.dense import dense_add, pack
from mertric.kernels.norm import round_rows
from mertric.kernels.processor import request_tiles, why_no_vectors
from mertric.kernels.sizes import BLOCK
from mertric.native.kinds import KINDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBLEMS = {"amx": request_tiles, "avx512": why_no_vectors}
"""What says why a provider's instructions cannot be used."""


def square_unit_matrix(provider: str) -> NDArray[np.float32]:
    """Multiply a unit matrix by itself in a provider's fp32, and return the first two rows and columns of the result.

    Raises
    ------
    ProviderError
        The processor, or Linux, has not what the provider needs.
    """
    if problem := PROBLEMS[provider]():
        raise ProviderError(problem)
    kind, unit = KINDS[provider, "fp32"].most, np.eye(BLOCK, dtype=np.float32)
    rows, out, bias = kind.empty(BLOCK * BLOCK), np.zeros((BLOCK, BLOCK), np.float32), np.zeros(BLOCK, np.float32)
    round_rows(unit, rows, 0, BLOCK)
    dense_add(rows, 0, BLOCK, 1, 1, BLOCK, pack(unit, kind), 0, BLOCK, bias, False, out.reshape(-1), 0, BLOCK)
    return out[:2, :2]
