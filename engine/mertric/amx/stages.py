"""Both stages of a model on tiles, which share their threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.amx.frontend import FrontEnd
from mertric.amx.suited import unsuited
from mertric.amx.team import Team
from mertric.amx.transformer import Transformer
from mertric.errors import ProviderError

if TYPE_CHECKING:
    from mertric.bundle import Bundle
    from mertric.device import Device


def open_stages(bundle: Bundle, *, device: Device, chunk: int | None) -> tuple[FrontEnd, Transformer]:
    """Read a bundle's weights.

    Raises
    ------
    BundleError
        They cannot be read.
    ProviderError
        The model is not for tiles.
    """
    if problem := unsuited(bundle):
        raise ProviderError(f"{problem}. Choose another provider.")
    team = Team(device.threads)
    return FrontEnd(bundle, device=device, chunk=chunk, team=team), Transformer(bundle, device=device, team=team)
