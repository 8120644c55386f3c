"""`mertric embed`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from mertric.cli.messages import say
from mertric.cli.options import (
    FOLDER,
    PATH,
    layers_option,
    make_windows,
    memory_option,
    model_options,
    protocol_option,
    window_options,
)
from mertric.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder for the .npz files.")
@layers_option("Hidden states to write.  [default: the last]")
@click.option(
    "--format",
    "dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the numbers written.",
)
@model_options
@protocol_option
@window_options
@memory_option
def command(
    files: tuple[Path, ...],
    output: Path,
    layers: tuple[int, ...] | None,
    dtype: str,
    model: str,
    provider: str,
    precision: str,
    threads: int | None,
    protocol: str,
    window: float | None,
    overlap: float | None,
    memory: int,
) -> None:
    """Write hidden states of audio FILES, or of all audio in folders.

    Each becomes a .npz with hidden [layers, frames, dim], layers [layers], times [frames] in seconds, and what they
    were computed with as settings, under the path it has below the folder that was given.

    The exit code is 0 if every file was embedded, 1 if not, 2 if none was.
    """
    from functools import partial

    import numpy as np

    from mertric.errors import InputError, OutputError
    from mertric.files import find_audio
    from mertric.loading import load
    from mertric.output import replacing, spelling
    from mertric.protocol import get_protocol
    from mertric.scheduler import Scheduler
    from mertric.scoring import describe

    jobs: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for given in files:
        found = [(path, path.relative_to(given)) for path in find_audio(given)] if given.is_dir() else [(given, given)]
        for path, below in found:
            target = output / (below if given.is_dir() else below.name)
            target = target.with_name(target.name + ".npz")
            other = taken.setdefault(spelling(target), path)
            if target in jobs and other == path:
                continue
            if other != path:
                raise InputError(f"{other} and {path} would both be written to {target}. Embed them apart.")
            jobs[target] = path
    windows = make_windows(window, overlap)
    encoder = load(model, provider=provider, precision=precision, threads=threads)
    scheduler = Scheduler(encoder, layers=encoder.check_layers(layers), windows=windows, memory=memory)
    rules = get_protocol(protocol)
    settings = describe(encoder, protocol=protocol, windows=windows)
    clips = scheduler.embed(partial(encoder.read, path, None, rules) for path in jobs.values())
    failed = 0
    with progress("embedding", len(jobs)) as advance:
        for target, clip in zip(jobs, clips, strict=True):
            embeddings, problem = clip.embeddings, clip.problem
            if embeddings is not None:
                try:
                    with replacing(target) as unfinished:
                        np.savez(
                            unfinished,
                            hidden=embeddings.hidden.astype(dtype, copy=False),
                            layers=np.array(embeddings.layers),
                            times=embeddings.times,
                            settings=np.array(settings),
                        )
                except OutputError as error:
                    problem = str(error)
            if problem:
                failed += 1
                stale = f" {target} is of an earlier run." if os.path.exists(target) else ""  # noqa: PTH110
                say(f"mertric: {problem}{stale}")
            advance()
    click.echo(f"{len(jobs) - failed} of {len(jobs)} files embedded into {output}.", err=True)
    if failed:
        sys.exit(2 if failed == len(jobs) else 1)
