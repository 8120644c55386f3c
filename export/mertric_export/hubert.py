"""transformers' HubertModel with the weights of a checkpoint: PyTorch's own MERT, to trace and to compare with."""

from __future__ import annotations

import dataclasses
import importlib
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import DependencyError, ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from mertric_export.checkpoint import Checkpoint

INSTALL = 'Run: pip install "mertric[optimum]"'
OLDEST, TOO_NEW = (4, 57), (5, 0)
"""Releases of transformers from the first to before the second build this model."""


def hubert_model(checkpoint: Checkpoint) -> Any:
    """Build a `transformers.HubertModel`, with scaled-dot-product attention, in evaluation mode.

    transformers does not read the checkpoint's files, so neither its spellings of weight norm nor fields that a
    released configuration lacks play a part: the tensors are those of `read_checkpoint`, and the model must call
    for exactly these. It takes samples of zero mean and unit variance, float32 [batch, samples].

    Raises
    ------
    DependencyError
        PyTorch or transformers is missing, or is a release that does not build this model.
    ExportError
        The model and the checkpoint differ in a tensor's name or shape.
    """
    check_transformers(installed("transformers"))
    torch, transformers = require("torch"), require("transformers")
    parametrize = require("torch.nn.utils.parametrize")
    with torch.device("meta"):
        model = transformers.HubertModel(_config(transformers, checkpoint)).eval()
        parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")
    account(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        {name: tensor.shape for name, tensor in checkpoint.tensors.items()},
    )
    weights = {name: torch.from_numpy(np.array(tensor)) for name, tensor in checkpoint.tensors.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.requires_grad_(False)


def account(called_for: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]]) -> None:
    """Hold names and shapes of a model's tensors against those of a checkpoint, both ways.

    Raises
    ------
    ExportError
        One side has a tensor that the other lacks or has in another shape.
    """
    problems = [
        f"{name}: {_shape(called_for, name)} in the model, {_shape(there, name)} in the checkpoint"
        for name in sorted(called_for.keys() | there.keys())
        if called_for.get(name) != there.get(name)
    ]
    if problems:
        raise ExportError(
            f"transformers' HubertModel and the checkpoint differ in {len(problems)} tensors: "
            f"{'; '.join(problems[:10])}. Every tensor must have its place. {INSTALL}"
        )


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "absent"


def check_transformers(release: str) -> None:
    """Refuse releases of transformers that are known to break MERT.

    Raises
    ------
    DependencyError
        `release` is older than `OLDEST` or not older than `TOO_NEW`.
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if not OLDEST <= number < TOO_NEW:
        reason = "it returns no hidden states" if number >= TOO_NEW else "weight norm and masks are traced otherwise"
        raise DependencyError(
            f"transformers {release} is installed; expected {OLDEST[0]}.{OLDEST[1]} or later, below {TOO_NEW[0]}: "
            f"{reason} there. {INSTALL}"
        )


def require(module: str) -> ModuleType:
    """Import a module of the `optimum` extra.

    Raises
    ------
    DependencyError
        It is not installed, or does not import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(f"tracing needs {module}, which cannot be imported ({error}). {INSTALL}") from error


def installed(distribution: str) -> str:
    """Return the version of an installed distribution.

    Raises
    ------
    DependencyError
        It is not installed.
    """
    try:
        return version(distribution)
    except PackageNotFoundError as error:
        raise DependencyError(f"tracing needs {distribution}, which is not installed. {INSTALL}") from error


def _config(transformers: Any, checkpoint: Checkpoint) -> Any:
    """The configuration as transformers has it; without the masks of training, which would want a tensor."""
    return transformers.HubertConfig(
        **dataclasses.asdict(checkpoint.config),
        hidden_act="gelu",
        feat_extract_activation="gelu",
        conv_pos_batch_norm=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        attn_implementation="sdpa",
    )
