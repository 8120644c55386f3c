"""The transformer layers as GPUs run them fastest: with few, large operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mertric_export.graph import MICROSOFT
from mertric_export.transformer import Layers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Branch(NamedTuple):
    """What a branch gives before it is added to its residual: a value, and by its name a constant to add to that."""

    value: str
    shift: str
    constant: NDArray[np.float32]


class ClipLayers(Layers):
    """Layers of ONNX Runtime's own operators, which its CPU provider has too.

    Products that read the same are one, each residual is added in the pass of the LayerNorm that follows it, and the
    feed-forward is not in slices, as GPUs have the memory for that.
    """

    def add(self, state: str) -> None:
        """Add them, and an output for each hidden state that they give."""
        value = self._less_mean(state)
        if self.config.do_stable_layer_norm:
            self._add_stable(value)
            return
        for index in range(self.config.num_hidden_layers):
            layer = f"encoder.layers.{index}"
            value, _ = self._add_normed(f"{layer}.layer_norm", self._attend(f"{layer}.attention", value), value)
            fed = self._feed(f"{layer}.feed_forward", value)
            value, _ = self._add_normed(f"{layer}.final_layer_norm", fed, value)
            self._output(index + 1, value)

    def _add_stable(self, value: str) -> None:
        """Add layers with LayerNorm before attention and before the feed-forward, and one at the end."""
        layers = [f"encoder.layers.{index}" for index in range(self.config.num_hidden_layers)]
        norms = [*(f"{layer}.layer_norm" for layer in layers), "encoder.layer_norm"]
        normed = self._norm(norms[0], value)
        for number, layer in enumerate(layers, 1):
            attended = self._attend(f"{layer}.attention", normed)
            normed, value = self._add_normed(f"{layer}.final_layer_norm", attended, value)
            fed = self._feed(f"{layer}.feed_forward", normed)
            normed, value = self._add_normed(norms[number], fed, value)
            self._output(number, normed if number == len(layers) else value)

    def _attend(self, name: str, value: str) -> _Branch:
        """Add attention, up to the product that ends it."""
        graph, linear = self.graph, f"{name}.out_proj"
        attended = self._joined_attention(name, value) if graph.joins_attention else self._fused_attention(name, value)
        weight = graph.matrix(f"{linear}.weight", self.tensors[f"{linear}.weight"].T)
        shift = f"{name}.residual"
        return _Branch(graph.product(linear, attended, weight), shift, self.tensors[shift])

    def _joined_attention(self, name: str, value: str) -> str:
        """Add attention with the products of queries, keys and values as one operator."""
        graph = self.graph
        parts = [f"{name}.{part}_proj.weight" for part in "qkv"]
        weights = [graph.matrix(part, self.tensors[part].T) for part in parts]
        return graph.node(
            name,
            "Attention",
            graph.narrow(value),
            graph.joined(f"{name}.weight", weights, axis=1),
            graph.weight(f"{name}.bias", self.attention_bias(name)),
            domain=MICROSOFT,
            num_heads=self.config.num_attention_heads,
        )

    def _feed(self, name: str, value: str) -> _Branch:
        """Add the feed-forward, up to the product that ends it."""
        graph, inner = self.graph, f"{name}.intermediate_dense"
        weight, bias, mean, after = self._joined_slices(name)
        activated = graph.biased_gelu(f"{inner}.gelu", graph.narrow(graph.product(inner, value, weight)), bias)
        if mean:
            activated = graph.node(f"{inner}.centred", "Sub", activated, mean)
        return _Branch(graph.product(f"{name}.output_dense", activated, after), *self._feed_forward_shift(name))

    def _add_normed(self, norm: str, branch: _Branch, residual: str) -> tuple[str, str]:
        """Add a branch to its residual; return the LayerNorm of the sum, and the sum, which stable layers need."""
        graph = self.graph
        total = f"{norm}.sum"
        graph.nodes(
            norm,
            "SkipLayerNormalization",
            [
                graph.widen(branch.value),
                residual,
                graph.wide_weight(f"{norm}.weight", self.tensors[f"{norm}.weight"]),
                graph.wide_weight(f"{norm}.bias", self.tensors[f"{norm}.bias"]),
                graph.wide_weight(branch.shift, branch.constant),
            ],
            [norm, "", "", total] if self.config.do_stable_layer_norm else [norm],
            domain=MICROSOFT,
            epsilon=self.config.layer_norm_eps,
        )
        return norm, total
