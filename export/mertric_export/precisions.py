"""What a bundle's graphs can compute in: how each precision is built, and where it is compared with fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mertric.errors import InputError
from mertric_export.graph import GraphBuilder
from mertric_export.half import HalfBuilder
from mertric_export.quantised import QuantisedBuilder
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
    variants : tuple of str
        The encoder graphs that its providers run.
    providers : tuple of str
        Where it is compared with fp32.
    """

    builder: type[GraphBuilder]
    variants: tuple[Variant, ...]
    providers: tuple[str, ...]


PRECISIONS = {
    "fp32": Precision(builder=GraphBuilder, variants=VARIANTS, providers=("cpu",)),
    "fp16": Precision(
        builder=HalfBuilder,
        variants=("fused", "ragged", "portable"),
        providers=("cuda", "tensorrt", "cpu"),
    ),
    "int8": Precision(builder=QuantisedBuilder, variants=("fused", "ragged"), providers=("cpu",)),
}


def all_precisions(more: Iterable[str]) -> tuple[str, ...]:
    """Return fp32 and the precisions asked for beside it, each once, in the order of `PRECISIONS`.

    Raises
    ------
    InputError
        One is not known.
    """
    wanted = {"fp32", *more}
    if unknown := wanted - PRECISIONS.keys():
        raise InputError(
            f"precision {', '.join(sorted(unknown))} is not known; expected some of {', '.join(PRECISIONS)}."
        )
    return tuple(name for name in PRECISIONS if name in wanted)
