"""The normalisation of clips and its fold into the first convolution, as nodes: `mertric.fold` for GPUs, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from mertric_export.config import CONV_NORM_EPS, NORMALIZE_EPS
from mertric_export.frontend import CONV, alignment
from mertric_export.graph import END

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import GraphBuilder


def add_fold(
    graph: GraphBuilder, config: MertConfig, tensors: Mapping[str, NDArray[np.float32]], samples: str, sizes: str
) -> tuple[str, str]:
    """Add the windows of clips at zero mean and unit variance, and the weights that are folded for them.

    Parameters
    ----------
    samples
        Float32 [batch, blocks, s], with s samples between two windows: each clip's, one after the other, then zeros.
    sizes
        Int64 [batch], samples of each clip.

    Returns
    -------
    tuple of str
        With k taps and c channels, the windows, float32 [batch, rows, k], and the weights, float32
        [batch, k + 1, c] or [k + 1, c], the last row the biases.

    Notes
    -----
    See `mertric.fold.fold` for the formulas.
    """
    size = graph.node("fold.size", "Unsqueeze", sizes, graph.integers(1, 2))
    exact = _windows(graph, config, _normalized(graph, config, samples, size))
    windows = graph.node("fold.windows", "Cast", exact, to=TensorProto.FLOAT)
    weight = tensors[f"{CONV}.0.conv.weight"][:, 0].astype(np.float64)
    if config.feat_extract_norm == "group":
        norm = f"{CONV}.0.layer_norm"
        scale, offset = (tensors[f"{norm}.{part}"].astype(np.float64)[:, None] for part in ("weight", "bias"))
        return windows, _folded(graph, weight, scale, offset, *_moments(graph, config, exact, size))
    bias = tensors.get(f"{CONV}.0.conv.bias", np.zeros(len(weight)))
    return windows, graph.wide_weight("fold.constant", np.concatenate([weight.T, [bias]]).astype(np.float32))


def _normalized(graph: GraphBuilder, config: MertConfig, samples: str, size: str) -> str:
    """Bring clips to zero mean and unit variance: float64 [batch, blocks, s], zeros past their ends."""
    stride, axes = config.conv_stride[0], graph.integers(1, 2)
    count = graph.node("fold.samples", "Cast", size, to=TensorProto.DOUBLE)
    exact = graph.node("fold.exact", "Cast", samples, to=TensorProto.DOUBLE)
    mean = graph.node("fold.mean", "Div", graph.node("fold.total", "ReduceSum", exact, axes), count)
    first = graph.node("fold.first", "Mul", _column(graph, "fold.blocks", samples), graph.integers(stride))
    place = graph.node("fold.place", "Add", first, graph.integers(*range(stride)))
    inside = graph.node("fold.inside", "Less", place, size)
    centred = graph.node("fold.centred", "Where", inside, graph.node("fold.shifted", "Sub", exact, mean), _zero(graph))
    power = graph.node("fold.power", "ReduceSum", graph.node("fold.square", "Mul", centred, centred), axes)
    variance = graph.node("fold.variance", "Div", power, count)
    return graph.node("fold.normalized", "Div", centred, _root(graph, "fold.deviation", variance, NORMALIZE_EPS))


def _windows(graph: GraphBuilder, config: MertConfig, samples: str) -> str:
    """Put side by side the blocks that each window reaches: [batch, rows, taps]."""
    stride, taps = config.conv_stride[0], config.conv_kernel[0]
    blocks = -(-taps // stride)
    parts = []
    for index in range(blocks):
        name, rest = f"fold.part.{index}", taps - index * stride
        start, end = graph.integers(index), graph.integers(index - blocks + 1 or END)
        part = graph.node(name, "Slice", samples, start, end, graph.integers(1))
        if rest < stride:
            part = graph.node(f"{name}.cut", "Slice", part, graph.integers(0), graph.integers(rest), graph.integers(2))
        parts.append(part)
    return graph.node("fold.taps", "Concat", *parts, axis=2)


def _moments(graph: GraphBuilder, config: MertConfig, windows: str, size: str) -> tuple[str, str]:
    """Add mean [batch, taps, 1] and biased covariance [batch, taps, taps] of the windows that lie within their clips.

    With a column of ones beside the windows, one product gives the sums of both. It is taken within frames first, which
    keeps more of a GPU busy than one long product, and then over the last axis, as ONNX Runtime gives other axes to
    cuDNN, whose sums in float64 take longer than all that is done here.
    """
    taps, ones = config.conv_kernel[0], config.conv_kernel[0] + 1
    after = graph.node("fold.after", "Sub", size, graph.integers(taps))
    count = graph.node("fold.steps", "Div", after, graph.integers(config.conv_stride[0]))
    count = graph.node("fold.count", "Add", count, graph.integers(1))
    inside = graph.node("fold.within", "Less", _column(graph, "fold.rows", windows), count)
    complete = graph.node("fold.complete", "Where", inside, windows, _zero(graph))
    one = graph.node("fold.ones", "Cast", inside, to=TensorProto.DOUBLE)
    parts = graph.node("fold.beside", "Concat", complete, one, axis=2)
    parts = graph.node("fold.frames", "Reshape", parts, graph.integers(-1, alignment(config), ones))
    turned = graph.node("fold.turned", "Transpose", parts, perm=[0, 2, 1])
    products = graph.node("fold.products", "MatMul", turned, parts)
    batch = graph.node("fold.batch", "Shape", windows, start=0, end=1)
    shape = graph.node("fold.shape", "Concat", batch, graph.integers(-1, ones * ones), axis=0)
    products = graph.node("fold.parted", "Reshape", products, shape)
    products = graph.node("fold.lined", "Transpose", products, perm=[0, 2, 1])
    sums = graph.node("fold.sums", "ReduceSum", products, graph.integers(2), keepdims=0)
    sums = graph.node("fold.square.sums", "Reshape", sums, graph.integers(0, ones, ones))
    moments = graph.node(
        "fold.moments", "Div", sums, graph.node("fold.exact.count", "Cast", count, to=TensorProto.DOUBLE)
    )
    origin, last, axes = graph.integers(0, 0), graph.integers(taps, taps), graph.integers(1, 2)
    second = graph.node("fold.second", "Slice", moments, origin, last, axes)
    mean = graph.node("fold.window.mean", "Slice", moments, graph.integers(0, taps), graph.integers(taps, ones), axes)
    outer = graph.node("fold.outer", "Mul", mean, graph.node("fold.mean.row", "Transpose", mean, perm=[0, 2, 1]))
    return mean, graph.node("fold.covariance", "Sub", second, outer)


def _folded(
    graph: GraphBuilder,
    weight: NDArray[np.float64],
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
    mean: str,
    covariance: str,
) -> str:
    """Fold GroupNorm of a weight [channels, taps] into float32 [batch, taps + 1, channels]."""
    kernel = graph.wide_weight("fold.kernel", weight)
    image = graph.node("fold.image", "Mul", graph.node("fold.covaried", "MatMul", kernel, covariance), kernel)
    power = graph.node("fold.energy", "ReduceSum", image, graph.integers(2))
    spread = _root(graph, "fold.spread", graph.node("fold.positive", "Max", power, _zero(graph)), CONV_NORM_EPS)
    gain = graph.node("fold.gain", "Div", graph.wide_weight("fold.scale", scale), spread)
    folded = graph.node("fold.folded", "Mul", kernel, gain)
    shift = graph.node("fold.shift", "MatMul", folded, mean)
    bias = graph.node("fold.bias", "Sub", graph.wide_weight("fold.offset", offset), shift)
    whole = graph.node("fold.whole", "Concat", folded, bias, axis=2)
    whole = graph.node("fold.weights", "Transpose", whole, perm=[0, 2, 1])
    return graph.node("fold.rounded", "Cast", whole, to=TensorProto.FLOAT)


def _root(graph: GraphBuilder, name: str, value: str, epsilon: float) -> str:
    """Add the square root of a value and `epsilon`."""
    epsilons = graph.wide_weight(f"{name}.epsilon", np.array(epsilon, np.float64))
    return graph.node(name, "Sqrt", graph.node(f"{name}.square", "Add", value, epsilons))


def _zero(graph: GraphBuilder) -> str:
    return graph.wide_weight("fold.zero", np.array(0, np.float64))


def _column(graph: GraphBuilder, name: str, value: str) -> str:
    """Add the indices along a value's second axis: int64 [length, 1]."""
    length = graph.node(f"{name}.length", "Shape", value, start=1, end=2)
    count = graph.node(f"{name}.count", "Squeeze", length, graph.integers(0))
    indices = graph.node(f"{name}.indices", "Range", graph.integer(0), count, graph.integer(1))
    return graph.node(name, "Unsqueeze", indices, graph.integers(1))
