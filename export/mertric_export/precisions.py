"""What a bundle's graphs can compute in, and how each precision is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mertric.bundle import PORTABLE
from mertric.errors import InputError
from mertric.providers import COMPUTED
from mertric_export.graph import GraphBuilder, PortableBuilder, ProductBuilder
from mertric_export.narrow import BrainBuilder, HalfBuilder, HalfClipsBuilder, HalfFixedBuilder
from mertric_export.quantised import PortableQuantisedBuilder, QuantisedBuilder
from mertric_export.transformer import VARIANTS, Variant

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class Precision:
    """A precision that graphs are written in.

    Attributes
    ----------
    builder : type of GraphBuilder
        What makes the difference.
    portable : type of GraphBuilder or None
        What builds the graphs of ONNX operators alone, the front end's again among them, where that is another.
    variants : tuple of str
        The encoder graphs that its providers run.
    clips : type of GraphBuilder or None
        What builds the graph of whole clips; None where no GPU computes in this precision.
    fixed_clips : type of GraphBuilder or None
        What builds it for shapes that do not change, where that is another.
    """

    builder: type[GraphBuilder]
    portable: type[GraphBuilder] | None = None
    variants: tuple[Variant, ...]
    clips: type[GraphBuilder] | None = None
    fixed_clips: type[GraphBuilder] | None = None

    def encoder_builder(self, variant: Variant) -> type[GraphBuilder]:
        """Return what builds a variant of the encoder."""
        return self.portable if self.portable is not None and variant in PORTABLE else self.builder


PRECISIONS = {
    "fp32": Precision(builder=GraphBuilder, portable=PortableBuilder, variants=VARIANTS, clips=ProductBuilder),
    "fp16": Precision(
        builder=HalfBuilder, variants=("fused", "portable"), clips=HalfClipsBuilder, fixed_clips=HalfFixedBuilder
    ),
    "bf16": Precision(builder=BrainBuilder, variants=("fused",), clips=BrainBuilder),
    "int8": Precision(builder=QuantisedBuilder, portable=PortableQuantisedBuilder, variants=("fused", "portable")),
}


def all_precisions(more: Iterable[str]) -> tuple[str, ...]:
    """Return fp32 and the precisions asked for beside it, each once, in the order of `mertric.providers.COMPUTED`.

    Raises
    ------
    InputError
        One is not known.
    """
    wanted = {"fp32", *more}
    if unknown := wanted - {*COMPUTED}:
        raise InputError(
            f"precision {', '.join(sorted(unknown))} is not known; expected some of {', '.join(COMPUTED)}."
        )
    return tuple(name for name in COMPUTED if name in wanted)
