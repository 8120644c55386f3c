"""Fréchet distance of every file of a set against one reference set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.metrics.frechet import distance
from mertric.metrics.gaussian import Gaussian, prepare_gaussian
from mertric.metrics.parallel import map_threads
from mertric.metrics.prepared import PreparedEmbedding, prepare
from mertric.metrics.validation import same_dim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def per_file_frechet_distances(
    reference: Gaussian | PreparedEmbedding | ArrayLike,
    files: Sequence[ArrayLike],
    *,
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Fréchet Audio Distance of each embedding against one set, as fadtk's individual scores.

    Parameters
    ----------
    reference : Gaussian, PreparedEmbedding, or array [frames, dim]
        The set, prepared once.
    files : sequence of arrays [frames, dim]
        Two frames each or more.
    workers
        Number of threads; None for one a core.

    Returns
    -------
    float64 [files]

    Raises
    ------
    InputError
        As `frechet_distance`, with the file's number.
    """
    known = prepared_reference(reference)

    def against(item: tuple[int, ArrayLike]) -> float:
        number, x = item
        prepared = prepare(x, name=f"file {number}")
        same_dim(known.dim, prepared.dim, "the reference", f"file {number}")
        return distance(known, prepared)

    return np.array(map_threads(against, enumerate(files), workers=workers), np.float64)


def prepared_reference(reference: Gaussian | PreparedEmbedding | ArrayLike) -> PreparedEmbedding:
    """What a distance needs of a reference, in whichever form it is given."""
    if isinstance(reference, PreparedEmbedding):
        return reference
    if isinstance(reference, Gaussian):
        return prepare_gaussian(reference, name="the reference's covariance")
    return prepare(reference, name="the reference")
