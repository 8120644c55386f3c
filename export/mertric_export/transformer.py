"""The encoder graph: the transformer layers, with every hidden state as an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from onnx import TensorProto

from mertric.bundle import PORTABLE
from mertric_export.graph import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import WeightFile

Variant = Literal["fused", "portable", "pointwise"]
SLICES = 4
"""Parts of the feed-forward's inner dimension."""
VARIANTS: tuple[Variant, ...] = ("fused", "portable", "pointwise")


def build_encoder(
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    weights: WeightFile,
    *,
    variant: Variant,
    builder: type[GraphBuilder] = GraphBuilder,
) -> onnx.ModelProto:
    """Build the graph from what enters the first layer to the hidden states.

    ``state_0`` [batch, frames, hidden_size] gives ``state_1`` to ``state_L``, each [batch, frames, hidden_size], all
    float32. In the stable variant of the model ``state_L`` is after the encoder's last LayerNorm. All but ``fused``
    also take ``lengths``, int32 [batch]: frames of a clip from its length on are attended to by none, and what comes
    out for them means nothing.

    Parameters
    ----------
    tensors
        From `mertric_export.centring.centre`.
    variant
        ``fused`` has attention as one ``com.microsoft`` operator, whose CPU and CUDA kernels never form the
        frames x frames matrix. ``portable`` and ``pointwise`` have ONNX operators only; in the latter the product that
        ends each residual branch is a convolution of one tap, to which OpenVINO adds the residual in the same pass,
        where all shapes are fixed.
    builder
        What the graph computes in, see `mertric_export.precisions`.

    Notes
    -----
    All variants share their weights. Where one takes them in another form, scaled, joined or transposed, nodes on
    constants say so, which every runtime computes once, at loading.
    """
    graph = builder(f"encoder-{variant}", weights)
    state = graph.input("state_0", ("batch", "frames", config.hidden_size))
    if variant != "fused":
        graph.input("lengths", ("batch",), TensorProto.INT32)
    Layers(config, tensors, graph, variant).add(state)
    return graph.model()


