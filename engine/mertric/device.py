"""A provider in one precision: what graphs it takes, and in what shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mertric.providers import Provider


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where and how sessions run.

    Attributes
    ----------
    provider : Provider
    precision : str
        See `Provider.precisions`.
    threads : int or None
        Threads for one run; None for one a core.
    """

    provider: Provider
    precision: str
    threads: int | None

    @property
    def graphs(self) -> str:
        """Precision of the graphs to run."""
        return self.provider.precisions[self.precision]

    @property
    def rounds(self) -> bool:
        """Whether the provider rounds float32 graphs by itself, to bfloat16."""
        return self.precision == "bf16" and self.graphs == "fp32"

    @property
    def fixed_attention(self) -> str | None:
        """Which encoder graphs to run with fixed shapes; None where nothing is gained by that."""
        fixed = self.provider.fixed
        return fixed.attention.get(self.precision) if fixed is not None else None

    def padded(self, frames: int) -> int:
        """Return the number of frames, this or somewhat more, that is best computed instead."""
        multiple = self.provider.multiples.get(self.precision, 1)
        return -(-frames // multiple) * multiple
