"""Both stages of a model on tiles, which share their threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.amx.frontend import FrontEnd
from mertric.amx.team import Team
from mertric.amx.transformer import Transformer
from mertric.errors import BundleError

if TYPE_CHECKING:
    from mertric.bundle import Bundle
    from mertric.device import Device

PIECES = {"bf16": 1, "bf16x3": 2, "fp32": 3}
"""Pieces of bfloat16 that numbers have in each precision."""


def open_stages(bundle: Bundle, *, device: Device, chunk: int | None) -> tuple[FrontEnd, Transformer]:
    """Read the weights of a bundle whose model is for tiles, see `mertric.amx.suited`.

    Raises
    ------
    BundleError
        They are not there, or cannot be read.
    """
    team, pieces = Team(device.threads), PIECES[device.precision]
    try:
        return (
            FrontEnd(bundle, device=device, chunk=chunk, pieces=pieces, team=team),
            Transformer(bundle, device=device, pieces=pieces, team=team),
        )
    except KeyError as error:
        problem = f"{bundle.path} has no weight {error} in {device.graphs}. Export the bundle again."
        raise BundleError(problem) from error
