"""Graphs whose products are of 8-bit integers, for ONNX Runtime's CPU provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric_export.graph import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mertric_export.graph import WeightFile

_ROW_STEPS = 63
"""Coarse steps from 0 to the largest magnitude of a row."""
_COLUMN_STEPS = 127
"""Coarse steps from 0 to the largest magnitude of a column."""
_FINER = 126
"""Fine steps in a coarse one."""
_ZERO = 64
"""The level of a row's 0."""


class QuantisedBuilder(GraphBuilder):
    """Builds graphs with both factors of a product quantised; all else is in float32.

    A row of the first factor and a column of the second are divided by their largest magnitude and split into coarse
    and fine levels, 14 bits together. Of the four products of these, that of fine and fine is too small to matter and
    left out; the two of coarse and fine are one product of levels put side by side. A row's levels depend on no other
    row, so that a clip gets the same alone, in a batch and in chunks.

    Rows have 7 of 8 bits: processors without 8-bit dot products add two products in 16 bits, which would saturate.
    """

    def __init__(self, name: str, weights: WeightFile) -> None:
        super().__init__(name, weights)
        self._quantised: set[str] = set()

    def matrix(self, name: str, array: NDArray[np.float32]) -> str:
        """Refer to a quantised second factor: ``coarse`` levels, ``both`` (coarse above fine) and their ``scale``."""
        largest = np.abs(array).max(axis=0)
        scale = np.where(largest > 0, largest / _COLUMN_STEPS, 1).astype(np.float32)
        coarse = np.rint(array / scale)
        fine = np.rint((array / scale - coarse) * _FINER)
        self.wide_weight(f"{name}.coarse", coarse.astype(np.int8))
        self.wide_weight(f"{name}.both", np.concatenate([coarse, fine]).astype(np.int8))
        self.wide_weight(f"{name}.scale", scale)
        return name

    def product(self, name: str, value: str, matrix: str, bias: str | None = None) -> str:
        """Add the products of both factors' levels, their sum scaled and the bias."""
        if value not in self._quantised:
            self._quantise(value)
            self._quantised.add(value)
        coarse, both = (
            self.node(
                f"{name}.{part}",
                "MatMulIntegerToFloat",
                f"{value}.{part}",
                f"{matrix}.{part}",
                f"level.{part}",
                f"{matrix}.scale",
                "level.zero",
                domain=MICROSOFT,
            )
            for part in ("coarse", "both")
        )
        unit = self.node(f"{name}.unit", "Add", coarse, both)
        if bias is None:
            return self.node(name, "Mul", unit, f"{value}.largest")
        return self.node(name, "Add", self.node(f"{name}.product", "Mul", unit, f"{value}.largest"), bias)

    def _quantise(self, value: str) -> None:
        """Add the levels of a first factor: ``coarse``, ``both`` (fine beside coarse) and each row's ``largest``."""
        zero = self.wide_weight("level.zero", np.array(_ZERO, np.uint8))
        step = self.wide_weight("level.coarse", np.array(1 / _ROW_STEPS, np.float32))
        finer = self.wide_weight("level.both", np.array(1 / _ROW_STEPS / _FINER, np.float32))
        least = self.wide_weight("level.least", np.array(np.finfo(np.float32).tiny, np.float32))
        magnitude = self.node(f"{value}.magnitude", "Abs", value)
        peak = self.node(f"{value}.peak", "ReduceMax", magnitude, self.integers(-1))
        unit = self.node(f"{value}.unit", "Div", value, self.node(f"{value}.largest", "Max", peak, least))
        coarse = self.node(f"{value}.coarse", "QuantizeLinear", unit, step, zero)
        rounded = self.node(f"{value}.rounded", "DequantizeLinear", coarse, step, zero)
        rest = self.node(f"{value}.rest", "Sub", unit, rounded)
        fine = self.node(f"{value}.fine", "QuantizeLinear", rest, finer, zero)
        self.node(f"{value}.both", "Concat", fine, coarse, axis=-1)
