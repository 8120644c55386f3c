"""Eight float64 or sixteen float32 numbers to compute with at once, in one register where the processor has such.

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
from numba.extending import lower_builtin, register_model, type_callable

from mertric.kernels.jit import instruction
from mertric.kernels.sizes import LANES, SINGLES

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, SINGLES)


_NUMBERS = {types.float64: ir.DoubleType(), types.float32: ir.FloatType(), types.uint16: ir.IntType(16)}


class Lanes(types.Type):
    """So many numbers of a type, as one."""

    def __init__(self, element: Any, count: int) -> None:
        super().__init__(name=f"Lanes({element}, {count})")
        self.element, self.count = element, count
        self.number = _NUMBERS[element]
        self.vector = ir.VectorType(self.number, count)
        self.suffix = f"v{count}f{element.bitwidth}"


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


_KINDS = {kind.element: kind for kind in (Lanes(types.float64, LANES), Lanes(types.float32, SINGLES))}
_singles = _KINDS[types.float32]


@instruction
def load(_: Any, array: Any, index: Any) -> Any:
    """The lanes number `index` of a contiguous array of float64 or float32."""
    kind = _KINDS[array.dtype]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], arguments[0], arguments[1], kind.vector))
        value.align = kind.element.bitwidth // 8
        return value

    return kind(array, types.intp), code


@instruction
def store(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write lanes as number `index` of a contiguous array of their numbers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        written = builder.store(value, _pointer(context, builder, signature.args[0], array, index, value.type))
        written.align = lanes.element.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@instruction
def spread(_: Any, number: Any) -> Any:
    """Lanes that all hold one number."""
    kind = _KINDS[number]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread_value(builder, arguments[0], kind.count)

    return kind(number), code


@instruction
def square_root(_: Any, lanes: Any) -> Any:
    """The square root of each lane."""
    return lanes(lanes), _function("llvm.sqrt", lanes)


@instruction
def least(_: Any, a: Any, b: Any) -> Any:
    """The lesser number of each pair of lanes."""
    return a(a, b), _function("llvm.minnum", a)


@instruction
def greatest(_: Any, a: Any, b: Any) -> Any:
    """The greater number of each pair of lanes."""
    return a(a, b), _function("llvm.maxnum", a)


@instruction
def total(_: Any, lanes: Any) -> Any:
    """The sum of the lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(lanes.number, [lanes.number, lanes.vector])
        add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.{lanes.suffix}")
        return builder.call(add, [lanes.number(0.0), *arguments], fastmath=("reassoc",))

    return lanes.element(lanes), code


@instruction
def highest(_: Any, lanes: Any) -> Any:
    """The greatest of the lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(lanes.number, [lanes.vector])
        name = f"llvm.vector.reduce.fmax.{lanes.suffix}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return lanes.element(lanes), code


@instruction
def shifted_up(_: Any, lanes: Any) -> Any:
    """Lanes of float32 whose bits are those of `lanes`, 23 places further up: the lowest become an exponent."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.shl(builder.bitcast(arguments[0], _WORDS), _words(23)), _singles.vector)

    return _singles(lanes), code


@instruction
def magnitude(_: Any, lanes: Any) -> Any:
    """The absolute value of each lane."""
    return lanes(lanes), _function("llvm.fabs", lanes)


@instruction
def highest_magnitude(_: Any, lanes: Any, others: Any) -> Any:
    """The greatest absolute value of two lanes of float32; of any that are no numbers, one of these."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, other = (builder.and_(builder.bitcast(given, _WORDS), _words(0x7FFFFFFF)) for given in arguments)
        bits = builder.select(builder.icmp_unsigned(">", own, other), own, other)  # they are in the order of the values
        kind = ir.FunctionType(_WORD, [_WORDS])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.umax.v{SINGLES}i32")
        return builder.bitcast(builder.call(reduce, [bits]), ir.FloatType())

    return types.float32(lanes, others), code


def spread_value(builder: Any, number: Any, count: int) -> Any:
    """So many lanes of one number, in LLVM's terms."""
    empty = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    first = builder.insert_element(empty, number, _WORD(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_WORD, count), [0] * count))


def _words(number: int) -> Any:
    return ir.Constant(_WORDS, [number] * SINGLES)


def _function(name: str, kind: Any) -> Callable[..., Any]:
    """Call a function of LLVM's whose arguments and result are lanes of one kind."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(kind.vector, [argument.type for argument in arguments])
        full = f"{name}.{kind.suffix}"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, full), arguments)

    return code


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [builder.mul(index, index.type(vector.count))])
    return builder.bitcast(place, vector.as_pointer())


def _arithmetic(sign: Callable[[Any, Any], Any], instruction: str) -> None:
    @type_callable(sign)
    def kind(_: Any) -> Callable[[Any, Any], Any]:
        return lambda a, b: a if isinstance(a, Lanes) and a == b else None

    @lower_builtin(sign, Lanes, Lanes)
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=("contract",))


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")
