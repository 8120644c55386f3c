"""Options and behaviour that several commands share."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mertric.files import SUFFIXES
from mertric.output import STANDARD_OUTPUT, is_stream, spelling
from mertric.scheduler import MEMORY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mertric.windows import Windows

_F = TypeVar("_F", bound="Callable[..., Any]")


class InputPath(click.Path):
    """A file or a folder that is read, or a folder that is written to: no file that another option writes.

    Nothing, which a variable of a shell may hold by mistake, is not taken for the current folder.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if str(value) == "":
            self.fail("the name is empty; expected a file or a folder, such as '.' for this one.", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if other := _taken(ctx, _WRITTEN).get(_identity(path)):
            self.fail(f"{path} is what {other} writes. Name another file there.", param, ctx)
        _taken(ctx, _READ)[_identity(path)] = _name(param)
        return path


class OutputFolder(InputPath):
    """A folder to write to: refused before any work where it cannot be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        if reason := _unwritable(path.absolute()):
            self.fail(f"{path} cannot be written to: {reason}.", param, ctx)
        return path


class OutputFile(click.Path):
    """A file to write: refused before any work where it cannot be, or is read, or is written by another option too.

    Audio is refused too, as it may be part of a folder that is read. ``-`` is the standard output, which then is the
    file's alone: what a command prints goes to standard error.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(value) == "-":
            if not STANDARD_OUTPUT.exists():
                self.fail("'-' stands for no stream on this system; name a file.", param, ctx)
            path = STANDARD_OUTPUT
        if path == STANDARD_OUTPUT and ctx is not None:
            if other := _taken(ctx, _WRITTEN).get(STANDARD_OUTPUT):
                self.fail(f"{path} is what {other} writes too. Name another file.", param, ctx)
            _taken(ctx, _WRITTEN)[STANDARD_OUTPUT] = _name(param)
            ctx.with_resource(redirect_stdout(sys.stderr))
        if path.is_dir():  # as '' is
            self.fail(f"{str(value)!r} is a folder; expected a file to write.", param, ctx)
        if is_stream(path) or (path.exists() and not path.is_file()):
            return path
        if reason := _unwritable(path.absolute().parent):
            self.fail(f"{path} cannot be written: {reason}.", param, ctx)
        if path.suffix.lower() in SUFFIXES:
            self.fail(f"{path} has the name of an audio file; expected one for text.", param, ctx)
        if other := _taken(ctx, _READ).get(_identity(path)):
            self.fail(f"{path} is taken by {other}. Name another file.", param, ctx)
        if (other := _taken(ctx, _WRITTEN).setdefault(_identity(path), _name(param))) != _name(param):
            self.fail(f"{path} is what {other} writes too. Name another file.", param, ctx)
        return path


_OVERLAP = 0.5
_READ, _WRITTEN = "mertric.read", "mertric.written"


def _unwritable(folder: Path) -> str | None:
    """Say why no files could be made in a folder that may not be there yet; None if they could."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is None:
        return f"there is no {folder.anchor}"
    return None if there.is_dir() and os.access(there, os.W_OK) else f"{there} is no folder that takes new files"


def _identity(path: Path) -> object:
    """Return what is equal for paths of one file, whatever they are called, and whether it is there yet or not."""
    try:
        status = path.stat()
    except OSError:
        return spelling(Path(os.path.realpath(path)))
    return status.st_dev, status.st_ino


def _taken(ctx: click.Context | None, use: str) -> dict[object, str]:
    """Return what a call has named for a use, by `_identity`, and the parameters that name it."""
    taken: dict[object, str] = {} if ctx is None else ctx.meta.setdefault(use, {})
    return taken


def _name(param: click.Parameter | None) -> str:
    return "" if param is None else param.opts[0]


PATH = InputPath()
FOLDER = OutputFolder()
FILE = OutputFile()


def model_options(function: _F) -> _F:
    """Add the options that choose a model and how it runs."""
    for option in (
        click.option("--threads", type=click.IntRange(min=1), help="Threads for inference.  [default: one a core]"),
        click.option(
            "--precision",
            default="fp32",
            show_default=True,
            help="fp32, or what the model was exported in: fp16, bf16, bf16x3, int16, int8.",
        ),
        click.option(
            "--provider",
            default="auto",
            show_default=True,
            help="auto, or what to run on: cuda, tensorrt, amx, avx512, openvino, cpu.",
        ),
        click.option(
            "--model",
            default="m-a-p/MERT-v1-95M",
            show_default=True,
            help="A bundle's directory, or a hub id; a hub id's weights are fetched and converted at first use.",
        ),
    ):
        function = option(function)
    return function


def protocol_option(function: _F) -> _F:
    """Add `--protocol`."""
    return click.option(
        "--protocol",
        type=click.Choice(["paper", "float"]),
        default="paper",
        show_default=True,
        help="paper: 16-bit audio, float16 embeddings, 6 minutes at most. float: none of these.",
    )(function)


def window_options(function: _F) -> _F:
    """Add `--window` and `--overlap`."""
    function = click.option(
        "--overlap",
        type=click.FloatRange(0, 1, max_open=True),
        help=f"Share of a window that the next one sees too.  [default: {_OVERLAP}]",
    )(function)
    return click.option(
        "--window",
        type=float,
        metavar="SECONDS",
        help="Attend within windows only: an approximation, for long audio.  [default: exact]",
    )(function)


def memory_option(function: _F) -> _F:
    """Add `--batch-memory`, given in MiB and passed on in bytes."""
    return click.option(
        "--batch-memory",
        "memory",
        type=click.IntRange(min=1),
        default=MEMORY_BYTES >> 20,
        show_default=True,
        metavar="MIB",
        callback=lambda _, __, value: value << 20,
        help="Memory for batches of clips, beside the model's.",
    )(function)


def make_windows(window: float | None, overlap: float | None) -> Windows | None:
    """Return what `--window` and `--overlap` ask for, and say that it is an approximation."""
    from mertric.windows import Windows

    if window is None:
        if overlap is not None:
            raise click.UsageError("--overlap is of windows, of which none were asked for; give --window too.")
        return None
    windows = Windows(seconds=window, overlap=_OVERLAP if overlap is None else overlap)
    click.echo(f"Attention is limited to windows of {window:g} s: an approximation.", err=True)
    return windows


def table_options(function: _F) -> _F:
    """Add `--csv` and `--json`."""
    function = click.option(
        "--json", "json_path", type=FILE, help="Write the rows to a JSON file; - is standard output."
    )(function)
    return click.option("--csv", "csv_path", type=FILE, help="Write the rows to a CSV file; - is standard output.")(
        function
    )


def bootstrap_options(function: _F) -> _F:
    """Add `--bootstrap` and `--seed`."""
    function = click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap."
    )(function)
    return click.option(
        "--bootstrap",
        type=click.IntRange(min=0),
        default=2000,
        show_default=True,
        metavar="N",
        help="Resamples of tracks, for intervals of 95 %.",
    )(function)


def layers_option(help_text: str) -> Callable[[_F], _F]:
    """Add `--layer`, also called `--layers`: numbers joined by commas, or ``all``; None where it is not given."""
    return click.option("--layer", "--layers", "layers", callback=_parse_layers, metavar="N[,N...]|all", help=help_text)


def _parse_layers(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | str | None:
    if value is None or value == "all":
        return value
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not 'all' or numbers joined by commas, such as 6,12.") from None
