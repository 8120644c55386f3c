"""Takes what is the same in every frame out of the values that lower precisions round.

Transformers' activations stand around a mean that hardly depends on the audio, and roundings are as large as that
mean, not as what tells clips apart. Here a constant is taken off what products read, and off what the last product of a
branch gives, and put back where the network is linear: into biases, and into a vector that is added to the branch's
residual. That is an identity whatever the constants are, costs next to nothing at run time, and leaves less to round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.music import SAMPLE_RATE, compose
from mertric.resample import resample
from mertric_export.reference import hidden_states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from mertric_export.checkpoint import Checkpoint
    from mertric_export.config import MertConfig


def measure_means(checkpoint: Checkpoint) -> dict[str, NDArray[np.float64]]:
    """Return the mean over frames of what each branch and each ``output_dense`` reads, over made-up music.

    Returns
    -------
    dict of str to float64 [width]
        By the names that `mertric_export.reference.hidden_states` visits.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    for clip in _music(checkpoint.config.sample_rate):
        hidden_states(checkpoint, clip, visit=lambda name, x: found.setdefault(name, []).append(x.mean(axis=0)))
    return {name: np.mean(means, axis=0) for name, means in found.items()}


def _music(sample_rate: int) -> Iterable[NDArray[np.float32]]:
    """Make a voice, an accompaniment and both together, none of the piece that precisions are compared on."""
    for sound in (compose(1)[0], compose(2)[1], np.add(*compose(3))):
        yield resample(sound.astype(np.float32), SAMPLE_RATE, sample_rate)


def centre(
    config: MertConfig, tensors: Mapping[str, NDArray[np.float32]], means: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float32]]:
    """Rewrite a checkpoint's tensors for an encoder that computes with differences from means.

    Let m be the mean of what a branch reads. The LayerNorm before it gives m less, by its bias, and the biases of the
    queries and of the feed-forward have m times their weights more. Keys and values do without: a constant in all keys
    adds the same to all of a query's scores, which the softmax does not see, and one in all values passes through
    attention unchanged, as its shares add up to 1. What the product that ends a branch would give of means and biases
    is added to the residual instead.

    Parameters
    ----------
    tensors
        Those of `mertric_export.layout.tensor_shapes`.
    means
        From `measure_means`. Any finite numbers give the same hidden states but for rounding.

    Returns
    -------
    dict of str to float32 array
        `tensors` with other biases, and without those of ``k_proj``, ``v_proj``, ``out_proj`` and ``output_dense``,
        which are 0. More are

        - ``BRANCH.residual`` [hidden_size], to be added to what the branch is added to;
        - ``BRANCH.inner_mean`` [intermediate_size] of a feed-forward, which may be taken off what its second product
          reads, and ``BRANCH.inner_image`` [hidden_size], to be added to the residual then;
        - ``encoder.layers.N.mean`` [hidden_size], what is taken off hidden state N, where LayerNorm comes after each
          residual.
    """
    stable = config.do_stable_layer_norm
    rewritten = dict(tensors)

    def put(name: str, vector: NDArray[np.float64]) -> None:
        rewritten[name] = vector.astype(np.float32)

    def image(name: str, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return tensors[f"{name}.weight"].astype(np.float64) @ vector

    for index, norms in enumerate(_norms(config)):
        layer = f"encoder.layers.{index}"
        attention, feed_forward = f"{layer}.attention", f"{layer}.feed_forward"
        for branch, norm in zip((attention, feed_forward), norms, strict=True):
            if norm is not None:
                put(f"{norm}.bias", tensors[f"{norm}.bias"] - means[branch])
        mean = means[attention]
        put(f"{attention}.q_proj.bias", tensors[f"{attention}.q_proj.bias"] + image(f"{attention}.q_proj", mean))
        del rewritten[f"{attention}.k_proj.bias"]
        value = image(f"{attention}.v_proj", mean) + rewritten.pop(f"{attention}.v_proj.bias")
        constant = image(f"{attention}.out_proj", value) + rewritten.pop(f"{attention}.out_proj.bias")
        put(f"{attention}.residual", constant if stable else constant + mean)
        if not stable:
            put(f"{layer}.mean", mean)
        mean, inner, outer = means[feed_forward], f"{feed_forward}.intermediate_dense", f"{feed_forward}.output_dense"
        put(f"{inner}.bias", tensors[f"{inner}.bias"] + image(inner, mean))
        constant = rewritten.pop(f"{outer}.bias").astype(np.float64)
        put(f"{feed_forward}.residual", constant if stable else constant + mean)
        put(f"{feed_forward}.inner_mean", means[outer])
        put(f"{feed_forward}.inner_image", image(outer, means[outer]))
    return rewritten


def _norms(config: MertConfig) -> list[tuple[str | None, str]]:
    """Name the LayerNorms that a layer's two branches read; what enters the first layer may come from none."""
    layers = [f"encoder.layers.{index}" for index in range(config.num_hidden_layers)]
    first, final = ([f"{layer}.{norm}" for layer in layers] for norm in ("layer_norm", "final_layer_norm"))
    before = first if config.do_stable_layer_norm else [None, *final[:-1]]
    return list(zip(before, final if config.do_stable_layer_norm else first, strict=True))
