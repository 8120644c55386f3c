"""From a checkpoint to an ONNX model by another road: PyTorch's own MERT, traced by optimum's exporter.

It shares the reader of checkpoints with `export` and nothing after it, so it serves as a second oracle, and in
benchmarks as what one would otherwise run. It is no bundle and `mertric.load` does not take it.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.bundle import sha256
from mertric.errors import ExportError
from mertric_export.checkpoint import Checkpoint, read_checkpoint
from mertric_export.config import NORMALIZE_EPS
from mertric_export.export import Provenance
from mertric_export.hub import fetch
from mertric_export.hubert import check_transformers, hubert_model, installed, require
from mertric_export.output import new_directory, require_free
from mertric_export.reference import hidden_states
from mertric_export.verify import TOLERANCE, check_clip

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODEL = "model.onnx"
MANIFEST = "traced.json"
INPUT = "input_values"
_DISTRIBUTIONS = ("mertric", "torch", "transformers", "optimum", "optimum-onnx", "onnx")


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A traced model on disk.

    Attributes
    ----------
    path : Path
        Its directory: `MODEL`, and `MANIFEST` with what is here and where it comes from. `MODEL` takes `INPUT`,
        float32 [batch, samples] of any size, each row normalised (`normalize`); its outputs are `state_names`,
        float32 [batch, frames, dim].
    model, license : str
        As in `Provenance`.
    parity : mapping of str to float
        The largest difference of a hidden state from float64, in units of its root mean square, by clips a batch.
    """

    path: Path
    model: str
    license: str
    parity: dict[str, float]


