"""Lanes of float32 in 16 bits: as bfloat16, the upper half of a float32, or as integers."""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from mertric.kernels.jit import instruction
from mertric.kernels.lanes import Lanes
from mertric.kernels.sizes import SINGLES

_SINGLES = ir.VectorType(ir.FloatType(), SINGLES)
_WORDS = ir.VectorType(ir.IntType(32), SINGLES)
_halves, _pairs = Lanes(types.uint16, SINGLES), Lanes(types.uint16, 2 * SINGLES)


@instruction
def in_bfloat16(_: Any, lanes: Any) -> Any:
    """Lanes of finite float32 in bfloat16, each to the nearest, of two equally near to the one farther from 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.trunc(builder.lshr(_rounded(builder, arguments[0]), _words(16)), _halves.vector)

    return _halves(lanes), code


@instruction
def kept(_: Any, lanes: Any) -> Any:
    """What `in_bfloat16` keeps of lanes, as float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.and_(_rounded(builder, arguments[0]), _words(0xFFFF0000)), _SINGLES)

    return lanes(lanes), code


@instruction
def in_integers(_: Any, lanes: Any) -> Any:
    """The integers, in two's complement, nearest to lanes of float32 below 2^15 in size."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        units = ir.Constant(_SINGLES, [1.5 * 2**23] * SINGLES)  # plus which a float32 has no bits for fractions
        return builder.trunc(builder.bitcast(builder.fadd(arguments[0], units), _WORDS), _halves.vector)

    return _halves(lanes), code


@instruction
def by_turns(_: Any, halves: Any, others: Any) -> Any:
    """Lanes of 16 bits and others, by turns."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second = (builder.zext(own, _WORDS) for own in arguments)
        return builder.bitcast(builder.or_(first, builder.shl(second, _words(16))), _pairs.vector)

    return _pairs(halves, others), code


def _rounded(builder: Any, lanes: Any) -> Any:
    """Words whose upper half is a float32 in bfloat16."""
    return builder.add(builder.bitcast(lanes, _WORDS), _words(0x8000))


def _words(number: int) -> Any:
    return ir.Constant(_WORDS, [number] * SINGLES)
