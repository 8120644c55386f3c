"""The tensors of a MERT checkpoint: canonical (HuggingFace Hubert) names and their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mertric_export.config import MertConfig

Shape = tuple[int, ...]

POSITIONAL = "encoder.pos_conv_embed.conv"
POSITIONAL_WEIGHT = f"{POSITIONAL}.weight"

WEIGHT_NORM_SPELLINGS = (
    (f"{POSITIONAL}.weight_g", f"{POSITIONAL}.weight_v"),
    (f"{POSITIONAL}.parametrizations.weight.original0", f"{POSITIONAL}.parametrizations.weight.original1"),
)
"""Names of the magnitude and the direction of the positional convolution, in both of PyTorch's spellings."""


def tensor_shapes(config: MertConfig) -> dict[str, Shape]:
    """Name and shape of each tensor that inference needs, weight norm folded, in the order of computation."""
    dim = config.hidden_size
    shapes: dict[str, Shape] = {}
    channels = 1
    for index, (width, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        layer = f"feature_extractor.conv_layers.{index}"
        shapes[f"{layer}.conv.weight"] = (width, channels, kernel)
        if config.conv_bias:
            shapes[f"{layer}.conv.bias"] = (width,)
        if index == 0 or config.feat_extract_norm == "layer":
            shapes |= _affine(f"{layer}.layer_norm", (width,))
        channels = width
    if config.feat_proj_layer_norm:
        shapes |= _affine("feature_projection.layer_norm", (channels,))
    shapes |= _affine("feature_projection.projection", (dim, channels))
    shapes |= _affine(POSITIONAL, (dim, dim // config.num_conv_pos_embedding_groups, config.num_conv_pos_embeddings))
    shapes |= _affine("encoder.layer_norm", (dim,))
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _affine(f"{layer}.attention.{projection}", (dim, dim))
        shapes |= _affine(f"{layer}.layer_norm", (dim,))
        shapes |= _affine(f"{layer}.feed_forward.intermediate_dense", (config.intermediate_size, dim))
        shapes |= _affine(f"{layer}.feed_forward.output_dense", (dim, config.intermediate_size))
        shapes |= _affine(f"{layer}.final_layer_norm", (dim,))
    return shapes


def training_shapes(config: MertConfig) -> dict[str, Shape]:
    """Name and shape of each tensor that a released checkpoint may hold and that only training uses."""
    return {"masked_spec_embed": (config.hidden_size,)}


def weight_norm_shapes(config: MertConfig) -> tuple[Shape, Shape]:
    """Shapes of the magnitude and the direction of the positional convolution (weight norm over dim 2)."""
    return (1, 1, config.num_conv_pos_embeddings), tensor_shapes(config)[POSITIONAL_WEIGHT]


def _affine(name: str, weight: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
