"""From a hub id to a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mertric.bundle import MANIFEST, outdated_precisions
from mertric.errors import CheckpointError, ExportError
from mertric.providers import COMPUTED
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.hub import Fetched, fetch, to_stderr
from mertric_export.output import only_writer, require_free

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


def export_where_needed(model: str, output: Path, *, precision: str) -> None:
    """Export a model by its hub id where none stands at `output`, or one of an earlier format, then in what it had too.

    What it had is left out where this machine cannot export all of it, as of a bundle that another one made. Of several
    processes at once one does it, and the others wait for it.

    Raises
    ------
    CheckpointError, ConfigurationError, DependencyError, ExportError, InputError
        See `export_model`.
    """
    with only_writer(output, notify=to_stderr):
        outdated = outdated_precisions(output)
        if outdated or not (output / MANIFEST).is_file():
            precisions = [one for one in dict.fromkeys((*outdated, precision)) if one in COMPUTED]
            try:
                export_model(model, output, precisions=precisions, force=bool(outdated))
            except ExportError as error:
                if {*precisions} <= {"fp32", precision}:
                    raise
                to_stderr(f"{error} What is not asked for now is left out.")
                export_model(model, output, precisions=[precision], force=bool(outdated))


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
