"""Seeded, untrained checkpoints in the released MERT layout, for demonstrations, tests and benchmarks.

Every value follows from the seed by integer arithmetic and exact scaling, so the files are the same bytes on
every platform and with every version of NumPy (Philox's raw stream is guaranteed).
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError
from mertric.output import replacing
from mertric_export.config import MODEL_FILE, PREPROCESSOR_FILE, MertConfig
from mertric_export.layout import (
    POSITIONAL_WEIGHT,
    WEIGHT_NORM_SPELLINGS,
    Shape,
    tensor_shapes,
    training_shapes,
    weight_norm_shapes,
)
from mertric_export.safetensors import write_safetensors
from mertric_export.weights import SAFETENSORS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PRESETS = {
    "m-a-p/MERT-v1-95M": MertConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
    ),
    "m-a-p/MERT-v1-330M": MertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        do_stable_layer_norm=True,
    ),
}
"""The shapes of the released models."""

TINY = MertConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=160, conv_dim=(32,) * 7)
"""A model of a few hundred thousand weights, post-LayerNorm; vary it with `dataclasses.replace`."""


def write_checkpoint(directory: str | Path, config: MertConfig, *, seed: int = 0) -> Path:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors`, each atomically, weights last.

    Parameters
    ----------
    directory : path
        Made if it is not there.
    config : MertConfig
        Shape of the model, for instance one of `PRESETS`.
    seed : int
        Not negative, below 2**64. Equal seeds give equal bytes.

    Returns
    -------
    Path
        `directory`.

    Raises
    ------
    InputError
        `seed` is out of range.
    OutputError
        The file system refuses.
    """
    if not 0 <= seed < 2**64:
        raise InputError(f"seed is {seed}; expected 0 to 2**64 - 1. Give a seed in that range.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in (
        (MODEL_FILE, _model_fields(config)),
        (PREPROCESSOR_FILE, _preprocessor_fields(config)),
    ):
        with replacing(directory / name) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shapes = stored_shapes(config)
    with replacing(directory / SAFETENSORS_FILE) as partial:
        write_safetensors(
            partial,
            shapes,
            _draw(shapes, seed),
            metadata={"format": "pt", "weights": f"untrained, seed {seed}"},
        )
    return directory


def stored_shapes(config: MertConfig) -> dict[str, Shape]:
    """Name and shape of each tensor as released: with `weight_g` and `weight_v`, and those of training."""
    shapes = training_shapes(config) | tensor_shapes(config)
    del shapes[POSITIONAL_WEIGHT]
    return shapes | dict(zip(WEIGHT_NORM_SPELLINGS[0], weight_norm_shapes(config), strict=True))


def _draw(shapes: dict[str, Shape], seed: int) -> Iterator[NDArray[np.float32]]:
    """The tensors in order, each from its own stream.

    Uniform. The convolutions have the spread of He et al. 2015, as PyTorch starts them; the linear layers
    keep their input's variance. Norms and biases, which start at 1 and 0, are moved so that a lost one shows.
    """
    for index, (name, shape) in enumerate(shapes.items()):
        unit = _uniform(shape, np.random.Philox(key=[seed, index]))
        inputs = math.prod(shape[1:])
        if name.endswith(("weight_g", "layer_norm.weight")):
            yield 1 + np.float32(0.25) * unit
        elif len(shape) == 1:
            yield np.float32(0.25) * unit
        elif ".conv." in name:
            yield np.float32(math.sqrt(6 / inputs)) * unit
        else:
            yield np.float32(math.sqrt(3 / inputs)) * unit


def _uniform(shape: Shape, stream: np.random.Philox) -> NDArray[np.float32]:
    """Multiples of 2**-23 in [-1, 1), exact in float32."""
    count = math.prod(shape)
    raw = np.asarray(stream.random_raw((count + 1) // 2), "<u8").view("<u4")[:count]
    values = (raw >> 8).astype(np.float32)
    values -= 1 << 23
    values *= np.float32(2**-23)
    return values.reshape(shape)


def _model_fields(config: MertConfig) -> dict[str, object]:
    fields = {name: value for name, value in dataclasses.asdict(config).items() if name != "sample_rate"}
    return fields | {
        "architectures": ["MERTModel"],
        "model_type": "mert_model",
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "feature_extractor_cqt": False,
        "deepnorm": False,
        "attention_relax": 32.0 if config.do_stable_layer_norm else -1.0,
        "sample_rate": config.sample_rate,
        "torch_dtype": "float32",
    }


def _preprocessor_fields(config: MertConfig) -> dict[str, object]:
    return {
        "do_normalize": True,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0,
        "return_attention_mask": True,
        "sampling_rate": config.sample_rate,
    }
