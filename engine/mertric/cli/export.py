"""`mertric export`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mertric.cli.options import PATH, table_options
from mertric.providers import COMPUTED

if TYPE_CHECKING:
    from mertric.bundle import Bundle

_COLUMNS = (
    *("provider", "precision", "emulated", "pairs", "max_error_over_rms", "relative_error"),
    *("mert_mse", "mert_fad", "bound"),
)


@click.command()
@click.argument("source")
@click.option("-o", "--output", type=PATH, help="The bundle's directory.  [default: a hub id's, the user's cache]")
@click.option(
    "--revision",
    help="Hub revision, for a bundle of its own, with -o.  [default: the pinned one, otherwise the latest]",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there, with all its precisions.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(COMPUTED),
    help="Export for this precision too, if the metrics stay close enough to fp32; can be given several times.",
)
@click.option(
    "--verify",
    nargs=2,
    type=PATH,
    metavar="REFERENCES ESTIMATES",
    help="Compare what is written, and every provider here, with fp32 on the CPU on these files or folders.  "
    "[default: --precision's, on made-up music]",
)
@click.option(
    "--tracer",
    type=click.Choice(["optimum"]),
    help="Trace PyTorch's own model to a plain ONNX file instead: to compare with, not a bundle. Needs PyTorch.",
)
@table_options
def command(
    source: str,
    output: Path | None,
    revision: str | None,
    force: bool,
    precisions: tuple[str, ...],
    verify: tuple[Path, Path] | None,
    tracer: str | None,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Convert a MERT checkpoint to a bundle, and check the bundle against it.

    SOURCE is a hub id such as m-a-p/MERT-v1-95M, or a directory with config.json, preprocessor_config.json and
    model.safetensors or pytorch_model.bin (whole or in shards). PyTorch is not needed.
    """
    from mertric.errors import InputError
    from mertric.loading import DEFAULT_MODEL, is_hub_id

    if tracer and (precisions or verify):
        raise InputError("--precision and --verify are for bundles; a traced model is no bundle. Leave --tracer out.")
    if (csv_path or json_path) and not ({*precisions} - {"fp32"} or verify):
        raise InputError("--csv and --json are for what --precision and --verify compare. Give one of these too.")
    if not Path(source).is_dir() and (Path(source).exists() or not is_hub_id(source)):
        raise InputError(
            f"{source} is neither a checkpoint's directory nor a hub id such as {DEFAULT_MODEL}. Check the path."
        )
    if tracer:
        _trace(source, output, revision, force)
        return
    bundle = _export(source, output, revision, force, precisions, verify)
    parity = max(bundle.parity["max_error_over_rms"].values())
    click.echo(
        f"{bundle.path}: {bundle.model}, {bundle.layers} layers of {bundle.dim} dimensions, license "
        f"{bundle.license}; hidden states within {parity:.1e} of their root mean square."
    )
    _report(bundle, csv_path, json_path)


def _notify(step: str) -> None:
    click.echo(step, err=True)


def _export(
    source: str,
    output: Path | None,
    revision: str | None,
    force: bool,
    precisions: tuple[str, ...],
    verify: tuple[Path, Path] | None,
) -> Bundle:
    from mertric.cache import bundle_directory
    from mertric.errors import DependencyError, InputError

    try:
        from mertric_export.export import Provenance, export_checkpoint
        from mertric_export.hub_export import export_model
        from mertric_export.material import read_material
        from mertric_export.output import only_writer
    except ImportError as error:
        raise DependencyError(f'exporting needs {error.name}. Run: pip install "mertric[export]"') from error

    material = read_material(*verify) if verify else None
    if not Path(source).is_dir():
        if revision is not None and output is None:
            raise InputError(
                "say with -o where the revision's bundle goes: the user's cache is for the pinned or latest one."
            )
        place = output or bundle_directory(source)
        with only_writer(place, notify=_notify) if output is None else nullcontext():  # as `load` may write there
            return export_model(
                source,
                place,
                revision=revision,
                precisions=precisions,
                material=material,
                force=force,
                notify=_notify,
            )
    if output is None:
        raise InputError("say with -o where the bundle goes.")
    if revision is not None:
        raise InputError(f"{source} is a directory; --revision is for hub ids.")
    return export_checkpoint(
        source,
        output,
        provenance=Provenance(model=Path(source).resolve().name),
        precisions=precisions,
        material=material,
        force=force,
        notify=_notify,
    )


def _report(bundle: Bundle, csv_path: Path | None, json_path: Path | None) -> None:
    """Print what was compared with fp32, and say plainly what is too far from it."""
    from mertric.report import report

    rows = bundle.parity["precisions"]
    if not rows:
        if csv_path or json_path:
            click.echo("Nothing here computes otherwise than in fp32 on the CPU: there is no comparison to write.")
        return
    title = "Compared with fp32 on the CPU: hidden states, and the largest change of a metric."
    report(rows, _COLUMNS, csv_path=csv_path, json_path=json_path, title=title)
    for row in rows:
        if row["problem"]:
            consequence = "Do not use it where that matters." if row["precision"] == "fp32" else "It is refused there."
            click.echo(f"{row['problem']}. {consequence}")


def _trace(source: str, output: Path | None, revision: str | None, force: bool) -> None:
    from mertric.errors import InputError
    from mertric_export.export import Provenance
    from mertric_export.tracer import trace_checkpoint, trace_model

    if output is None:
        raise InputError("say with -o where the traced model goes.")
    if not Path(source).is_dir():
        traced = trace_model(source, output, revision=revision, force=force, notify=_notify)
    elif revision is not None:
        raise InputError(f"{source} is a directory; --revision is for hub ids.")
    else:
        provenance = Provenance(model=Path(source).resolve().name)
        traced = trace_checkpoint(source, output, provenance=provenance, force=force, notify=_notify)
    click.echo(
        f"{traced.path}: {traced.model}, traced with optimum, license {traced.license}; hidden states within "
        f"{max(traced.parity.values()):.1e} of their root mean square. It is for comparison: not a bundle."
    )
