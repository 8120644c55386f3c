"""What factors of products are, in each precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mertric.kernels.factors import Factors

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kinds(NamedTuple):
    """Of factors.

    Attributes
    ----------
    first, most : Factors
        Of the first convolution, and of all other products but the positional one's, which are in float32.
    shared : bool
        Whether all threads share each step of a few rows, which pays where products take long.
    """

    first: Factors
    most: Factors
    shared: bool


def _pieces(count: int) -> Kinds:
    """Pieces of bfloat16.

    Of the first convolution two at least: a clip's folded weights are its own, and so would their roundings be
    (`FoldedClip.split`).
    """
    return Kinds(Factors(np.uint16, max(2, count)), Factors(np.uint16, count), shared=False)


_SINGLE = Factors(np.float32)
"""Also of int16's first convolution, whose weights are a clip's own."""

KINDS: Mapping[tuple[str, str], Kinds] = {
    ("amx", "bf16"): _pieces(1),
    ("amx", "bf16x3"): _pieces(2),
    ("amx", "fp32"): _pieces(3),
    ("avx512", "int16"): Kinds(_SINGLE, Factors(np.int16), shared=True),
    ("avx512", "fp32"): Kinds(_SINGLE, _SINGLE, shared=True),
}
"""By provider and precision."""
