"""How good does a separated stem sound? MSE and FAD on MERT embeddings, on ONNX Runtime, without PyTorch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mertric.embeddings import Embeddings
    from mertric.encoder import Encoder
    from mertric.errors import MertricError
    from mertric.loading import load
    from mertric.metrics.embedding_mse import embedding_mse
    from mertric.metrics.frechet import frechet_distance
    from mertric.references import References
    from mertric.scoring import Score, score

_HOMES = {
    "Embeddings": "mertric.embeddings",
    "Encoder": "mertric.encoder",
    "MertricError": "mertric.errors",
    "References": "mertric.references",
    "Score": "mertric.scoring",
    "embedding_mse": "mertric.metrics.embedding_mse",
    "frechet_distance": "mertric.metrics.frechet",
    "load": "mertric.loading",
    "score": "mertric.scoring",
}

__all__ = [
    "Embeddings",
    "Encoder",
    "MertricError",
    "References",
    "Score",
    "embedding_mse",
    "frechet_distance",
    "load",
    "score",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
