"""Where in a clip an estimate sounds worse: both metrics of passages along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mertric.arguments import require_positive
from mertric.clip_scores import embed_pair
from mertric.metrics.batch import frechet_distances
from mertric.metrics.embedding_mse import frame_mse
from mertric.parting import begins

if TYPE_CHECKING:
    from mertric.audio import Given
    from mertric.encoder import Encoder
    from mertric.references import References


@dataclass(frozen=True)
class Passage:
    """How far a part of an estimate is from that of its reference; smaller is better.

    Attributes
    ----------
    start, end : float
        What its first frame begins with and its last one ends with, in seconds from the clip's start.
    mse : float
        Mean squared difference over its frames and dimensions.
    fad : float
        Fréchet distance of its frames. That of a passage is not a share of the whole clip's, as means and covariances
        are its own.
    layer : int
        The hidden state compared.
    silent : tuple of str
        Which of ``reference`` and ``estimate`` hold only zeros from the clip's beginning to its end, as the protocol
        rounds them. Silence within a clip that sounds elsewhere is not named.
    """

    start: float
    end: float
    mse: float
    fad: float
    layer: int
    silent: tuple[str, ...] = ()


def score_passages(
    reference: Given,
    estimate: Given,
    *,
    seconds: float = 5.0,
    hop: float | None = None,
    encoder: Encoder | None = None,
    references: References | None = None,
    sample_rate: int | None = None,
    layer: int | None = None,
    protocol: str = "paper",
) -> list[Passage]:
    """Score passages of one estimate against the same ones of its reference.

    Both clips are embedded whole, so a frame is what it is in `score`, and each passage is a range of frames.

    Parameters
    ----------
    reference, estimate, encoder, references, sample_rate, layer, protocol
        As `mertric.score` takes them.
    seconds : float
        Length of a passage, rounded to whole frames, two at least. Of a clip that is shorter there is one passage.
    hop : float or None
        From the start of a passage to that of the next one, rounded to whole frames, one at least; None for `seconds`.
        The last passage ends with the clip's last frame, and begins earlier for it.

    Returns
    -------
    list of Passage
        In order of time. Each frame is in one at least, unless `hop` is longer than a passage.

    Raises
    ------
    AudioError, InputError, ProviderError
        As `mertric.score`; InputError also where `seconds` or `hop` is not above 0.
    """
    hop = seconds if hop is None else hop
    require_positive("seconds", seconds)
    require_positive("hop", hop)
    pair = embed_pair(
        reference,
        estimate,
        encoder=encoder,
        references=references,
        sample_rate=sample_rate,
        layer=layer,
        protocol=protocol,
    )
    bundle = pair.bundle
    frames, frame_rate = len(pair.estimate), bundle.sample_rate / bundle.hop
    wanted, step = (round(min(value * frame_rate, frames)) for value in (seconds, hop))
    length, step = min(frames, max(2, wanted)), max(1, step)
    starts = begins(frames, length, step)
    spans = [slice(start, start + length) for start in starts]
    errors = frame_mse(pair.reference.states, pair.estimate)
    distances = frechet_distances(
        [pair.reference.states[span] for span in spans], [pair.estimate[span] for span in spans]
    )
    return [
        Passage(
            start=start * bundle.hop / bundle.sample_rate,
            end=((start + length - 1) * bundle.hop + bundle.receptive_field) / bundle.sample_rate,
            mse=float(np.mean(errors[span])),
            fad=float(fad),
            layer=pair.reference.layer,
            silent=pair.silent,
        )
        for start, span, fad in zip(starts, spans, distances, strict=True)
    ]
