"""The front-end graph: seven convolutions and the projection, local in time, so that it runs over any chunk.

The first convolution's weights are an input: the runtime folds a clip's normalisation and GroupNorm into them.
A convolution of stride 2 over a channels-last sequence is a product over pairs of rows. A third tap sees the first
row of the next pair, in a product of its own or beside the pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import ConfigurationError
from mertric_export.config import CONV_NORM_EPS
from mertric_export.graph import GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import WeightFile

CONV = "feature_extractor.conv_layers"
WHOLE = 3
"""The first convolution whose three taps may be one product (`GraphBuilder.joins_rows`).

The copies that it takes cost more than that is worth where there are more rows; from here on they are few.
"""


def alignment(config: MertConfig) -> int:
    """Rows of the first convolution per frame: the product of the later strides.

    Raises
    ------
    ConfigurationError
        A later convolution has another stride than 2, or other taps than 2 or 3.
    """
    for field, sizes, supported in (
        ("conv_stride", config.conv_stride[1:], (2,)),
        ("conv_kernel", config.conv_kernel[1:], (2, 3)),
    ):
        if any(size not in supported for size in sizes):
            expected = " or ".join(map(str, supported))
            raise ConfigurationError(
                f"{field} is {list(getattr(config, field))}; after the first convolution only {expected} is "
                "supported, as in every MERT-v1 model. Use a checkpoint of that kind."
            )
    return int(2 ** len(config.conv_stride[1:]))


def build_frontend(
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    weights: WeightFile,
    *,
    builder: type[GraphBuilder] = GraphBuilder,
) -> onnx.ModelProto:
    """Build the graph from windows of samples to what enters the encoder.

    With `a` rows a frame (see `alignment`), `k` taps and `c` channels of the first convolution:
    ``windows`` [batch, a * (frames + 1), columns] and ``weights`` [batch, columns, c] give ``features``
    [batch, frames, hidden_size], all float32. There are k + 1 columns, of which the last is 1, or those of
    `mertric.fold.FoldedClip.split`. Rows past those that the frames see may hold anything finite. `builder` decides
    what the graph computes in, see `mertric_export.precisions`.
    """
    graph = builder("frontend", weights)
    windows = graph.input("windows", ("batch", "rows", "columns"))
    folded = graph.input("weights", ("batch", "columns", config.conv_dim[0]))
    value = add_frontend(graph, config, tensors, graph.node("conv0.product", "MatMul", windows, folded))
    graph.output(value, "features", ("batch", "frames", config.hidden_size))
    return graph.model()


def add_frontend(
    graph: GraphBuilder,
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    value: str,
    *,
    spare: int = 1,
) -> str:
    """Add what follows the first convolution, `value` [batch, a * (frames + spare), c]: [batch, frames, hidden_size].

    Raises
    ------
    ConfigurationError
        See `alignment`.
    """
    alignment(config)
    value = _activate(graph, config, tensors, 0, value)
    for layer in range(1, len(config.conv_dim)):
        value = _convolve(graph, config, tensors, layer, value)
        value = _activate(graph, config, tensors, layer, value)
    value = graph.node("whole", "Slice", value, graph.integers(0), graph.integers(-spare), graph.integers(1))
    projection = "feature_projection"
    if config.feat_proj_layer_norm:
        norm = f"{projection}.layer_norm"
        value = graph.layer_norm(norm, value, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"], config.layer_norm_eps)
    linear = f"{projection}.projection"
    return graph.linear(linear, value, tensors[f"{linear}.weight"], tensors[f"{linear}.bias"])


def _convolve(
    graph: GraphBuilder,
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    layer: int,
    value: str,
) -> str:
    """Add a convolution of stride 2 over [batch, rows, channels]; the rows, an even number, are halved."""
    taps = np.ascontiguousarray(tensors[f"{CONV}.{layer}.conv.weight"].transpose(2, 1, 0))
    product = (_convolve_rows if graph.convolves_rows else _multiply)(graph, layer, value, taps)
    if config.conv_bias:
        bias = graph.weight(f"{CONV}.{layer}.bias", tensors[f"{CONV}.{layer}.conv.bias"])
        product = graph.node(f"conv{layer}.biased", "Add", product, bias)
    return product


def _multiply(graph: GraphBuilder, layer: int, value: str, taps: NDArray[np.float32]) -> str:
    """Add a convolution as products, for a weight [taps, in, out]."""
    name, channels, matrices = f"conv{layer}", taps.shape[1], _matrices(graph, layer, taps)
    pairs = graph.node(f"{name}.pairs", "Reshape", value, graph.integers(0, -1, 2 * channels))
    if len(taps) == 3 and len(matrices) == 1:
        following = graph.following(f"{name}.next", pairs, channels)
        windows = graph.node(f"{name}.windows", "Concat", pairs, following, axis=-1)
        return graph.product(f"{name}.product", windows, *matrices)
    product = graph.product(f"{name}.product", pairs, matrices[0])
    for third in matrices[1:]:
        following = graph.following(f"{name}.next", pairs, channels)
        product = graph.node(f"{name}.sum", "Add", product, graph.product(f"{name}.third", following, third))
    return product


def _convolve_rows(graph: GraphBuilder, layer: int, value: str, taps: NDArray[np.float32]) -> str:
    """Add a convolution as an operator, between the transpositions that it takes and ONNX Runtime may spare."""
    name, (count, channels, _) = f"conv{layer}", taps.shape
    weight = graph.node(f"{name}.taps", "Concat", *_matrices(graph, layer, taps), axis=0)
    weight = graph.node(f"{name}.parted", "Reshape", weight, graph.integers(count, channels, -1))
    weight = graph.node(f"{name}.weight", "Transpose", weight, perm=[2, 1, 0])
    value = graph.node(f"{name}.channels", "Transpose", value, perm=[0, 2, 1])
    value = graph.node(
        f"{name}.convolved", "Conv", value, weight, kernel_shape=[count], strides=[2], pads=[0, count - 2]
    )
    return graph.node(f"{name}.product", "Transpose", value, perm=[0, 2, 1])


def _matrices(graph: GraphBuilder, layer: int, taps: NDArray[np.float32]) -> list[str]:
    """Refer to a weight [taps, in, out] as one matrix [taps * in, out], or as one of two taps and one of a third."""
    channels = taps.shape[1]
    if len(taps) == 3 and layer >= WHOLE and graph.joins_rows:
        return [graph.matrix(f"{CONV}.{layer}.whole", taps.reshape(3 * channels, -1))]
    pair = graph.matrix(f"{CONV}.{layer}.pair", taps[:2].reshape(2 * channels, -1))
    return [pair, *(graph.matrix(f"{CONV}.{layer}.third", tap) for tap in taps[2:])]


def _activate(
    graph: GraphBuilder,
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    layer: int,
    value: str,
) -> str:
    if config.feat_extract_norm == "layer":
        norm = f"{CONV}.{layer}.layer_norm"
        value = graph.layer_norm(
            f"conv{layer}.norm", value, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"], CONV_NORM_EPS
        )
    return graph.gelu(f"conv{layer}", graph.narrow(value), config.conv_dim[layer])
