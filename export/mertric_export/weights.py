"""The weight files of a checkpoint directory: which they are, their digests, and the tensors they hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mertric.bundle import sha256
from mertric.errors import CheckpointError
from mertric_export.safetensors import read_safetensors
from mertric_export.torch_pickle import read_torch_pickle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mertric_export.stored import StoredTensor

SAFETENSORS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TORCH_FILE = "pytorch_model.bin"
TORCH_INDEX_FILE = "pytorch_model.bin.index.json"
WEIGHTS = (SAFETENSORS_FILE, INDEX_FILE, TORCH_FILE, TORCH_INDEX_FILE)
"""What weights may be called, the preferred first."""


def find_weights(directory: Path) -> str:
    """The preferred of the weights that stand in a directory.

    Raises
    ------
    CheckpointError
        There are none.
    """
    for name in WEIGHTS:
        if (directory / name).is_file():
            return name
    raise CheckpointError(
        f"{directory} holds no weights; expected one of {', '.join(WEIGHTS)}. "
        "Give the directory of a checkpoint, or a hub id such as m-a-p/MERT-v1-95M."
    )


def weight_files(directory: Path, weights: str) -> list[str]:
    """Names of the files that hold the tensors: `weights` itself, or the shards that this index names."""
    return sorted(set(_read_index(directory / weights).values())) if _is_index(weights) else [weights]


def read_weights(directory: Path, weights: str) -> dict[str, StoredTensor]:
    """The tensors by name, mapped from the files.

    Raises
    ------
    CheckpointError
        A file is damaged or hostile, or a shard does not hold what the index says.
    """
    return _read_shards(directory / weights) if _is_index(weights) else _read_file(directory / weights)


def digests(directory: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 (hex) of each file, by name."""
    return {name: _digest(directory / name) for name in names}


def combined_digest(files: Mapping[str, str]) -> str:
    """One SHA-256 for all: a single file's own, else that of what `sha256sum` prints, sorted by name."""
    if len(files) == 1:
        return next(iter(files.values()))
    listing = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Copy or fetch it again.") from error


def _is_index(weights: str) -> bool:
    return weights in (INDEX_FILE, TORCH_INDEX_FILE)


def _read_file(path: Path) -> dict[str, StoredTensor]:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_pickle(path)


def _read_index(index: Path) -> dict[str, str]:
    """File by tensor, as the index says; the files must be plain names beside it."""
    try:
        weight_map: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        plain = all(name and Path(name).name == name and "\\" not in name for name in weight_map.values())
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} has no readable weight_map ({error!r}). Fetch it again.") from error
    if not weight_map or not plain:
        raise CheckpointError(f"{index} names no files, or not plain ones beside it. Fetch it again.")
    return weight_map


def _read_shards(index: Path) -> dict[str, StoredTensor]:
    weight_map = _read_index(index)
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(weight_map.values())):
        shard = _read_file(index.with_name(name))
        claimed = {tensor for tensor, file in weight_map.items() if file == name}
        if claimed != shard.keys():
            raise CheckpointError(
                f"{index.with_name(name)} does not hold what {index.name} says; they differ in: "
                f"{', '.join(sorted(claimed ^ shard.keys()))}. Fetch both again."
            )
        tensors |= shard
    return tensors
