"""Both stages of a model, which share their threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.errors import BundleError
from mertric.native.frontend import FrontEnd
from mertric.native.kinds import KINDS
from mertric.native.team import Team
from mertric.native.transformer import Transformer

if TYPE_CHECKING:
    from mertric.bundle import Bundle
    from mertric.device import Device


def open_stages(bundle: Bundle, *, device: Device, chunk: int | None) -> tuple[FrontEnd, Transformer]:
    """Read the weights of a bundle whose model is suited, see `mertric.native.suited`.

    Raises
    ------
    BundleError
        They are not there, or cannot be read.
    """
    team, kinds = Team(device.threads), KINDS[device.provider.name, device.precision]
    try:
        return (
            FrontEnd(bundle, device=device, chunk=chunk, kinds=kinds, team=team),
            Transformer(bundle, device=device, kinds=kinds, team=team),
        )
    except KeyError as error:
        problem = f"{bundle.path} has no weight {error} in {device.graphs}. Export the bundle again."
        raise BundleError(problem) from error
