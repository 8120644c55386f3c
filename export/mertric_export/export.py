"""From a checkpoint to a bundle."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from mertric.bundle import (
    CLIPS,
    FIXED_CLIPS,
    FOLD,
    FORMAT,
    FRONTEND,
    MANIFEST,
    PORTABLE_FRONTEND,
    POSITIONS,
    WEIGHTS,
    Bundle,
    encoder_graph,
    read_bundle,
)
from mertric_export.centring import centre, measure_means
from mertric_export.checkpoint import Checkpoint, read_checkpoint
from mertric_export.clips import build_clips
from mertric_export.config import CONV_NORM_EPS, NORMALIZE_EPS
from mertric_export.frontend import CONV, alignment, build_frontend
from mertric_export.gate import compare_precisions, hold_to_bounds, runs_graphs
from mertric_export.graph import WeightFile
from mertric_export.manifest import list_files, write_manifest
from mertric_export.output import new_directory
from mertric_export.positions import build_positions
from mertric_export.precisions import PRECISIONS, all_precisions
from mertric_export.releases import UNKNOWN_LICENSE, license_of
from mertric_export.transformer import build_encoder
from mertric_export.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.material import Material


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a checkpoint comes from, as the manifest keeps it.

    Attributes
    ----------
    model : str
        Hub id, or a name.
    revision : str or None
        Hub revision.
    license : str
        Of the weights; where it is not known, that of a release with the same weights.
    trained : bool
        False for made-up weights.
    """

    model: str
    revision: str | None = None
    license: str = UNKNOWN_LICENSE
    trained: bool = True


def export_checkpoint(
    source: Path | str,
    output: Path | str,
    *,
    provenance: Provenance,
    weights: str | None = None,
    precisions: Sequence[str] = (),
    material: Material | None = None,
    bounds: bool = True,
    force: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Convert a checkpoint directory to a bundle, and check the bundle against it.

    Parameters
    ----------
    source
        A checkpoint's directory, see `read_checkpoint`.
    output
        The bundle's directory. It appears when it is whole and checked, or not at all.
    weights
        Which weights file to read, see `read_checkpoint`.
    precisions
        What the bundle is for beside fp32: ``fp16``, ``bf16``, ``bf16x3``, ``int16``, ``int8``. Each must come close
        enough to fp32 on a provider of this machine, or emulated; providers on which it does not are refused it.
    material
        Audio to compare the precisions on, and every provider here in fp32; None compares only the precisions, on
        made-up music.
    bounds
        Refuse a precision that is too far from fp32; False is for measuring how far it is.
    force
        Replace a bundle that is there.
    notify
        Gets a line for each step.

    Raises
    ------
    CheckpointError, ConfigurationError
        The checkpoint cannot be read or is not supported.
    ExportError
        `output` is taken or cannot be written, the bundle does not reproduce the checkpoint, or a precision is too
        far from fp32 on every provider. Then nothing is written: who asked for a precision must not find a bundle
        without it.
    InputError
        A precision is not known.
    """
    output, wanted = Path(output).absolute(), all_precisions(precisions)
    written = [precision for precision in wanted if precision in PRECISIONS]
    with new_directory(output, manifest=MANIFEST, force=force) as directory:
        notify("reading the checkpoint")
        checkpoint = read_checkpoint(source, weights=weights)
        if provenance.license == UNKNOWN_LICENSE:
            provenance = dataclasses.replace(provenance, license=license_of(checkpoint.sha256))
        notify("measuring means")
        centred = centre(checkpoint.config, checkpoint.tensors, measure_means(checkpoint))
        notify("writing graphs and weights")
        for precision in written:
            _write_graphs(checkpoint.config, centred, directory / precision, precision)
        _write_fold(checkpoint, directory / FOLD)
        manifest = _manifest(checkpoint, provenance, directory, wanted)
        write_manifest(directory, manifest)
        notify("checking against a float64 forward pass")
        parity = verify(checkpoint, directory, written)
        parity["precisions"] = compare_precisions(directory, wanted, material, notify=notify)
        refused = hold_to_bounds(parity["precisions"]) if bounds else {}
        for precision in refused.keys() & {*written}:
            if not runs_graphs(precision) - refused[precision].keys():
                shutil.rmtree(directory / precision)
        files = {name: facts for name, facts in manifest["files"].items() if (directory / name).is_file()}
        write_manifest(directory, manifest | {"refused": refused, "files": files, "parity": parity})
    return read_bundle(output)


def _write_graphs(
    config: MertConfig, tensors: Mapping[str, NDArray[np.float32]], directory: Path, precision: str
) -> None:
    """Write the graphs of a precision and their weights, of tensors from `centre`."""
    kind = PRECISIONS[precision]
    directory.mkdir()
    with WeightFile(directory / WEIGHTS) as weights:
        models = {
            FRONTEND: build_frontend(config, tensors, weights, builder=kind.builder),
            POSITIONS: build_positions(config, tensors, weights, builder=kind.builder),
        }
        if kind.portable is not None:
            models[PORTABLE_FRONTEND] = build_frontend(config, tensors, weights, builder=kind.portable)
        for variant in kind.variants:
            builder = kind.encoder_builder(variant)
            models[encoder_graph(variant)] = build_encoder(config, tensors, weights, variant=variant, builder=builder)
        if kind.clips is not None:
            models[CLIPS] = build_clips(config, tensors, weights, builder=kind.clips)
        if kind.fixed_clips is not None:
            models[FIXED_CLIPS] = build_clips(config, tensors, weights, builder=kind.fixed_clips)
    for name, model in models.items():
        path = directory / name
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(path, full_check=True)


def _write_fold(checkpoint: Checkpoint, path: Path) -> None:
    config, tensors = checkpoint.config, checkpoint.tensors
    weight = tensors[f"{CONV}.0.conv.weight"][:, 0].astype(np.float64)
    arrays: dict[str, Any] = {
        "weight": weight,
        "bias": np.asarray(tensors.get(f"{CONV}.0.conv.bias", np.zeros(len(weight))), np.float64),
        "stride": np.array(config.conv_stride[0]),
        "normalize_epsilon": np.array(NORMALIZE_EPS),
        "norm_epsilon": np.array(CONV_NORM_EPS),
    }
    if config.feat_extract_norm == "group":
        arrays["scale"] = tensors[f"{CONV}.0.layer_norm.weight"].astype(np.float64)
        arrays["offset"] = tensors[f"{CONV}.0.layer_norm.bias"].astype(np.float64)
    np.savez(path, **arrays)


def _manifest(
    checkpoint: Checkpoint, provenance: Provenance, directory: Path, precisions: Sequence[str]
) -> dict[str, Any]:
    config = checkpoint.config
    return {
        "format": FORMAT,
        "created_by": f"mertric {version('mertric')}",
        **dataclasses.asdict(provenance),
        "weights_sha256": checkpoint.sha256,
        "precisions": list(precisions),
        "refused": {},
        "sample_rate": config.sample_rate,
        "hop": config.hop,
        "receptive_field": config.receptive_field,
        "layers": config.num_hidden_layers,
        "dim": config.hidden_size,
        "heads": config.num_attention_heads,
        "inner_dim": config.intermediate_size,
        "channels": list(config.conv_dim),
        "convolution_norms": config.feat_extract_norm == "layer",
        "position_groups": config.num_conv_pos_embedding_groups,
        "pre_norm": config.do_stable_layer_norm,
        "layer_norm_epsilon": config.layer_norm_eps,
        "rows_per_frame": alignment(config),
        "position_taps": config.num_conv_pos_embeddings,
        "files": list_files(directory),
        "parity": {},
    }
