"""`mertric export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mertric.cli.options import PATH

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command()
@click.argument("source")
@click.option("-o", "--output", type=PATH, help="The bundle's directory.  [default: a hub id's, the user's cache]")
@click.option("--revision", help="Hub revision.  [default: the pinned one, otherwise the latest]")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option(
    "--tracer",
    type=click.Choice(["optimum"]),
    help="Trace PyTorch's own model to a plain ONNX file instead: to compare with, not a bundle. Needs PyTorch.",
)
def command(source: str, output: Path | None, revision: str | None, force: bool, tracer: str | None) -> None:
    """Convert a MERT checkpoint to a bundle, and check the bundle against it.

    SOURCE is a hub id such as m-a-p/MERT-v1-95M, or a directory with config.json, preprocessor_config.json and
    model.safetensors (whole or in shards) or pytorch_model.bin. PyTorch is not needed.
    """
    from mertric.cache import bundle_directory
    from mertric.errors import DependencyError, InputError

    try:
        from mertric_export.export import Provenance, export_checkpoint
        from mertric_export.hub_export import export_model
    except ImportError as error:
        raise DependencyError(f'exporting needs {error.name}. Run: pip install "mertric[export]"') from error

    def notify(step: str) -> None:
        click.echo(step, err=True)

    if tracer:
        _trace(source, output, revision, force, notify)
        return
    if Path(source).is_dir():
        if output is None:
            raise InputError("say with -o where the bundle goes.")
        if revision is not None:
            raise InputError(f"{source} is a directory; --revision is for hub ids.")
        provenance = Provenance(model=Path(source).resolve().name)
        bundle = export_checkpoint(source, output, provenance=provenance, force=force, notify=notify)
    else:
        output = output or bundle_directory(source)
        bundle = export_model(source, output, revision=revision, force=force, notify=notify)
    parity = max(bundle.parity["max_error_over_rms"].values())
    click.echo(
        f"{bundle.path}: {bundle.model}, {bundle.layers} layers of {bundle.dim} dimensions, license "
        f"{bundle.license}; hidden states within {parity:.1e} of their root mean square."
    )


def _trace(source: str, output: Path | None, revision: str | None, force: bool, notify: Callable[[str], None]) -> None:
    from mertric.errors import InputError
    from mertric_export.export import Provenance
    from mertric_export.tracer import trace_checkpoint, trace_model

    if output is None:
        raise InputError("say with -o where the traced model goes.")
    if not Path(source).is_dir():
        traced = trace_model(source, output, revision=revision, force=force, notify=notify)
    elif revision is not None:
        raise InputError(f"{source} is a directory; --revision is for hub ids.")
    else:
        provenance = Provenance(model=Path(source).resolve().name)
        traced = trace_checkpoint(source, output, provenance=provenance, force=force, notify=notify)
    click.echo(
        f"{traced.path}: {traced.model}, traced with optimum, license {traced.license}; hidden states within "
        f"{max(traced.parity.values()):.1e} of their root mean square. It is for comparison: not a bundle."
    )
