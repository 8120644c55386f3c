"""Parts of a range: as even as can be, and of one length."""

from __future__ import annotations

from itertools import pairwise


def even_parts(size: int, count: int) -> list[tuple[int, int]]:
    """Part `size` things into `count` parts, 1 at least, that differ by one at most: where each begins and ends."""
    return list(pairwise((2 * size * part + count) // (2 * count) for part in range(count + 1)))


def begins(size: int, length: int, step: int) -> list[int]:
    """Where spans of a length begin, `step` apart, of which the last ends with the end: 0 alone of no more than one."""
    return [*range(0, size - length, step), max(0, size - length)]
