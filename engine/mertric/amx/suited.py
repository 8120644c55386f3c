"""Which models tiles are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.kernels.sizes import BLOCK, SINGLES

if TYPE_CHECKING:
    from mertric.bundle import Bundle


def unsuited(bundle: Bundle) -> str | None:
    """Say why a model cannot be computed on tiles; None if it can."""
    if len(bundle.channels) < 2:
        return f"{bundle.model} has a single convolution, and amx computes two and more"
    if bundle.convolution_norms:
        return f"{bundle.model} has a LayerNorm after each convolution, which amx does not compute"
    sizes = {
        "channels of a convolution": (bundle.channels, BLOCK),
        "dimensions": ((bundle.dim,), BLOCK),
        "inner dimensions of the feed-forward": ((bundle.inner_dim,), BLOCK),
        "channels of a head": ((bundle.dim // bundle.heads,), BLOCK),
        "channels of a group of the positional convolution": ((bundle.dim // bundle.position_groups,), SINGLES),
    }
    for what, (found, multiple) in sizes.items():
        if wrong := [size for size in found if size % multiple]:
            return f"{bundle.model} has {wrong[0]} {what}, and amx computes multiples of {multiple}"
    return None
