"""How good does a separated stem sound? MSE and FAD on MERT embeddings, on ONNX Runtime, without PyTorch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mertric.clip_scores import Score, score
    from mertric.embeddings import Embeddings
    from mertric.encoder import Encoder
    from mertric.errors import MertricError
    from mertric.loading import load
    from mertric.metrics.embedding_mse import embedding_mse
    from mertric.metrics.frechet import frechet_distance
    from mertric.pairing import Pair, pair
    from mertric.passages import Passage, score_passages
    from mertric.references import References
    from mertric.scoring import score_pairs
    from mertric.windows import Windows

    __version__: str

_HOMES = {
    "Embeddings": "mertric.embeddings",
    "Encoder": "mertric.encoder",
    "MertricError": "mertric.errors",
    "Pair": "mertric.pairing",
    "Passage": "mertric.passages",
    "References": "mertric.references",
    "Score": "mertric.clip_scores",
    "Windows": "mertric.windows",
    "embedding_mse": "mertric.metrics.embedding_mse",
    "frechet_distance": "mertric.metrics.frechet",
    "load": "mertric.loading",
    "pair": "mertric.pairing",
    "score": "mertric.clip_scores",
    "score_pairs": "mertric.scoring",
    "score_passages": "mertric.passages",
}

__all__ = [
    "Embeddings",
    "Encoder",
    "MertricError",
    "Pair",
    "Passage",
    "References",
    "Score",
    "Windows",
    "__version__",
    "embedding_mse",
    "frechet_distance",
    "load",
    "pair",
    "score",
    "score_pairs",
    "score_passages",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("mertric")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
