"""The score of two clips: an estimate against its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mertric.errors import InputError
from mertric.loading import load
from mertric.metrics.embedding_mse import embedding_mse
from mertric.metrics.frechet import frechet_distance
from mertric.protocol import get_protocol
from mertric.references import References

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mertric.audio import Given
    from mertric.bundle import Bundle
    from mertric.encoder import Encoder
    from mertric.references import Reference


@dataclass(frozen=True)
class Score:
    """How far an estimate is from its reference; smaller is better, 0 is identical.

    Attributes
    ----------
    mse : float
        Mean squared difference of the embeddings over frames and dimensions.
    fad : float
        Fréchet distance of the two clips' embeddings.
    layer : int
        The hidden state compared.
    frames : int
        Frames of the reference.
    silent : tuple of str
        Which of ``reference`` and ``estimate`` hold only zeros, as the protocol rounds them.
    """

    mse: float
    fad: float
    layer: int
    frames: int
    silent: tuple[str, ...] = ()


def score(
    reference: Given,
    estimate: Given,
    *,
    encoder: Encoder | None = None,
    references: References | None = None,
    sample_rate: int | None = None,
    layer: int | None = None,
    protocol: str = "paper",
) -> Score:
    """Score one estimate against its reference.

    Parameters
    ----------
    reference, estimate
        Files, or arrays [samples] or [channels, samples].
    sample_rate
        Hz, of arrays; a file's own counts.
    encoder
        From `mertric.load`; None takes that of `references`, or loads MERT-v1-95M at every call.
    references
        Where the embedded reference is looked for and kept; None embeds it at every call. The score is the same.
    layer
        The hidden state to compare; None is the last.
    protocol
        ``paper`` does the roundings and the cut of Bereuter & Sontacchi (2026), ``float`` none of them.

    Raises
    ------
    AudioError
        A clip cannot be read, is empty, not finite or too short.
    InputError
        The clips differ in frames, have one frame only, the layer or the protocol is not known, or `references`
        belong to another encoder.
    ProviderError
        The provider failed, for instance for want of memory, or gave hidden states that are not finite.
    """
    pair = embed_pair(
        reference,
        estimate,
        encoder=encoder,
        references=references,
        sample_rate=sample_rate,
        layer=layer,
        protocol=protocol,
    )
    return Score(
        mse=embedding_mse(pair.reference.states, pair.estimate),
        fad=frechet_distance(pair.reference.prepared, pair.estimate),
        layer=pair.reference.layer,
        frames=len(pair.estimate),
        silent=pair.silent,
    )


class EmbeddedPair(NamedTuple):
    """A reference, the hidden state of an estimate that has as many frames, and which of the two are silent."""

    bundle: Bundle
    reference: Reference
    estimate: NDArray[np.float16] | NDArray[np.float32]
    silent: tuple[str, ...]


def embed_pair(
    reference: Given,
    estimate: Given,
    *,
    encoder: Encoder | None,
    references: References | None,
    sample_rate: int | None,
    layer: int | None,
    protocol: str,
) -> EmbeddedPair:
    """Embed a reference and an estimate as the metrics need them. Takes and raises what `score` does."""
    if references is None:
        references = References(encoder or load(), capacity_bytes=0)
    elif encoder not in (None, references.encoder):
        raise InputError("encoder is not the one that references were made with; expected one. Pass references alone.")
    known = references.get(reference, sample_rate=sample_rate, layer=layer, protocol=protocol)
    rules = get_protocol(protocol)
    samples = references.encoder.read(estimate, sample_rate, rules)
    states = rules.finish(references.encoder.embed_samples(samples, layers=(known.layer,)).hidden[0])
    if len(known.states) != len(states):
        raise InputError(
            f"the reference has {len(known.states)} frames and the estimate {len(states)}; expected as many. Cut both "
            "to one length; `frechet_distance` of their hidden states takes any."
        )
    silent = (("reference", known.silent), ("estimate", not samples.any()))
    return EmbeddedPair(
        references.encoder.bundle, known, states, silent=tuple(name for name, is_silent in silent if is_silent)
    )
