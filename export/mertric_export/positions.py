"""The positions graph: the positional convolution, local in time like the front end, so that it runs over chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric_export.graph import END, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import WeightFile


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
    name, taps = "encoder.pos_conv_embed.conv", config.num_conv_pos_embeddings
    before, after = taps // 2, (taps - 1) // 2
    features = graph.input("features", ("batch", "padded", config.hidden_size))
    value = graph.node("transposed", "Transpose", graph.narrow(features), perm=[0, 2, 1])
    value = graph.node(
        "conv",
        "Conv",
        value,
        graph.weight(f"{name}.weight", tensors[f"{name}.weight"]),
        graph.weight(f"{name}.bias", tensors[f"{name}.bias"]),
        group=config.num_conv_pos_embedding_groups,
        kernel_shape=[taps],
    )
    value = graph.node("positions", "Transpose", graph.node("gelu", "Gelu", value), perm=[0, 2, 1])
    ends = graph.integers(-after if after else END)
    own = graph.node("own", "Slice", features, graph.integers(before), ends, graph.integers(1))
    value = graph.node("positioned", "Add", own, graph.widen(value))
    if not config.do_stable_layer_norm:
        norm = "encoder.layer_norm"
        scale, offset = tensors[f"{norm}.weight"], tensors[f"{norm}.bias"]
        value = graph.layer_norm(norm, value, scale, offset, config.layer_norm_eps)
    graph.output(value, "state_0", ("batch", "frames", config.hidden_size))
    return graph.model()
