"""What benchmarks of the model run on: music, seeded checkpoints, and what is made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.choice import probe, unable
from mertric.errors import DependencyError
from mertric.music import SAMPLE_RATE, compose
from mertric.providers import PROVIDERS
from mertric.resample import resample
from mertric_export.checkpoint import read_checkpoint
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.precisions import all_precisions
from mertric_export.synthetic import PRESETS, TINY, write_checkpoint
from mertric_export.tracer import MANIFEST, MODEL, made_with, trace_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from mertric_export.config import MertConfig

SIZES = {"tiny": TINY} | {name.rsplit("-", 1)[1]: config for name, config in PRESETS.items()}
SEGMENTS = 8
"""Different stretches of music before it repeats."""


@dataclass(frozen=True)
class Model:
    """One checkpoint in every form; `traced` is None, and `why` says why, where optimum is missing."""

    config: MertConfig
    checkpoint: Path
    bundle: Path
    traced: Path | None = None
    why: str = ""


def operations(config: MertConfig, samples: int) -> float:
    """Floating-point operations that the model's products and convolutions take for a clip, two for each factor."""
    total, rows, channels = 0.0, samples, 1
    for width, taps, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        rows = (rows - taps) // stride + 1
        total += rows * taps * channels * width
        channels = width
    dim, taps, groups = config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    layer = 4 * dim * dim + 2 * dim * config.intermediate_size + 2 * rows * dim
    return 2 * (total + rows * (channels * dim + taps * dim * dim // groups + config.num_hidden_layers * layer))


def music(seconds: float, *, seed: int, rate: int) -> NDArray[np.float32]:
    """Seeded music, mono: float32 [seconds * rate]."""
    segments = [np.add(*compose(seed * SEGMENTS + index)) for index in range(SEGMENTS)]
    piece = resample(np.concatenate(segments).astype(np.float32), SAMPLE_RATE, rate)
    return np.resize(piece, round(seconds * rate))


def prepare(
    size: str,
    cache: Path,
    *,
    checkpoint: Path | None,
    trace: bool,
    sides: Iterable[tuple[str, str]] | None = None,
    notify: Callable[[str], None] = print,
) -> Model:
    """Make a size's seeded checkpoint, or take the one given, and export and trace it into `cache`.

    The bundle is made anew at every run, so that it is what the exporter now writes, in what the sides that work here
    compute in: providers and precisions, or all that there are. A trace is kept as long as neither the weights nor the
    versions it is made with change.
    """
    provenance = Provenance(model=f"{size}, seeded", trained=False)
    if checkpoint is None:
        checkpoint = cache / size / "checkpoint"
        if not (checkpoint / "model.safetensors").is_file():
            notify(f"making an untrained {size} checkpoint in {checkpoint}")
            write_checkpoint(checkpoint, SIZES[size])
    else:
        provenance = Provenance(model=checkpoint.name)
    bundle = cache / size / "bundle"
    if sides is None:
        sides = [(name, precision) for name, provider in PROVIDERS.items() for precision in provider.precisions]
    works = {name for name, provider in PROVIDERS.items() if probe(provider) is None}
    precisions = all_precisions(
        precision
        for name, precision in sides
        if name == "auto" or (name in works and unable(PROVIDERS[name], precision) is None)
    )
    notify(f"exporting {checkpoint} to {bundle}, in {', '.join(precisions)}")
    export_checkpoint(checkpoint, bundle, provenance=provenance, precisions=precisions, bounds=False, force=True)
    content = read_checkpoint(checkpoint)
    model = Model(content.config, checkpoint, bundle)
    if not trace:
        return model
    traced = cache / size / "traced"
    try:
        if _state(traced) != (content.sha256, made_with()):
            notify(f"tracing {checkpoint} to {traced}")
            trace_checkpoint(checkpoint, traced, provenance=provenance, force=True)
    except DependencyError as error:
        return Model(model.config, checkpoint, bundle, why=str(error))
    return Model(model.config, checkpoint, bundle, traced / MODEL)


def _state(traced: Path) -> tuple[object, object]:
    """The weights that a trace was made of, and the versions it was made with."""
    manifest = traced / MANIFEST
    if not manifest.is_file():
        return None, None
    content = json.loads(manifest.read_text(encoding="utf-8"))
    return content.get("weights_sha256"), content.get("made_with")
