"""Eight float64 numbers that kernels compute with at once, in one register where the processor has such.

Numba's compiler finds such vectors by itself only in long loops over arrays that it can prove apart, and
then makes them half as wide as AVX-512 is. A number of lanes is one LLVM vector: a processor with narrower
registers takes two or four of them.
"""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

if TYPE_CHECKING:
    from collections.abc import Callable

LANES = 8
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_INDEX = ir.IntType(32)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


_lanes = _Lanes()


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    return intrinsic(function)


@_instruction
def load(_: Any, array: Any, index: Any) -> Any:
    """The lanes number `index` of a contiguous float64 array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        value.align = 8
        return value

    return _lanes(array, types.intp), code


@_instruction
def store(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write lanes where `load` would read them."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        written = builder.store(value, _pointer(context, builder, signature.args[0], array, index))
        written.align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), code


@_instruction
def spread(_: Any, number: Any) -> Any:
    """Lanes that all hold one number."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        empty = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(empty, arguments[0], _INDEX(0))
        return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))

    return _lanes(types.float64), code


@_instruction
def square_root(_: Any, lanes: Any) -> Any:
    """The square root of each lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f64"), arguments)

    return _lanes(_lanes), code


@_instruction
def total(_: Any, lanes: Any) -> Any:
    """The sum of the lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), _VECTOR])
        name = f"llvm.vector.reduce.fadd.v{LANES}f64"
        add = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(add, [ir.DoubleType()(0.0), *arguments], fastmath=("reassoc",))

    return types.float64(_lanes), code


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [builder.mul(index, index.type(LANES))])
    return builder.bitcast(place, _VECTOR.as_pointer())


def _arithmetic(sign: Callable[[Any, Any], Any], instruction: str) -> None:
    @type_callable(sign)
    def kind(_: Any) -> Callable[[Any, Any], Any]:
        return lambda a, b: _lanes if a is _lanes and b is _lanes else None

    @lower_builtin(sign, _Lanes, _Lanes)
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=("contract",))


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")
