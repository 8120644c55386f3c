"""Graphs whose products are of 8-bit integers, for processors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mertric_export.graph import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mertric_export.graph import WeightFile

_COLUMN_STEPS = 127
"""Coarse steps from 0 to the largest magnitude of a column."""
_COLUMN_FINER = 126
"""Fine steps in a coarse one of a column."""


class QuantisedBuilder(GraphBuilder):
    """Builds graphs with both factors of a product quantised; all else is in float32. For ONNX Runtime's CPU provider.

    A row of the first factor and a column of the second are divided by their largest magnitude and split into coarse
    and fine levels, 14 bits together. Of the four products of these, that of fine and fine is too small to matter and
    left out; the two of coarse and fine are one product of levels put side by side. A row's levels depend on no other
    row, so that a clip gets the same alone, in a batch and in chunks.

    Rows have 7 of 8 bits: processors without 8-bit dot products add two products in 16 bits, which would saturate.
    """

    steps: ClassVar[int] = 63
    """Coarse steps from 0 to the largest magnitude of a row."""
    finer: ClassVar[int] = _COLUMN_FINER
    """Fine steps in a coarse one of a row."""
    zero: ClassVar[NDArray[np.generic]] = np.array(64, np.uint8)
    """The level of a row's 0."""

    def __init__(self, name: str, weights: WeightFile) -> None:
        super().__init__(name, weights)
        self._quantised: set[str] = set()

    def matrix(self, name: str, array: NDArray[np.float32], *, whole: NDArray[np.float32] | None = None) -> str:
        """Refer to a quantised second factor: ``coarse`` levels, ``both`` (coarse above fine) and their ``scale``."""
        largest = np.abs(array if whole is None else whole).max(axis=0)
        scale = np.where(largest > 0, largest / _COLUMN_STEPS, 1).astype(np.float32)
        coarse = np.rint(array / scale)
        fine = np.rint((array / scale - coarse) * _COLUMN_FINER)
        self.wide_weight(f"{name}.coarse", coarse.astype(np.int8))
        self.wide_weight(f"{name}.both", np.concatenate([coarse, fine]).astype(np.int8))
        self.wide_weight(f"{name}.scale", scale)
        return name

    def product(self, name: str, value: str, matrix: str, bias: str | None = None) -> str:
        """Add the products of both factors' levels, their sum scaled and the bias."""
        if value not in self._quantised:
            self._quantise(value)
            self._quantised.add(value)
        unit = self._unit_product(name, value, matrix)
        if bias is None:
            return self.node(name, "Mul", unit, f"{value}.largest")
        return self.node(name, "Add", self.node(f"{name}.product", "Mul", unit, f"{value}.largest"), bias)

    def following(self, name: str, pairs: str, channels: int) -> str:
        """Refer to the first halves of the next rows, whose levels are those of `pairs`, moved."""
        self._move(name, pairs, self.integers(0, -1, 0, 0, 1, -channels))
        self.node(f"{name}.largest", "Pad", f"{pairs}.largest", self.integers(0, -1, 0, 0, 1, 0))
        self._quantised.add(name)
        return name

    def _quantise(self, value: str) -> None:
        """Add the levels of a first factor and each row's ``largest`` magnitude."""
        zero = self.wide_weight(self._level("zero"), self.zero)
        step = self.wide_weight(self._level("coarse"), np.array(1 / self.steps, np.float32))
        finer = self.wide_weight(self._level("both"), np.array(1 / self.steps / self.finer, np.float32))
        least = self.wide_weight("level.least", np.array(np.finfo(np.float32).tiny, np.float32))
        magnitude = self.node(f"{value}.magnitude", "Abs", value)
        peak = self.node(f"{value}.peak", "ReduceMax", magnitude, self.integers(-1))
        unit = self.node(f"{value}.unit", "Div", value, self.node(f"{value}.largest", "Max", peak, least))
        level = self.node(f"{value}.coarse.level", "QuantizeLinear", unit, step, zero)
        coarse = self.node(f"{value}.coarse", "DequantizeLinear", level, step, zero)
        rest = self.node(f"{value}.rest", "Sub", unit, coarse)
        self.node(f"{value}.fine.level", "QuantizeLinear", rest, finer, zero)
        self._prepare(value)

    def _level(self, part: str) -> str:
        """Name a constant of levels; the graphs of both builders share a file of weights."""
        return f"level.{self.steps}.{part}"

    def _prepare(self, value: str) -> None:
        """Make of a first factor's levels what `_unit_product` takes: both, fine beside coarse."""
        self.node(f"{value}.both.level", "Concat", f"{value}.fine.level", f"{value}.coarse.level", axis=-1)

    def _move(self, name: str, pairs: str, cut: str) -> None:
        for part in ("coarse", "fine"):
            self.node(f"{name}.{part}.level", "Pad", f"{pairs}.{part}.level", cut, self._level("zero"))
        self._prepare(name)

    def _unit_product(self, name: str, value: str, matrix: str) -> str:
        """Add the product of a first factor whose rows' largest magnitude is 1."""
        coarse, both = (
            self.node(
                f"{name}.{part}",
                "MatMulIntegerToFloat",
                f"{value}.{part}.level",
                f"{matrix}.{part}",
                self._level(part),
                f"{matrix}.scale",
                self._level("zero"),
                domain=MICROSOFT,
            )
            for part in ("coarse", "both")
        )
        return self.node(f"{name}.unit", "Add", coarse, both)


