"""Parts of a range that are as even as can be."""

from __future__ import annotations

from itertools import pairwise


def even_parts(size: int, count: int) -> list[tuple[int, int]]:
    """Part `size` things into `count` parts, 1 at least, that differ by one at most: where each begins and ends."""
    return list(pairwise((2 * size * part + count) // (2 * count) for part in range(count + 1)))
