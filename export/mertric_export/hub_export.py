"""From a hub id to a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mertric.bundle import MANIFEST
from mertric.errors import CheckpointError
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.hub import Fetched, fetch
from mertric_export.output import require_free

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mertric.bundle import Bundle
    from mertric_export.material import Material


def export_model(
    model: str,
    output: Path,
    *,
    revision: str | None = None,
    precisions: Sequence[str] = (),
    material: Material | None = None,
    force: bool = False,
    notify: Callable[[str], None] | None = None,
) -> Bundle:
    """Fetch a checkpoint by its hub id and convert it.

    A bundle that stands at `output` from an earlier export of the same model and revision says which SHA-256
    the weights must have.

    Parameters
    ----------
    model
        Hub id.
    output, precisions, material, force, notify
        See `export_checkpoint`.
    revision
        Hub revision; by default the pinned one, see `fetch`.

    Raises
    ------
    CheckpointError, ConfigurationError, DependencyError, ExportError, InputError
        See `fetch` and `export_checkpoint`.
    """
    require_free(output, manifest=MANIFEST, force=force)
    fetched = fetch(model, revision=revision, notify=notify)
    _compare_with_earlier(fetched, output)
    return export_checkpoint(
        fetched.directory,
        output,
        provenance=Provenance(model=model, revision=fetched.revision, license=fetched.license),
        weights=fetched.weights,
        precisions=precisions,
        material=material,
        force=force,
        notify=notify or (lambda _: None),
    )


def _compare_with_earlier(fetched: Fetched, output: Path) -> None:
    if not (output / MANIFEST).is_file():
        return
    try:  # of whatever format it is
        earlier = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
        model, revision, sha256 = (earlier[name] for name in ("model", "revision", "weights_sha256"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged: it holds nothing to compare with
        return
    if (model, revision) == (fetched.model_id, fetched.revision) and sha256 != fetched.sha256:
        raise CheckpointError(
            f"the weights of {fetched.model_id} at {fetched.revision} have SHA-256 {fetched.sha256}; when {output} "
            f"was exported they had {sha256}. Find out why before you use them; to accept them, delete {output}."
        )