class PortableQuantisedBuilder(QuantisedBuilder):
    """Builds the same with ONNX operators only, for OpenVINO: products of what levels stand for.

    Of a `DequantizeLinear` on both sides OpenVINO makes a product of integers, and what is around the products it
    compiles to few passes. Levels side by side, or with a zero that is not 0, it would take back to float32.
    """

    steps = 127
    finer = 254
    zero = np.array(0, np.int8)

    def __init__(self, name: str, weights: WeightFile) -> None:
        super().__init__(name, weights)
        self._dequantised: set[str] = set()

    def matrix(self, name: str, array: NDArray[np.float32], *, whole: NDArray[np.float32] | None = None) -> str:
        """Refer to a quantised second factor: ``coarse`` and ``fine`` levels and their scales."""
        super().matrix(name, array, whole=whole)
        rows = array.shape[0]
        ends = self.integers(rows), self.integers(2 * rows), self.integers(0)
        self.node(f"{name}.fine", "Slice", f"{name}.both", *ends)
        return name

    def scaled(self, name: str, matrix: str, factor: str) -> str:
        """Refer to a matrix times a number."""
        for part in ("coarse", "fine"):
            self.node(f"{name}.{part}", "Identity", f"{matrix}.{part}")
        self.node(f"{name}.scale", "Mul", f"{matrix}.scale", factor)
        return name

    def joined(self, name: str, matrices: Sequence[str], axis: int) -> str:
        """Refer to matrices side by side, or, where they share their scale, one above the other."""
        for part in ("coarse", "fine"):
            self.node(f"{name}.{part}", "Concat", *(f"{matrix}.{part}" for matrix in matrices), axis=axis)
        scales = [f"{matrix}.scale" for matrix in matrices]
        if axis == 1:
            self.node(f"{name}.scale", "Concat", *scales, axis=0)
        else:
            self.node(f"{name}.scale", "Identity", scales[0])
        return name

    def _prepare(self, value: str) -> None:
        self.node(f"{value}.fine", "DequantizeLinear", f"{value}.fine.level", self._level("both"), self._level("zero"))

    def _move(self, name: str, pairs: str, cut: str) -> None:
        for part in ("coarse", "fine"):
            self.node(f"{name}.{part}", "Pad", f"{pairs}.{part}", cut)

    def _unit_product(self, name: str, value: str, matrix: str) -> str:
        if matrix not in self._dequantised:
            self._dequantise(matrix)
            self._dequantised.add(matrix)
        products = [
            self.node(f"{name}.{one}.{other}", "MatMul", f"{value}.{one}", f"{matrix}.{other}.value")
            for one, other in (("coarse", "coarse"), ("fine", "coarse"), ("coarse", "fine"))
        ]
        return self.node(f"{name}.unit", "Add", self.node(f"{name}.more", "Add", *products[:2]), products[2])

    def _dequantise(self, matrix: str) -> None:
        """Add what a second factor's levels stand for, ``coarse.value`` and ``fine.value``."""
        finer = self.wide_weight("level.finer", np.array(1 / _COLUMN_FINER, np.float32))
        scales = {"coarse": f"{matrix}.scale", "fine": self.node(f"{matrix}.finer", "Mul", f"{matrix}.scale", finer)}
        for part, scale in scales.items():
            self.node(f"{matrix}.{part}.value", "DequantizeLinear", f"{matrix}.{part}", scale, axis=1)
