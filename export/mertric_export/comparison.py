"""How far one encoder is from another: their hidden states, and the metrics that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mertric.errors import InputError
from mertric.metrics.embedding_mse import embedding_mse
from mertric.metrics.frechet import frechet_distance
from mertric.music import SAMPLE_RATE
from mertric.protocol import get_protocol
from mertric_export.material import PROTOCOL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric.encoder import Encoder
    from mertric_export.material import Clip, Material

    States = NDArray[np.float16] | NDArray[np.float32]

LEAST_SHARE = 0.1
"""A pair counts with at least this share of a metric's mean over all pairs: what two nearly equal clips differ by is
rounding, of which no change could be told."""
BUDGET = 2 << 30
"""Bytes of hidden states that are held at once. Of a clip that has more, the layers are run through again for every
group that fits: MERT-v1-330M has 2.8 GB for 6 minutes."""
METRICS = {"mert_mse": embedding_mse, "mert_fad": frechet_distance}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    pairs : int
        Pairs of clips compared.
    material : str
        What they are.
    max_error_over_rms : float
        Largest error of a value of any hidden state, in units of that state's root mean square.
    relative_error : float
        Largest norm of the error of a hidden state over that state's norm.
    mert_mse, mert_fad : float
        Largest change of the metric, as a part of its value or of `LEAST_SHARE` of that value's mean over all pairs,
        whichever is larger.
    worst_pair : str
        The pair with the largest of these changes.
    """

    pairs: int
    material: str
    max_error_over_rms: float
    relative_error: float
    mert_mse: float
    mert_fad: float
    worst_pair: str


class _Errors(NamedTuple):
    """Of a hidden state, or the largest of several: see `Comparison`."""

    max_error_over_rms: float
    relative_error: float


def compare(reference: Encoder, other: Encoder, material: Material) -> Comparison:
    """Compare all hidden states of two encoders, and the metrics of the last one under the paper's protocol.

    Memory does not grow with the number of clips: beside `BUDGET`, the last states of one pair are held.

    Raises
    ------
    InputError
        No pair differs.
    """
    errors: list[_Errors] = []
    values = {metric: np.empty((2, len(material.pairs))) for metric in METRICS}
    for name in dict.fromkeys(one for one, _ in material.pairs):
        error, ends = _measure(reference, other, material.clips[name])
        errors.append(error)
        for index in (index for index, (one, _) in enumerate(material.pairs) if one == name):
            error, others = _measure(reference, other, material.clips[material.pairs[index][1]])
            errors.append(error)
            for metric, distance in METRICS.items():
                values[metric][:, index] = [distance(x, y) for x, y in zip(ends, others, strict=True)]
    if not values["mert_mse"][0].any():
        raise InputError(f"no pair of {material.description} differs, so no metric could change; give some that do")
    changes = {metric: relative_changes(*both) for metric, both in values.items()}
    largest, relative = np.max(errors, axis=0)
    worst = int(np.argmax(np.max(list(changes.values()), axis=0)))
    return Comparison(
        pairs=len(material.pairs),
        material=material.description,
        max_error_over_rms=float(largest),
        relative_error=float(relative),
        mert_mse=float(changes["mert_mse"].max()),
        mert_fad=float(changes["mert_fad"].max()),
        worst_pair=" and ".join(material.pairs[worst]),
    )


def relative_changes(expected: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each pair's change of a metric, see `Comparison`: 0 where nothing changed, even if all pairs are equal."""
    scale = np.maximum(expected, LEAST_SHARE * expected.mean())
    change = np.abs(got - expected)
    parts = np.where(change > 0, np.inf, 0.0)
    np.divide(change, scale, out=parts, where=scale > 0)
    return parts


def _measure(reference: Encoder, other: Encoder, clip: Clip) -> tuple[_Errors, tuple[States, States]]:
    """Return the largest errors of a clip's hidden states, and the last state of each side."""
    samples = reference.read(clip, SAMPLE_RATE, get_protocol(PROTOCOL))
    groups = layer_groups(reference.layers, 4 * reference.bundle.frames(samples.size) * reference.bundle.dim)
    parts = [_measure_layers((reference, other), samples, layers, alone=len(groups) > 1) for layers in groups]
    return _Errors(*np.max([errors for errors, _ in parts], axis=0).tolist()), parts[-1][1]


def layer_groups(layers: int, state_bytes: int) -> list[range]:
    """Part hidden states 0 to `layers`, of so many bytes each, into groups of which `BUDGET` holds three copies.

    Both encoders' states are compared, and beside the second's stands what the runtime made them of.
    """
    most = max(1, BUDGET // (3 * state_bytes))
    return [range(first, min(first + most, layers + 1)) for first in range(0, layers + 1, most)]


def _measure_layers(
    sides: tuple[Encoder, Encoder], samples: NDArray[np.float32], layers: range, *, alone: bool
) -> tuple[_Errors, tuple[States, States]]:
    """Do what `_measure` does on some hidden states, in sessions `alone` for these or in what the encoders keep."""
    states, others = ((_again(side) if alone else side).embed_samples(samples, layers=layers).hidden for side in sides)
    protocol = get_protocol(PROTOCOL)
    ends = protocol.finish(states[-1]), protocol.finish(others[-1])
    errors = [_errors(*both) for both in zip(states, others, strict=True)]
    return _Errors(*np.max(errors, axis=0).tolist()), ends


def _again(encoder: Encoder) -> Encoder:
    """Open an encoder anew: one keeps a session, with its own copy of the weights, for each set of layers."""
    return type(encoder)(
        encoder.bundle.path, provider=encoder.provider, precision=encoder.precision, attention=encoder.attention
    )


def _errors(state: NDArray[np.float32], other: NDArray[np.float32]) -> _Errors:
    """Compare a hidden state [frames, dim] with the other encoder's. Both are overwritten: no copies are made."""
    difference = np.subtract(other, state, out=other)
    largest = np.abs([difference.min(), difference.max()]).max()
    rms = np.sqrt(np.square(state, out=state).mean())
    return _Errors(float(largest / rms), float(np.sqrt(np.square(difference, out=difference).mean()) / rms))
