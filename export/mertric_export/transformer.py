"""The encoder graph: the transformer layers, with every hidden state as an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from onnx import TensorProto

from mertric_export.graph import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import WeightFile

Variant = Literal["fused", "ragged", "portable"]
SLICES = 2
"""Parts of the feed-forward's inner dimension."""
VARIANTS: tuple[Variant, ...] = ("fused", "ragged", "portable")


def build_encoder(
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    weights: WeightFile,
    *,
    variant: Variant,
) -> onnx.ModelProto:
    """Build the graph from what enters the first layer to the hidden states.

    ``state_0`` [batch, frames, hidden_size] gives ``state_1`` to ``state_L``, each [batch, frames, hidden_size], all
    float32. In the stable variant of the model ``state_L`` is after the encoder's last LayerNorm. All but ``fused``
    also take ``lengths``, int32 [batch]: frames of a clip from its length on are attended to by none, and what comes
    out for them means nothing.

    Parameters
    ----------
    variant
        ``fused`` and ``ragged`` have attention as one ``com.microsoft`` operator, whose CUDA kernel, and without
        ``lengths`` CPU kernel, never forms the frames x frames matrix. ``portable`` has ONNX operators only.
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
        value = graph.input("state_0", dims)
        if self.variant != "fused":
            graph.input("lengths", ("batch",), TensorProto.INT32)
        if self.variant == "portable":
            self._mask()
        layer = self._stable_layer if config.do_stable_layer_norm else self._layer
        for index in range(config.num_hidden_layers):
            value = layer(f"encoder.layers.{index}", value)
            last = index == config.num_hidden_layers - 1
            if last and config.do_stable_layer_norm:
                value = self._norm("encoder.layer_norm", value)
            graph.output(value, f"state_{index + 1}", dims)
        return graph.model()

    def _mask(self) -> None:
        """Add ``mask`` [batch, 1, 1, frames] from ``lengths``: 0 within a clip, so low that its share is 0 beyond."""
        graph = self.graph
        frames = graph.node("frames", "Shape", "state_0", start=1, end=2)
        count = graph.node("count", "Squeeze", frames, graph.integers(0))
        indices = graph.node("indices", "Range", graph.integer(0), count, graph.integer(1))
        lengths = graph.node("long", "Cast", "lengths", to=TensorProto.INT64)
        lengths = graph.node("limits", "Unsqueeze", lengths, graph.integers(1, 2, 3))
        inside = graph.node("inside", "Less", indices, lengths)
        graph.node(
            "mask",
            "Where",
            inside,
            graph.weight("mask.inside", np.array(0, np.float32)),
            graph.weight("mask.outside", np.array(np.finfo(np.float32).min / 2, np.float32)),
        )

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
        attend = self._portable_attention if self.variant == "portable" else self._fused_attention
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
            *(["lengths"] if self.variant == "ragged" else []),
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
        masked = graph.node(f"{name}.masked", "Add", similarity, "mask")
        shares = graph.node(f"{name}.shares", "Softmax", masked, axis=-1)
        mixed = graph.node(f"{name}.mixed", "MatMul", shares, heads["v"])
        mixed = graph.node(f"{name}.joined", "Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.node(name, "Reshape", mixed, graph.integers(0, 0, config.hidden_size))

    def _feed_forward(self, name: str, value: str) -> str:
        """Add the feed-forward in slices of its inner dimension, whose activations are the largest of the graph."""
        graph, tensors = self.graph, self.tensors
        inner, outer = f"{name}.intermediate_dense", f"{name}.output_dense"
        total = ""
        for index, part in enumerate(np.array_split(np.arange(self.config.intermediate_size), SLICES)):
            rows = slice(part[0], part[-1] + 1)
            weight, bias = tensors[f"{inner}.weight"][rows], tensors[f"{inner}.bias"][rows]
            activated = graph.linear(f"{inner}.{index}", value, weight, bias)
            activated = graph.node(f"{name}.gelu.{index}", "Gelu", activated)
            columns = graph.weight(f"{outer}.{index}.weight", tensors[f"{outer}.weight"][:, rows].T)
            product = graph.node(f"{outer}.{index}.product", "MatMul", activated, columns)
            total = graph.node(f"{outer}.{index}.sum", "Add", total, product) if total else product
        return graph.node(outer, "Add", total, graph.weight(f"{outer}.bias", tensors[f"{outer}.bias"]))

    def _linear(self, name: str, value: str) -> str:
        return self.graph.linear(name, value, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _norm(self, name: str, value: str) -> str:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return self.graph.layer_norm(name, value, weight, bias, self.config.layer_norm_eps)
