"""MERT's forward pass in NumPy, in float64 or less, written from the definition of HuBERT.

It is slow and plain on purpose: the figures that an exported bundle is held against come from here, so it
shares nothing with the graph builder and uses none of its rearrangements.

Hsu et al. 2021, HuBERT (arXiv 2106.07447); Baevski et al. 2020, wav2vec 2.0 (arXiv 2006.11477), whose front
end and positional convolution it takes over; Li et al. 2024, MERT (arXiv 2306.00107).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erf, softmax

from mertric.errors import InputError
from mertric_export.config import CONV_NORM_EPS, NORMALIZE_EPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from mertric_export.checkpoint import Checkpoint
    from mertric_export.config import MertConfig

    Array = NDArray[np.floating[Any]]
    Tensors = Mapping[str, NDArray[np.float32]]
    Visit = Callable[[str, Array], None]


def hidden_states(
    checkpoint: Checkpoint,
    samples: ArrayLike,
    *,
    dtype: type[np.floating[Any]] = np.float64,
    visit: Visit = lambda *_: None,
) -> list[Array]:
    """All hidden states of one clip.

    Parameters
    ----------
    checkpoint : Checkpoint
        Configuration and weights.
    samples : array of shape [n]
        Mono audio at `checkpoint.config.sample_rate`, as decoded: zero mean and unit variance are made here.
        At least `checkpoint.config.receptive_field` samples, finite.
    dtype : type
        What is computed in.
    visit : callable
        Called with ``encoder.layers.N.attention``, ``encoder.layers.N.feed_forward`` and
        ``encoder.layers.N.feed_forward.output_dense`` and what goes into each: [frames, width].

    Returns
    -------
    list of arrays of shape [frames, hidden_size]
        `num_hidden_layers` + 1 of them. The first is what enters the first layer; with `do_stable_layer_norm`
        the last is after the encoder's final LayerNorm.

    Raises
    ------
    InputError
        `samples` has another shape, is too short or is not finite.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    signal = np.asarray(samples, np.float64)
    if signal.ndim != 1 or len(signal) < config.receptive_field or not np.isfinite(signal).all():
        raise InputError(
            f"samples have shape {signal.shape}; expected one dimension of at least {config.receptive_field} "
            "finite values: mono audio, in one array. Average the channels, or give a longer clip."
        )
    normal = (signal - signal.mean()) / np.sqrt(signal.var() + NORMALIZE_EPS)
    features = _front_end(config, tensors, normal.astype(dtype))
    return _encoder(config, tensors, features, visit)


def _front_end(config: MertConfig, tensors: Tensors, signal: Array) -> Array:
    """Strided convolutions, then the projection (wav2vec 2.0, section 2)."""
    x = signal[:, None]
    for index, stride in enumerate(config.conv_stride):
        layer = f"feature_extractor.conv_layers.{index}"
        x = _convolve(x, tensors[f"{layer}.conv.weight"], stride)
        if config.conv_bias:
            x = x + tensors[f"{layer}.conv.bias"]
        if config.feat_extract_norm == "layer":
            x = _normalize(tensors, f"{layer}.layer_norm", x, CONV_NORM_EPS)
        elif index == 0:
            x = _normalize(tensors, f"{layer}.layer_norm", x, CONV_NORM_EPS, axis=0)
        x = _gelu(x)
    if config.feat_proj_layer_norm:
        x = _normalize(tensors, "feature_projection.layer_norm", x, config.layer_norm_eps)
    return _linear(tensors, "feature_projection.projection", x)


def _encoder(config: MertConfig, tensors: Tensors, x: Array, visit: Visit = lambda *_: None) -> list[Array]:
    """Positional convolution and transformer layers (HuBERT, section II-A)."""
    eps, final = config.layer_norm_eps, "encoder.layer_norm"
    x = x + _positions(config, tensors, x)
    if not config.do_stable_layer_norm:
        x = _normalize(tensors, final, x, eps)
    states = [x]
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layers.{index}"
        for name, branch, norm in (
            (f"{layer}.attention", _attention, f"{layer}.layer_norm"),
            (f"{layer}.feed_forward", _feed_forward, f"{layer}.final_layer_norm"),
        ):
            before = _normalize(tensors, norm, x, eps) if config.do_stable_layer_norm else x
            visit(name, before)
            after = branch(config, tensors, name, before, visit)
            x = x + after if config.do_stable_layer_norm else _normalize(tensors, norm, x + after, eps)
        states.append(x)
    if config.do_stable_layer_norm:
        states[-1] = _normalize(tensors, final, states[-1], eps)
    return states


def _positions(config: MertConfig, tensors: Tensors, x: Array) -> Array:
    """Grouped convolution of the whole sequence, as long as it (wav2vec 2.0, section 2)."""
    name = "encoder.pos_conv_embed.conv"
    taps, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    padded = np.pad(x, ((taps // 2, taps // 2), (0, 0)))
    inputs = np.split(padded, groups, axis=1)
    weights = np.split(tensors[f"{name}.weight"], groups, axis=0)
    parts = [_convolve(part, weight, 1) for part, weight in zip(inputs, weights, strict=True)]
    return _gelu((np.concatenate(parts, axis=1) + tensors[f"{name}.bias"])[: len(x)])


def _attention(config: MertConfig, tensors: Tensors, name: str, x: Array, _: Visit) -> Array:
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""
    query, key, value = (
        _linear(tensors, f"{name}.{part}_proj", x)
        .reshape(len(x), config.num_attention_heads, config.head_dim)
        .transpose(1, 0, 2)
        for part in "qkv"
    )
    weights = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(config.head_dim), axis=-1)
    joined = (weights @ value).transpose(1, 0, 2).reshape(x.shape)
    return _linear(tensors, f"{name}.out_proj", joined)


def _feed_forward(_: MertConfig, tensors: Tensors, name: str, x: Array, visit: Visit) -> Array:
    x = _gelu(_linear(tensors, f"{name}.intermediate_dense", x))
    visit(f"{name}.output_dense", x)
    return _linear(tensors, f"{name}.output_dense", x)


def _convolve(x: Array, weight: NDArray[np.float32], stride: int) -> Array:
    """Cross-correlation over time: x [time, in], weight [out, in, taps] to [time', out]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2], axis=0)[::stride]
    return np.tensordot(windows, weight.astype(x.dtype), axes=([1, 2], [1, 2]))


def _linear(tensors: Tensors, name: str, x: Array) -> Array:
    return x @ tensors[f"{name}.weight"].T.astype(x.dtype) + tensors[f"{name}.bias"]


def _normalize(tensors: Tensors, name: str, x: Array, eps: float, axis: int = -1) -> Array:
    """LayerNorm over channels (axis -1) or, over time (axis 0), GroupNorm with one group per channel."""
    centred = x - x.mean(axis=axis, keepdims=True)
    scaled = centred / np.sqrt(x.var(axis=axis, keepdims=True) + eps)
    return np.asarray(scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"])


def _gelu(x: Array) -> Array:
    """Hendrycks & Gimpel 2016: x Phi(x), with the erf, not its tanh approximation."""
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))
