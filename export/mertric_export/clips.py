"""The graph of whole clips, from their samples to hidden states: what keeps a GPU from waiting for its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from mertric.clips import spare_frames
from mertric_export.clip_fold import add_fold
from mertric_export.clip_layers import ClipLayers
from mertric_export.frontend import add_frontend, alignment
from mertric_export.positions import add_positions, reach

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from mertric_export.config import MertConfig
    from mertric_export.graph import GraphBuilder, WeightFile

ALIGNMENT = 8
"""What the columns of windows are padded to a multiple of: matrix units read rows of 16 bytes."""


def build_clips(
    config: MertConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    weights: WeightFile,
    *,
    builder: type[GraphBuilder],
) -> onnx.ModelProto:
    """Build the graph from samples of clips of one length to all hidden states.

    With s samples between two windows of the first convolution, and `a` windows a frame (see
    `mertric_export.frontend.alignment`): ``samples`` [batch, blocks, s], each clip's one after the other, then zeros,
    and ``sizes`` int64 [batch], samples of each clip, give ``state_0`` to ``state_L`` [batch, frames, hidden_size], all
    float32. There are a * (frames + f) windows, f from `mertric.clips.spare_frames`, and blocks for the last
    of them.

    Parameters
    ----------
    tensors
        From `mertric_export.centring.centre`.
    """
    graph = builder("clips", weights)
    samples = graph.input("samples", ("batch", "blocks", config.conv_stride[0]))
    windows, folded = add_fold(graph, config, tensors, samples, graph.input("sizes", ("batch",), TensorProto.INT64))
    taps = config.conv_kernel[0]
    columns = -(-(taps + 1) // ALIGNMENT) * ALIGNMENT
    one = graph.wide_weight("one", np.array(1, np.float32))
    windows = graph.node("windows", "Pad", windows, graph.integers(0, 0, 0, 0, 0, columns - taps), one)
    leading = [0] * (config.feat_extract_norm == "group")
    pads = graph.integers(*leading, 0, 0, *leading, columns - taps - 1, 0)
    value = graph.folded("conv0.product", windows, graph.node("folded", "Pad", folded, pads))
    spare = spare_frames(
        receptive_field=config.receptive_field,
        taps=taps,
        stride=config.conv_stride[0],
        rows_per_frame=alignment(config),
    )
    features = add_frontend(graph, config, tensors, value, spare=spare)
    before, after = reach(config)
    features = graph.widen(features)
    around = graph.node("features.padded", "Pad", graph.narrow(features), graph.integers(0, before, 0, 0, after, 0))
    state = add_positions(graph, config, tensors, around, features)
    graph.output(state, "state_0", ("batch", "frames", config.hidden_size))
    ClipLayers(config, tensors, graph, "fused").add(state)
    return graph.model()
