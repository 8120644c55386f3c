"""How far one encoder is from another: their hidden states, and the metrics that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.demo import SAMPLE_RATE
from mertric.metrics.embedding_mse import embedding_mse
from mertric.metrics.frechet import frechet_distance
from mertric.protocol import get_protocol
from mertric_export.material import PROTOCOL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric.encoder import Encoder
    from mertric_export.material import Clip, Material

LEAST_SHARE = 0.1
"""A pair counts with at least this share of a metric's mean over all pairs: what two nearly equal clips differ by is
rounding, of which no change could be told."""
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


def compare(reference: Encoder, other: Encoder, material: Material) -> Comparison:
    """Compare all hidden states of two encoders, and the metrics of the last one under the paper's protocol."""
    protocol = get_protocol(PROTOCOL)
    errors, ends = [], {}
    for name, clip in material.clips.items():
        states, others = (_states(encoder, clip) for encoder in (reference, other))
        errors.append(_errors(states, others))
        ends[name] = protocol.finish(states[-1]), protocol.finish(others[-1])
    changes = {}
    for metric, distance in METRICS.items():
        values = [[distance(ends[one][side], ends[two][side]) for one, two in material.pairs] for side in (0, 1)]
        changes[metric] = relative_changes(np.array(values[0]), np.array(values[1]))
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


def _states(encoder: Encoder, clip: Clip) -> NDArray[np.float32]:
    return encoder.embed(clip, sample_rate=SAMPLE_RATE, layers="all", protocol=PROTOCOL).hidden


def _errors(states: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest error over rms, and relative error, over hidden states [layers, frames, dim]."""
    difference = others - states
    rms = np.sqrt(np.square(states).mean(axis=(1, 2)))
    largest = np.abs(difference).max(axis=(1, 2)) / rms
    relative = np.sqrt(np.square(difference).mean(axis=(1, 2))) / rms
    return float(largest.max()), float(relative.max())
