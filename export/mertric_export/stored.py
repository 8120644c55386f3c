"""A tensor as it lies in a checkpoint file, and how to open such a file without reading it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in its stored type, usually a view of a memory-mapped file.

    Attributes
    ----------
    array : ndarray
        The values; bfloat16, which NumPy has no type for, as the uint16 that hold its bits.
    bfloat16 : bool
        Whether `array` holds such bits.
    """

    array: NDArray[Any]
    bfloat16: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.array.shape

    @property
    def is_floating(self) -> bool:
        """Whether the values are floating point."""
        return self.bfloat16 or self.array.dtype.kind == "f"

    def float32(self) -> NDArray[np.float32]:
        """Values in float32: the mapped file itself where it holds them so; infinite where out of range."""
        if self.bfloat16:
            bits = self.array.astype(np.uint32, order="C")
            bits <<= 16
            return bits.view(np.float32)
        with np.errstate(over="ignore"):
            return np.asarray(self.array, dtype=np.float32, order="C")


def map_file(path: Path) -> mmap.mmap:
    """Map a file into memory, read-only.

    Raises
    ------
    CheckpointError
        It cannot be opened, or is empty.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Copy or fetch it again.") from error