@dataclass(frozen=True)
class Layers:
    """The layers after hidden state 0, see `build_encoder`."""

    config: MertConfig
    tensors: Mapping[str, NDArray[np.float32]]
    graph: GraphBuilder
    variant: Variant

    def add(self, state: str) -> None:
        """Add them, and an output for each hidden state that they give."""
        value = self._less_mean(state)
        if self.variant in PORTABLE:
            self._mask()
        layer = self._stable_layer if self.config.do_stable_layer_norm else self._layer
        for index in range(self.config.num_hidden_layers):
            value = layer(f"encoder.layers.{index}", value)
            last = index == self.config.num_hidden_layers - 1
            if last and self.config.do_stable_layer_norm:
                value = self._norm("encoder.layer_norm", value)
            self._output(index + 1, value)

    def _output(self, number: int, value: str) -> None:
        """Declare a hidden state an output."""
        dims = ("batch", "frames", self.config.hidden_size)
        self.graph.output(self._with_mean(number, value), f"state_{number}", dims)

    def _less_mean(self, state: str) -> str:
        """Take the mean of hidden state 0 off, where `centre` says so."""
        if (mean := self._mean(0)) is None:
            return state
        return self.graph.node("state_0.centred", "Sub", state, mean)

    def _with_mean(self, number: int, value: str) -> str:
        """Give a hidden state back what `centre` took off."""
        if (mean := self._mean(number)) is None:
            return value
        return self.graph.node(f"state_{number}.whole", "Add", value, mean)

    def _mean(self, number: int) -> str | None:
        name = f"encoder.layers.{number}.mean"
        return self.graph.wide_weight(name, self.tensors[name]) if name in self.tensors else None

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
            graph.wide_weight("mask.inside", np.array(0, np.float32)),
            graph.wide_weight("mask.outside", np.array(np.finfo(np.float32).min / 2, np.float32)),
        )

    def _layer(self, name: str, value: str) -> str:
        """Add a layer with LayerNorm after each residual."""
        value = self._norm(f"{name}.layer_norm", self._attention(f"{name}.attention", value, value))
        return self._norm(f"{name}.final_layer_norm", self._feed_forward(f"{name}.feed_forward", value, value))

    def _stable_layer(self, name: str, value: str) -> str:
        """Add a layer with LayerNorm before attention and before the feed-forward."""
        normed = self._norm(f"{name}.layer_norm", value)
        value = self._attention(f"{name}.attention", normed, value)
        normed = self._norm(f"{name}.final_layer_norm", value)
        return self._feed_forward(f"{name}.feed_forward", normed, value)

    def _attention(self, name: str, value: str, residual: str) -> str:
        """Add attention and its residual."""
        attend = self._plain_attention if self.variant in PORTABLE else self._fused_attention
        linear, attended = f"{name}.out_proj", attend(name, value)
        weight = self.graph.matrix(f"{linear}.weight", self.tensors[f"{linear}.weight"].T)
        return self._residual(
            linear, attended, weight, self._shifted(f"{name}.residual", residual, self.tensors[f"{name}.residual"])
        )

    def _fused_attention(self, name: str, value: str) -> str:
        """Add attention as one operator."""
        graph, projected = self.graph, []
        for part in "qkv":
            weight = graph.matrix(f"{name}.{part}_proj.weight", self.tensors[f"{name}.{part}_proj.weight"].T)
            projected.append(graph.product(f"{name}.{part}", value, weight))
        return graph.node(
            name,
            "MultiHeadAttention",
            *projected,
            graph.weight(f"{name}.bias", self.attention_bias(name)),
            domain=MICROSOFT,
            num_heads=self.config.num_attention_heads,
        )

    def attention_bias(self, name: str) -> NDArray[np.float32]:
        """Return the biases of queries, keys and values, one after the other: float32 [3 * hidden_size]."""
        bias = np.zeros(3 * self.config.hidden_size, np.float32)
        bias[: self.config.hidden_size] = self.tensors[f"{name}.q_proj.bias"]
        return bias

    def _plain_attention(self, name: str, value: str) -> str:
        graph, config = self.graph, self.config
        split = graph.integers(0, 0, config.num_attention_heads, config.head_dim)
        scale = graph.weight("attention.scale", np.array(config.head_dim**-0.5, np.float32))
        heads = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            linear = f"{name}.{part}_proj"
            weight = graph.matrix(f"{linear}.weight", self.tensors[f"{linear}.weight"].T)
            if part == "q":
                weight = graph.scaled(f"{linear}.scaled_weight", weight, scale)
                bias = graph.weight(f"{linear}.bias", self.tensors[f"{linear}.bias"])
                bias = graph.node(f"{linear}.scaled_bias", "Mul", bias, scale)
                projected = graph.product(linear, value, weight, bias)
            else:
                projected = graph.product(linear, value, weight)
            projected = graph.widen(projected)
            parted = graph.node(f"{name}.{part}.parted", "Reshape", projected, split)
            heads[part] = graph.node(f"{name}.{part}", "Transpose", parted, perm=order)
        similarity = graph.node(f"{name}.similarity", "MatMul", heads["q"], heads["k"])
        masked = graph.node(f"{name}.masked", "Add", similarity, "mask")
        shares = graph.node(f"{name}.shares", "Softmax", masked, axis=-1)
        mixed = graph.node(f"{name}.mixed", "MatMul", shares, heads["v"])
        mixed = graph.node(f"{name}.joined", "Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.node(name, "Reshape", mixed, graph.integers(0, 0, config.hidden_size))

    def _feed_forward(self, name: str, value: str, residual: str) -> str:
        """Add the feed-forward and its residual.

        Its weights are stored in slices of the inner dimension, whose activations are the largest of the graph:
        with fused attention, which long audio needs, they are never all there at once.
        """
        graph = self.graph
        inner, outer = f"{name}.intermediate_dense", f"{name}.output_dense"
        shift, constant = self._feed_forward_shift(name)
        if self.variant in PORTABLE:
            weight, bias, mean, after = self._joined_slices(name)
            activated = self._activated(inner, value, weight, bias, mean)
            return self._residual(outer, activated, after, self._shifted(shift, residual, constant))
        total = ""
        for index, (weight, bias, mean, after) in enumerate(self._slices(name)):
            activated = self._activated(f"{inner}.{index}", value, weight, bias, mean)
            product = graph.product(f"{outer}.{index}.product", activated, after)
            total = graph.node(f"{outer}.{index}.sum", "Add", total, product) if total else product
        return graph.node(f"{outer}.residual", "Add", graph.widen(total), self._shifted(shift, residual, constant))

    def _slices(self, name: str) -> list[tuple[str, str, str, str]]:
        """Refer to a feed-forward's slices: first matrix, bias, mean to take off ("" for none) and second matrix."""
        graph, tensors = self.graph, self.tensors
        inner, outer = f"{name}.intermediate_dense", f"{name}.output_dense"
        whole, slices, size = tensors[f"{outer}.weight"].T, [], self.config.intermediate_size
        for index, part in enumerate(np.array_split(np.arange(size), min(SLICES, size))):
            rows = slice(part[0], part[-1] + 1)
            weight = graph.matrix(f"{inner}.{index}.weight", tensors[f"{inner}.weight"][rows].T)
            bias = graph.weight(f"{inner}.{index}.bias", tensors[f"{inner}.bias"][rows])
            after = graph.matrix(f"{outer}.{index}.weight", whole[rows], whole=whole)
            centred = self._centres_inner
            mean = graph.weight(f"{inner}.{index}.mean", tensors[f"{name}.inner_mean"][rows]) if centred else ""
            slices.append((weight, bias, mean, after))
        return slices

    def _joined_slices(self, name: str) -> tuple[str, str, str, str]:
        """Refer to a feed-forward's slices as one, by nodes on constants."""
        graph, inner = self.graph, f"{name}.intermediate_dense"
        weights, biases, means, afters = zip(*self._slices(name), strict=True)
        weight = graph.joined(f"{inner}.weight", weights, axis=1)
        bias = graph.node(f"{inner}.bias", "Concat", *biases, axis=0)
        mean = graph.node(f"{inner}.mean", "Concat", *means, axis=0) if self._centres_inner else ""
        return weight, bias, mean, graph.joined(f"{name}.output_dense.weight", afters, axis=0)

    def _feed_forward_shift(self, name: str) -> tuple[str, NDArray[np.float32]]:
        """Return what `centre` took off a feed-forward, to be added to its residual, and what it goes by."""
        shift = self.tensors[f"{name}.residual"]
        if self._centres_inner:
            return f"{name}.whole_residual", shift + self.tensors[f"{name}.inner_image"]
        return f"{name}.residual", shift

    @property
    def _centres_inner(self) -> bool:
        """Whether to take the mean off what the second product of a feed-forward reads.

        OpenVINO, which rounds by itself, does it in the pass of the GELU; elsewhere it takes a pass of its own, which
        float32 can do without.
        """
        return self.variant in PORTABLE or self.graph.coarse

    def _activated(self, name: str, value: str, weight: str, bias: str, mean: str) -> str:
        """Add the first product of a feed-forward and its GELU, less a mean if there is one."""
        product = self.graph.product(name, value, weight, bias)
        activated = self.graph.node(f"{name}.gelu", "Gelu", self.graph.narrow(product))
        return self.graph.node(f"{name}.centred", "Sub", activated, mean) if mean else activated

    def _shifted(self, name: str, residual: str, constant: NDArray[np.float32]) -> str:
        """Add to a residual what `centre` took off the branch that will be added to it."""
        return self.graph.node(f"{name}.shifted", "Add", residual, self.graph.wide_weight(name, constant))

    def _residual(self, name: str, value: str, weight: str, residual: str) -> str:
        """Add the product that ends a residual branch and the residual, for a weight [in, out]."""
        graph = self.graph
        if self.variant != "pointwise":
            return graph.node(f"{name}.sum", "Add", graph.widen(graph.product(name, value, weight)), residual)
        taps = graph.node(f"{name}.transposed", "Transpose", weight, perm=[1, 0])
        taps = graph.node(f"{name}.taps", "Unsqueeze", taps, graph.integers(2))
        channels = graph.node(f"{name}.channels", "Transpose", value, perm=[0, 2, 1])
        product = graph.node(name, "Conv", channels, taps, kernel_shape=[1])
        before = graph.node(f"{name}.residual", "Transpose", residual, perm=[0, 2, 1])
        return graph.node(
            f"{name}.sum", "Transpose", graph.node(f"{name}.added", "Add", product, before), perm=[0, 2, 1]
        )

    def _norm(self, name: str, value: str) -> str:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return self.graph.layer_norm(name, value, weight, bias, self.config.layer_norm_eps)