def trace_checkpoint(
    source: Path | str,
    output: Path | str,
    *,
    provenance: Provenance,
    weights: str | None = None,
    force: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Traced:
    """Trace a checkpoint to a plain ONNX model with all hidden states, and hold it against the checkpoint.

    Parameters
    ----------
    source, provenance, weights, notify
        See `export_checkpoint`.
    output
        A directory. It appears when it is whole and checked, or not at all.
    force
        Replace a traced model that is there.

    Raises
    ------
    CheckpointError, ConfigurationError
        The checkpoint cannot be read or is not supported.
    DependencyError
        A package of the `optimum` extra is missing, or is a release that breaks MERT.
    ExportError
        `output` is taken, PyTorch's model calls for other tensors, or the trace does not reproduce the checkpoint.
    """
    versions = made_with()
    output = Path(output).absolute()
    with new_directory(output, manifest=MANIFEST, force=force) as directory:
        notify("reading the checkpoint")
        checkpoint = read_checkpoint(source, weights=weights)
        notify("tracing PyTorch's model")
        _trace(checkpoint, directory / MODEL)
        notify("checking against a float64 forward pass")
        parity = compare(checkpoint, directory / MODEL)
        manifest = _manifest(checkpoint, provenance, directory) | {"made_with": versions, "parity": parity}
        (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return Traced(path=output, model=provenance.model, license=provenance.license, parity=parity)


def trace_model(
    model: str,
    output: Path,
    *,
    revision: str | None = None,
    force: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Traced:
    """Fetch a checkpoint by its hub id and trace it.

    Parameters
    ----------
    model
        Hub id.
    revision
        Hub revision; by default the pinned one, see `fetch`.
    output, force, notify
        See `trace_checkpoint`.

    Raises
    ------
    CheckpointError, ConfigurationError, DependencyError, ExportError
        See `fetch` and `trace_checkpoint`.
    """
    made_with()
    require_free(output, manifest=MANIFEST, force=force)
    fetched = fetch(model, revision=revision, notify=notify)
    provenance = Provenance(model=model, revision=fetched.revision, license=fetched.license)
    return trace_checkpoint(
        fetched.directory, output, provenance=provenance, weights=fetched.weights, force=force, notify=notify
    )


def made_with() -> dict[str, str]:
    """Return the versions of everything that has a part in a trace.

    Raises
    ------
    DependencyError
        One is missing, or is a release that breaks MERT.
    """
    versions = {name: installed(name) for name in _DISTRIBUTIONS}
    check_transformers(versions["transformers"])
    return versions


def state_names(layers: int) -> list[str]:
    """Name the outputs of a traced model of `layers` layers: hidden states 0 to `layers`."""
    return [f"hidden_states.{layer}" for layer in range(layers + 1)]


def open_traced(model: Path) -> Any:
    """Open a traced model as `onnxruntime.InferenceSession`, on the CPU and with its default options.

    Raises
    ------
    DependencyError
        ONNX Runtime is not installed.
    """
    return require("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])


def normalize(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring a clip to zero mean and unit variance, (x - mean) / sqrt(var + 1e-7), as a traced model takes it.

    `Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm` of transformers; here in float64.

    Parameters
    ----------
    samples : float32 [samples]
    """
    wide = samples.astype(np.float64)
    result: NDArray[np.float32] = ((wide - wide.mean()) / np.sqrt(wide.var() + NORMALIZE_EPS)).astype(np.float32)
    return result


def compare(checkpoint: Checkpoint, model: Path) -> dict[str, float]:
    """Compare every hidden state with `reference.hidden_states`: one clip alone, and its two halves in a batch.

    Raises
    ------
    ExportError
        A difference is above `TOLERANCE`.
    """
    names = state_names(checkpoint.config.num_hidden_layers)
    session = open_traced(model)
    clip = check_clip(checkpoint.config.sample_rate)
    figures = {}
    for clips in (clip[None], clip[: clip.size // 2 * 2].reshape(2, -1)):
        expected = np.stack([hidden_states(checkpoint, one) for one in clips], axis=1)
        got = np.stack(session.run(names, {INPUT: np.stack([normalize(one) for one in clips])}))
        scale = np.sqrt(np.square(expected).mean(axis=(1, 2, 3)))
        differences = np.abs(got - expected).max(axis=(1, 2, 3)) / scale
        worst = int(np.argmax(differences))
        if not differences[worst] <= TOLERANCE:
            raise ExportError(
                f"the traced model differs from its checkpoint: {names[worst]} by {differences[worst]:.1e} of its "
                f"root mean square in a batch of {len(clips)}, expected at most {TOLERANCE:.0e}. Nothing was "
                f"written. The releases of PyTorch, transformers and optimum here break MERT ({_listing()})."
            )
        figures[f"batch_{len(clips)}"] = float(differences[worst])
    return figures


def _trace(checkpoint: Checkpoint, path: Path) -> None:
    onnx_export, configs = require("optimum.exporters.onnx"), require("optimum.exporters.onnx.model_configs")
    outputs = {name: {0: "batch_size", 1: "frames"} for name in state_names(checkpoint.config.num_hidden_layers)}

    class HiddenStates(configs.HubertOnnxConfig):  # type: ignore[misc, name-defined]
        """Every hidden state as an output, in place of the last alone."""

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return outputs

    model = hubert_model(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx_export.export(
            model,
            HiddenStates(model.config, task="feature-extraction"),
            path,
            model_kwargs={"output_hidden_states": True},
        )


def _manifest(checkpoint: Checkpoint, provenance: Provenance, directory: Path) -> dict[str, Any]:
    config = checkpoint.config
    return {
        "what": "A traced model, for comparison. It is not a bundle: mertric cannot load it.",
        "tracer": "optimum",
        **asdict(provenance),
        "weights_sha256": checkpoint.sha256,
        "sample_rate": config.sample_rate,
        "layers": config.num_hidden_layers,
        "dim": config.hidden_size,
        "input": {INPUT: f"float32 [batch, samples], each row (x - mean) / sqrt(variance + {NORMALIZE_EPS})"},
        "outputs": {"hidden_states.N": f"float32 [batch, frames, dim], N from 0 to {config.num_hidden_layers}"},
        "files": {
            file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in sorted(directory.iterdir())
        },
    }


def _listing() -> str:
    return ", ".join(f"{name} {version}" for name, version in made_with().items())
