"""The positional convolution, local in time like the front end, so that it runs over chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric_export.graph import END, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import WeightFile

CONV = "encoder.pos_conv_embed.conv"
BLOCK = 8
"""Frames that one row of a product gives, see `_multiply`: more take larger weights, fewer more copies of the input."""


def build_positions(
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    weights: WeightFile,
    *,
    builder: type[GraphBuilder] = GraphBuilder,
) -> onnx.ModelProto:
    """Build the graph from features to what enters the first layer, hidden state 0.

    With k taps, ``features`` [batch, frames + k - 1, hidden_size] give ``state_0`` [batch, frames, hidden_size],
    float32: each frame needs k // 2 features before it and (k - 1) // 2 after it, which are zero beyond a clip.
    `builder` decides what the graph computes in, see `mertric_export.precisions`.
    """
    graph = builder("positions", weights)
    before, after = reach(config)
    features = graph.input("features", ("batch", "padded", config.hidden_size))
    ends = graph.integers(-after if after else END)
    own = graph.node("own", "Slice", features, graph.integers(before), ends, graph.integers(1))
    value = add_positions(graph, config, tensors, features, own)
    graph.output(value, "state_0", ("batch", "frames", config.hidden_size))
    return graph.model()


def reach(config: MertConfig) -> tuple[int, int]:
    """Frames that the positional convolution sees before and after a frame."""
    taps = config.num_conv_pos_embeddings
    return taps // 2, (taps - 1) // 2


def add_positions(
    graph: GraphBuilder, config: MertConfig, tensors: Mapping[str, NDArray[np.float32]], features: str, own: str
) -> str:
    """Add the positional convolution and what follows it up to the first layer.

    Parameters
    ----------
    features
        [batch, frames + taps - 1, hidden_size]
    own
        Those of them that are the frames' own, [batch, frames, hidden_size], float32.
    """
    weight = graph.weight(f"{CONV}.weight", tensors[f"{CONV}.weight"])
    bias = graph.weight(f"{CONV}.bias", tensors[f"{CONV}.bias"])
    features = graph.narrow(features)
    if graph.convolves:
        value = _convolve(graph, config, features, weight, bias)
    else:
        value = _multiply(graph, config, features, own, weight, bias)
    value = graph.node("positioned", "Add", own, graph.widen(value))
    if config.do_stable_layer_norm:
        return value
    norm = "encoder.layer_norm"
    return graph.layer_norm(norm, value, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"], config.layer_norm_eps)


def _convolve(graph: GraphBuilder, config: MertConfig, features: str, weight: str, bias: str) -> str:
    """Add the convolution and its GELU as operators."""
    value = graph.node("transposed", "Transpose", features, perm=[0, 2, 1])
    value = graph.node(
        "conv",
        "Conv",
        value,
        weight,
        bias,
        group=config.num_conv_pos_embedding_groups,
        kernel_shape=[config.num_conv_pos_embeddings],
    )
    return graph.node("positions", "Transpose", graph.node("gelu", "Gelu", value), perm=[0, 2, 1])


def _multiply(graph: GraphBuilder, config: MertConfig, features: str, own: str, weight: str, bias: str) -> str:
    """Add the convolution as one product a group, and its GELU.

    cuDNN has no fast kernel for so many taps and so narrow groups, and in float16 ONNX Runtime finds none at all. With
    `BLOCK` frames in a row, a row of the product reads the blocks that the taps reach, and gives a block: its matrix
    holds the weights `BLOCK` times, each a frame further, between zeros.
    """
    groups, taps = config.num_conv_pos_embedding_groups, config.num_conv_pos_embeddings
    width = config.hidden_size // groups
    blocks = -(-(BLOCK + taps - 1) // BLOCK)
    matrix = _matrix(graph, groups, width, taps, blocks, weight)
    batch = graph.node("pos.batch", "Shape", own, start=0, end=1)
    frames = graph.node("pos.frames", "Shape", own, start=1, end=2)
    rows = graph.node("pos.above", "Add", frames, graph.integers(BLOCK - 1))
    rows = graph.node("pos.rows", "Div", rows, graph.integers(BLOCK))
    needed = graph.node("pos.blocks", "Add", rows, graph.integers(blocks - 1))
    needed = graph.node("pos.needed", "Mul", needed, graph.integers(BLOCK))
    length = graph.node("pos.length", "Add", frames, graph.integers(taps - 1))
    missing = graph.node("pos.missing", "Sub", needed, length)
    pads = graph.node("pos.pads", "Concat", graph.integers(0, 0, 0, 0), missing, graph.integers(0), axis=0)
    value = graph.node("pos.padded", "Pad", features, pads)
    value = graph.node("pos.split", "Reshape", value, graph.integers(0, -1, BLOCK, groups, width))
    value = graph.node("pos.groups", "Transpose", value, perm=[3, 0, 1, 2, 4])
    value = graph.node("pos.parted", "Reshape", value, graph.integers(0, 0, -1, BLOCK * width))
    count = graph.node("pos.count", "Squeeze", rows, graph.integers(0))
    first = graph.node("pos.range", "Range", graph.integer(0), count, graph.integer(1))
    first = graph.node("pos.first", "Unsqueeze", first, graph.integers(1))
    seen = graph.node("pos.seen", "Add", first, graph.integers(*range(blocks)))
    value = graph.node("pos.gathered", "Gather", value, seen, axis=2)
    value = graph.node("pos.windows", "Reshape", value, graph.integers(0, -1, blocks * BLOCK * width))
    value = graph.node("pos.product", "MatMul", value, matrix)
    shape = graph.node(
        "pos.shape", "Concat", graph.integers(groups), batch, graph.integers(-1), graph.integers(width), axis=0
    )
    value = graph.node("pos.rowed", "Reshape", value, shape)
    value = graph.node("pos.joined", "Transpose", value, perm=[1, 2, 0, 3])
    value = graph.node("pos.flat", "Reshape", value, graph.integers(0, 0, config.hidden_size))
    value = graph.node("pos.own", "Slice", value, graph.integers(0), frames, graph.integers(1))
    return graph.node("positions", "Gelu", graph.node("pos.biased", "Add", value, bias))


def _matrix(graph: GraphBuilder, groups: int, width: int, taps: int, blocks: int, weight: str) -> str:
    """Lay a weight [groups * width, width, taps] out for `_multiply`, by nodes on constants."""
    parted = graph.node("pos.weight", "Reshape", weight, graph.integers(groups, width, width, taps))
    turned = graph.node("pos.turned", "Transpose", parted, perm=[0, 3, 2, 1])
    spare = blocks * BLOCK - taps

    def zeros(count: int) -> list[str]:
        if not count:
            return []
        return [graph.weight(f"{CONV}.zeros.{count}", np.zeros((groups, count, width, width), np.float32))]

    shifted = [
        graph.node(f"pos.shifted.{frame}", "Concat", *zeros(frame), turned, *zeros(spare - frame), axis=1)
        for frame in range(BLOCK)
    ]
    joined = graph.node("pos.shifts", "Concat", *shifted, axis=3)
    return graph.node("pos.matrix", "Reshape", joined, graph.integers(groups, blocks * BLOCK * width, BLOCK * width))
