"""Which models our kernels are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.kernels.sizes import BLOCK, SINGLES
from mertric.providers import PROVIDERS

if TYPE_CHECKING:
    from mertric.bundle import Bundle


NATIVE = " and ".join(name for name, provider in PROVIDERS.items() if provider.native)
"""The providers that are our own kernels."""


def unsuited(bundle: Bundle) -> str | None:
    """Say why a model cannot be computed by our kernels; None if it can."""
    if len(bundle.channels) < 2:
        return f"{bundle.model} has a single convolution, and {NATIVE} compute two and more"
    if bundle.convolution_norms:
        return f"{bundle.model} has a LayerNorm after each convolution, which {NATIVE} do not compute"
    sizes = {
        "channels of a convolution": (bundle.channels, BLOCK),
        "dimensions": ((bundle.dim,), BLOCK),
        "inner dimensions of the feed-forward": ((bundle.inner_dim,), BLOCK),
        "channels of a head": ((bundle.dim // bundle.heads,), BLOCK),
        "channels of a group of the positional convolution": ((bundle.dim // bundle.position_groups,), SINGLES),
    }
    for what, (found, multiple) in sizes.items():
        if wrong := [size for size in found if size % multiple]:
            return f"{bundle.model} has {wrong[0]} {what}, and {NATIVE} compute multiples of {multiple}"
    return None
