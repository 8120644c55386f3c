"""Batches and the rows that they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def joined(rows: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    """Put rows one after the other in a new array of a shape, zeros behind shorter ones."""
    array = np.empty(shape, rows[0].dtype)
    for place, row in zip(array.reshape(len(rows), -1), rows, strict=True):
        place[: row.size] = row.reshape(-1)
        place[row.size :] = 0
    return array


def stacked(states: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put states [frames, dim] on a first axis, without a copy where there is one only."""
    return states[0][None] if len(states) == 1 else np.stack(states)
