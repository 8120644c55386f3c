"""The encoder graph: positional convolution and transformer layers, with every hidden state as an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mertric_export.graph import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import WeightFile

Variant = Literal["fused", "portable"]
VARIANTS: tuple[Variant, ...] = ("fused", "portable")


def build_encoder(
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    weights: WeightFile,
    *,
    variant: Variant,
) -> onnx.ModelProto:
    """Build the graph from features to hidden states.

    ``features`` [batch, frames, hidden_size] give ``state_0`` to ``state_L``, each [batch, frames, hidden_size],
    all float32. ``state_0`` is what enters the first layer; in the stable variant of the model ``state_L`` is
    after the encoder's last LayerNorm.

    Parameters
    ----------
    variant
        ``fused`` has attention as one ``com.microsoft`` operator, whose CPU and CUDA kernels never form the
        frames x frames matrix. ``portable`` has ONNX operators only.
    """
    builder = _Encoder(config, tensors, GraphBuilder(f"encoder-{variant}", weights), variant)
    return builder.build()


@dataclass(frozen=True)
class _Encoder:
    config: MertConfig
    tensors: Mapping[str, NDArray[np.float32]]
    graph: GraphBuilder
    variant: Variant

    def build(self) -> onnx.ModelProto:
        graph, config = self.graph, self.config
        dims = ("batch", "frames", config.hidden_size)
        features = graph.input("features", dims)
        value = graph.node("positioned", "Add", features, self._positions(features))
        if not config.do_stable_layer_norm:
            value = self._norm("encoder.layer_norm", value)
        layer = self._stable_layer if config.do_stable_layer_norm else self._layer
        for index in range(config.num_hidden_layers):
            graph.output(value, f"state_{index}", dims)
            value = layer(f"encoder.layers.{index}", value)
        if config.do_stable_layer_norm:
            value = self._norm("encoder.layer_norm", value)
        graph.output(value, f"state_{config.num_hidden_layers}", dims)
        return graph.model()

    def _positions(self, features: str) -> str:
        """Add the positional convolution: half its taps to each side; of an even number, one less to come."""
        graph, name = self.graph, "encoder.pos_conv_embed.conv"
        taps = self.config.num_conv_pos_embeddings
        value = graph.node("positions.input", "Transpose", features, perm=[0, 2, 1])
        value = graph.node(
            "positions.conv",
            "Conv",
            value,
            graph.weight(f"{name}.weight", self.tensors[f"{name}.weight"]),
            graph.weight(f"{name}.bias", self.tensors[f"{name}.bias"]),
            group=self.config.num_conv_pos_embedding_groups,
            kernel_shape=[taps],
            pads=[taps // 2, (taps - 1) // 2],
        )
        value = graph.node("positions.gelu", "Gelu", value)
        return graph.node("positions", "Transpose", value, perm=[0, 2, 1])

    def _layer(self, name: str, value: str) -> str:
        """Add a layer with LayerNorm after each residual."""
        value = self.graph.node(f"{name}.attended", "Add", self._attention(f"{name}.attention", value), value)
        value = self._norm(f"{name}.layer_norm", value)
        fed = self._feed_forward(f"{name}.feed_forward", value)
        return self._norm(f"{name}.final_layer_norm", self.graph.node(f"{name}.fed", "Add", fed, value))

    def _stable_layer(self, name: str, value: str) -> str:
        """Add a layer with LayerNorm before attention and before the feed-forward."""
        normed = self._norm(f"{name}.layer_norm", value)
        value = self.graph.node(f"{name}.attended", "Add", self._attention(f"{name}.attention", normed), value)
        normed = self._norm(f"{name}.final_layer_norm", value)
        return self.graph.node(f"{name}.fed", "Add", self._feed_forward(f"{name}.feed_forward", normed), value)

    def _attention(self, name: str, value: str) -> str:
        attend = self._fused_attention if self.variant == "fused" else self._portable_attention
        return self._linear(f"{name}.out_proj", attend(name, value))

    def _fused_attention(self, name: str, value: str) -> str:
        graph = self.graph
        projected = [
            graph.node(
                f"{name}.{part}",
                "MatMul",
                value,
                graph.weight(f"{name}.{part}_proj.weight", self.tensors[f"{name}.{part}_proj.weight"].T),
            )
            for part in "qkv"
        ]
        biases = np.concatenate([self.tensors[f"{name}.{part}_proj.bias"] for part in "qkv"])
        return graph.node(
            name,
            "MultiHeadAttention",
            *projected,
            graph.weight(f"{name}.qkv_bias", biases),
            domain=MICROSOFT,
            num_heads=self.config.num_attention_heads,
        )

    def _portable_attention(self, name: str, value: str) -> str:
        graph, config = self.graph, self.config
        split = graph.integers(0, 0, config.num_attention_heads, config.head_dim)
        heads = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            projected = self._linear(f"{name}.{part}_proj", value)
            parted = graph.node(f"{name}.{part}.parted", "Reshape", projected, split)
            heads[part] = graph.node(f"{name}.{part}", "Transpose", parted, perm=order)
        scale = graph.weight("attention.scale", np.array(config.head_dim**-0.5, np.float32))
        query = graph.node(f"{name}.scaled", "Mul", heads["q"], scale)
        similarity = graph.node(f"{name}.similarity", "MatMul", query, heads["k"])
        shares = graph.node(f"{name}.shares", "Softmax", similarity, axis=-1)
        mixed = graph.node(f"{name}.mixed", "MatMul", shares, heads["v"])
        mixed = graph.node(f"{name}.joined", "Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.node(name, "Reshape", mixed, graph.integers(0, 0, config.hidden_size))

    def _feed_forward(self, name: str, value: str) -> str:
        inner = self.graph.node(f"{name}.gelu", "Gelu", self._linear(f"{name}.intermediate_dense", value))
        return self._linear(f"{name}.output_dense", inner)

    def _linear(self, name: str, value: str) -> str:
        return self.graph.linear(name, value, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _norm(self, name: str, value: str) -> str:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return self.graph.layer_norm(name, value, weight, bias, self.config.layer_norm_eps)
