"""A bundle's float32 weights, as factors, packed as the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mertric.bundle import POSITIONS, encoder_graph
from mertric.initializers import Initializers
from mertric.kernels.dense import pack
from mertric.kernels.fourier import points, spectra, turns
from mertric.kernels.lines import zeros
from mertric.kernels.sizes import BLOCK, STEP
from mertric.metrics.parallel import map_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mertric.bundle import Bundle
    from mertric.kernels.factors import Array, Factors
    from mertric.native.kinds import Kinds

    Singles = NDArray[np.float32]
    Tensors = Mapping[str, Singles]

GRAPHS = "portable"
"""The variant of the bundle's graphs whose weights are read."""
_CONV = "feature_extractor.conv_layers"
_PROJECTION = "feature_projection"
_POSITIONS = "encoder.pos_conv_embed.conv"


@dataclass(frozen=True)
class Dense:
    """A matrix as second factor of products.

    Attributes
    ----------
    weight
        Packed, see `mertric.kernels.dense`.
    taps : int
        Runs that its inner dimension is made of: those of a convolution of stride 2, else 1.
    steps : int
        In each.
    bias : float32 [columns]
        For its columns in whole blocks.
    """

    weight: Array
    taps: int
    steps: int
    bias: Singles


@dataclass(frozen=True)
class Norm:
    """A LayerNorm's weight and bias, float32 [dim]."""

    weight: Singles
    bias: Singles


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A transformer layer.

    Attributes
    ----------
    query, key, value, out, inner, outer : Dense
        The biases of `out` and `outer` are what is added to the residual beside the product.
    inner_mean : float32 [intermediate_size]
        Taken off what `outer` reads.
    first, final : Norm
        Of attention and of the feed-forward, before or after them.
    mean : float32 [dim] or None
        What the layer's input is without, see `mertric_export.centring`.
    """

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    inner: Dense
    outer: Dense
    inner_mean: Singles
    first: Norm
    final: Norm
    mean: Singles | None


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The positional convolution.

    Attributes
    ----------
    spectra : list of float32
        Of each group's taps, see `mertric.kernels.fourier.spectra`, flat.
    roots : float32 [points, 2]
        For its transforms.
    biases : float32 [groups, width]
    """

    spectra: list[Singles]
    roots: Singles
    biases: Singles


@dataclass(frozen=True, kw_only=True)
class FrontEndWeights:
    """The front end after its first convolution.

    Attributes
    ----------
    convolutions : tuple of Dense
        Taps times channels by channels.
    norm : Norm or None
        Before the projection.
    projection : Dense
    positions : Positions
    entry : Norm or None
        Of what enters the first layer.
    """

    convolutions: tuple[Dense, ...]
    norm: Norm | None
    projection: Dense
    positions: Positions
    entry: Norm | None


def read_front_end(bundle: Bundle, precision: str, *, kinds: Kinds) -> FrontEndWeights:
    """Read the weights of the front end and of the positional convolution, as such factors.

    Raises
    ------
    BundleError
        They cannot be read.
    """
    tensors = Initializers(bundle.frontend(precision, GRAPHS))
    positions = Initializers(bundle.graphs(precision) / POSITIONS)
    dense = partial(_dense, kinds.most)
    return FrontEndWeights(
        convolutions=tuple(
            dense(_convolution(tensors, number), tensors.get(f"{_CONV}.{number}.bias"), channels)
            for number, channels in enumerate(bundle.channels[:-1], 1)
        ),
        norm=_optional_norm(tensors, f"{_PROJECTION}.layer_norm"),
        projection=dense(tensors[f"{_PROJECTION}.projection.weight"], tensors[f"{_PROJECTION}.projection.bias"]),
        positions=_positions(positions, bundle.position_groups),
        entry=_optional_norm(positions, "encoder.layer_norm"),
    )


def read_layers(bundle: Bundle, precision: str, *, kind: Factors) -> tuple[list[Layer], Norm | None]:
    """Read the layers' weights, as such factors, and those of the LayerNorm after the last, if there is one.

    Raises
    ------
    BundleError
        They cannot be read.
    """
    tensors = Initializers(bundle.graphs(precision) / encoder_graph(GRAPHS))
    layers = map_threads(partial(_layer, tensors, partial(_dense, kind)), range(bundle.layers))
    return layers, _optional_norm(tensors, "encoder.layer_norm")


def _layer(tensors: Tensors, dense: Callable[..., Dense], index: int) -> Layer:
    name = f"encoder.layers.{index}"
    attention, feed_forward = f"{name}.attention", f"{name}.feed_forward"
    inner, outer = f"{feed_forward}.intermediate_dense", f"{feed_forward}.output_dense"
    return Layer(
        query=dense(tensors[f"{attention}.q_proj.weight"], tensors[f"{attention}.q_proj.bias"]),
        key=dense(tensors[f"{attention}.k_proj.weight"]),
        value=dense(tensors[f"{attention}.v_proj.weight"]),
        out=dense(tensors[f"{attention}.out_proj.weight"], tensors[f"{attention}.residual"]),
        inner=dense(_sliced(tensors, f"{inner}.{{}}.weight", 1), _sliced(tensors, f"{inner}.{{}}.bias")),
        outer=dense(_sliced(tensors, f"{outer}.{{}}.weight"), tensors[f"{feed_forward}.whole_residual"]),
        inner_mean=_sliced(tensors, f"{inner}.{{}}.mean"),
        first=_norm(tensors, f"{name}.layer_norm"),
        final=_norm(tensors, f"{name}.final_layer_norm"),
        mean=np.array(tensors[f"{name}.mean"]) if f"{name}.mean" in tensors else None,
    )


def _convolution(tensors: Tensors, number: int) -> Singles:
    """Return a convolution's matrix [taps * in, out], whether it stands in one piece or in two."""
    return np.concatenate(
        [tensors[name] for part in ("whole", "pair", "third") if (name := f"{_CONV}.{number}.{part}") in tensors]
    )


def _positions(tensors: Tensors, groups: int) -> Positions:
    weight, bias = tensors[f"{_POSITIONS}.weight"], tensors[f"{_POSITIONS}.bias"]
    dim, width, taps = weight.shape
    roots = turns(points(taps))
    return Positions(
        spectra=map_threads(
            lambda own: spectra(own.transpose(2, 1, 0), roots).reshape(-1),
            weight.reshape(groups, dim // groups, width, taps),
        ),
        roots=roots,
        biases=np.array(bias).reshape(groups, width),
    )


def _sliced(tensors: Tensors, name: str, axis: int = 0) -> Singles:
    """Join what stands in slices of the feed-forward's inner dimension."""
    slices = [tensors[name.format(0)]]
    while (part := tensors.get(name.format(len(slices)))) is not None:
        slices.append(part)
    return np.concatenate(slices, axis)


def _optional_norm(tensors: Tensors, name: str) -> Norm | None:
    return _norm(tensors, name) if f"{name}.weight" in tensors else None


def _norm(tensors: Tensors, name: str) -> Norm:
    return Norm(np.array(tensors[f"{name}.weight"]), np.array(tensors[f"{name}.bias"]))


def _dense(kind: Factors, matrix: Singles, bias: Singles | None = None, run: int | None = None) -> Dense:
    """Pack a matrix, whose inner dimension is in one run, or in several of so many numbers."""
    inner, columns = matrix.shape
    filled = zeros((-(-columns // BLOCK) * BLOCK,), np.float32)
    if bias is not None:
        filled[: bias.size] = bias
    run = run or inner
    return Dense(pack(matrix, kind), inner // run, -(-run // STEP), filled)
