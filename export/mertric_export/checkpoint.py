"""A MERT checkpoint: its configuration, and every tensor accounted for by name and shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import CheckpointError
from mertric_export.config import MertConfig, read_config
from mertric_export.layout import (
    POSITIONAL_WEIGHT,
    WEIGHT_NORM_SPELLINGS,
    tensor_shapes,
    training_shapes,
    weight_norm_shapes,
)
from mertric_export.weights import combined_digest, digests, find_weights, read_weights, weight_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mertric_export.stored import StoredTensor

PREFIXES = ("hubert.", "mert_model.", "model.", "module.")
"""What models that wrap MERT put before its names; it is taken off."""
ADAPTER_FILE = "adapter_config.json"
MAX_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint as the export needs it.

    Attributes
    ----------
    directory : Path
        Where it was read from.
    config : MertConfig
        Its configuration.
    tensors : mapping of str to float32 ndarray
        Exactly the tensors of `layout.tensor_shapes(config)`, finite, read-only where they are views of the
        memory-mapped file. The positional convolution has its weight norm folded in.
    files : mapping of str to str
        Name and SHA-256 (hex) of each weight file.
    sha256 : str
        SHA-256 (hex) of the weight file; of several, that of the text that `sha256sum` prints for them,
        sorted by name.
    """

    directory: Path
    config: MertConfig
    tensors: Mapping[str, NDArray[np.float32]]
    files: Mapping[str, str]
    sha256: str


def read_checkpoint(directory: str | Path, *, weights: str | None = None) -> Checkpoint:
    """Read a checkpoint directory without PyTorch.

    Parameters
    ----------
    directory : path
        Holds `config.json`, `preprocessor_config.json` and `model.safetensors`, or shards with
        `model.safetensors.index.json`, or `pytorch_model.bin`, or shards with `pytorch_model.bin.index.json`.
    weights : str, optional
        Which of these to read; by default the first that stands there, in this order.

    Raises
    ------
    CheckpointError
        The weights are absent, damaged or hostile; or tensors are missing, misshapen, unknown or not finite:
        the message lists them.
    ConfigurationError
        The configuration asks for something that mertric does not compute.
    """
    directory = Path(directory)
    config = read_config(directory)
    if (directory / ADAPTER_FILE).is_file():
        raise CheckpointError(
            f"{directory} has an {ADAPTER_FILE}: its model is these weights and an adapter, and mertric computes no "
            "adapters. Merge it into the weights first: model.merge_and_unload().save_pretrained(DIRECTORY)."
        )
    weights = weights or find_weights(directory)
    tensors = _account(config, _without_prefix(read_weights(directory, weights)), directory)
    files = digests(directory, weight_files(directory, weights))
    return Checkpoint(directory=directory, config=config, tensors=tensors, files=files, sha256=combined_digest(files))


def _without_prefix(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        canonical = name
        while prefix := next((one for one in PREFIXES if canonical.startswith(one)), None):
            canonical = canonical.removeprefix(prefix)
        if canonical in tensors:
            raise CheckpointError(
                f"The checkpoint names {canonical} twice, with and without a prefix. Save it with one."
            )
        tensors[canonical] = tensor
    return tensors


def _account(config: MertConfig, stored: Mapping[str, StoredTensor], directory: Path) -> dict[str, NDArray[np.float32]]:
    """Hold what is there against what the configuration calls for, then convert and fold."""
    needed = tensor_shapes(config)
    expected = dict(needed)
    spelling = next((pair for pair in WEIGHT_NORM_SPELLINGS if stored.keys() & set(pair)), None)
    if spelling is not None:
        del expected[POSITIONAL_WEIGHT]
        expected |= dict(zip(spelling, weight_norm_shapes(config), strict=True))
    known = expected | training_shapes(config)
    problems = {
        "missing": [f"{name} {list(shape)}" for name, shape in expected.items() if name not in stored],
        "misshapen": [
            f"{name} {list(stored[name].shape)}, expected {list(shape)}"
            for name, shape in known.items()
            if name in stored and stored[name].shape != shape
        ],
        "unknown": [f"{name} {list(tensor.shape)}" for name, tensor in stored.items() if name not in known],
        "not floating point": [name for name in expected if name in stored and not stored[name].is_floating],
    }
    if [kind for kind, names in problems.items() if names] == ["unknown"]:
        advice = (
            "If they are a head's, on top of MERT, save the encoder alone: "
            "transformers.HubertModel.from_pretrained(DIRECTORY).save_pretrained(ANOTHER)."
        )
    else:
        advice = "Use the config.json and the weights of one and the same checkpoint."
    _complain(directory, problems, advice)
    tensors = {name: stored[name].float32() for name in expected}
    damaged = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    _complain(directory, {"not finite": damaged}, "Fetch or save the weights again.")
    if spelling is not None:
        tensors[POSITIONAL_WEIGHT] = _fold(tensors.pop(spelling[0]), tensors.pop(spelling[1]), directory)
    return {name: tensors[name] for name in needed}


def _fold(magnitude: NDArray[np.float32], direction: NDArray[np.float32], directory: Path) -> NDArray[np.float32]:
    """Weight norm over dim 2 (Salimans & Kingma 2016, eq. 2): w[..., k] = g[k] v[..., k] / ||v[..., k]||."""
    wide = direction.astype(np.float64)
    norm = np.sqrt(np.einsum("oik,oik->k", wide, wide))
    if not norm.all():
        raise CheckpointError(
            f"The positional convolution in {directory} has a tap whose weights are all zero, so its norm is "
            "undefined; expected trained weights. Fetch or save the weights again."
        )
    wide *= magnitude.astype(np.float64) / norm
    return wide.astype(np.float32)


def _complain(directory: Path, problems: Mapping[str, list[str]], advice: str) -> None:
    found = [f"{len(names)} {kind}: {_listing(names)}" for kind, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"The tensors in {directory} are not those that its configuration calls for. {'. '.join(found)}. {advice}"
        )


def _listing(names: list[str]) -> str:
    more = len(names) - MAX_LISTED
    return "; ".join(names[:MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")
