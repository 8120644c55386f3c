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

_HALF, _WORD = ir.IntType(16), ir.IntType(32)
_WORDS = ir.VectorType(_WORD, SINGLES)


class _Lanes(types.Type):
    """So many numbers of a type, as one."""

    def __init__(self, element: Any, count: int) -> None:
        super().__init__(name=f"Lanes({element}, {count})")
        self.element, self.count = element, count
        self.number = ir.DoubleType() if element == types.float64 else ir.FloatType()
        self.vector = ir.VectorType(self.number, count)
        self.suffix = f"v{count}f{element.bitwidth}"


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


_KINDS = {kind.element: kind for kind in (_Lanes(types.float64, LANES), _Lanes(types.float32, SINGLES))}
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
    """Write lanes where `load` would read them."""

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
def store_rounded(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write lanes of finite float32 as lanes number `index` of a contiguous array of uint16, in bfloat16.

    Each is rounded to the nearest, of two equally near to the one farther from 0.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.add(builder.bitcast(arguments[2], _WORDS), _words(0x8000))
        halves = builder.trunc(builder.lshr(bits, _words(16)), ir.VectorType(_HALF, SINGLES))
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], halves.type)
        builder.store(halves, place).align = 2
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@instruction
def store_pairs(_: Any, array: Any, index: Any, lanes: Any, others: Any) -> Any:
    """Write two lanes as `store_rounded` would, by turns, as pairs number `index`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second = (builder.add(builder.bitcast(own, _WORDS), _words(0x8000)) for own in arguments[2:])
        pairs = builder.or_(builder.lshr(first, _words(16)), builder.and_(second, _words(0xFFFF0000)))
        pair = ir.VectorType(_HALF, 2 * SINGLES)
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], pair)
        builder.store(pairs, builder.bitcast(place, _WORDS.as_pointer())).align = 2
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, lanes), code


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


@instruction
def store_integers(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write lanes of float32, each rounded to the nearest integer, as lanes number `index` of an array of int16.

    They are below 2^15 in size.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        halves = builder.trunc(_rounded(builder, arguments[2]), ir.VectorType(_HALF, SINGLES))
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], halves.type)
        builder.store(halves, place).align = 2
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@instruction
def store_integer_pairs(_: Any, array: Any, index: Any, lanes: Any, others: Any) -> Any:
    """Write two lanes as `store_integers` would, by turns, as pairs number `index`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second = (_rounded(builder, own) for own in arguments[2:])
        pairs = builder.or_(builder.and_(first, _words(0xFFFF)), builder.shl(second, _words(16)))
        pair = ir.VectorType(_HALF, 2 * SINGLES)
        place = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], pair)
        builder.store(pairs, builder.bitcast(place, _WORDS.as_pointer())).align = 2
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, lanes), code


@instruction
def kept(_: Any, lanes: Any) -> Any:
    """What `store_rounded` keeps of lanes of finite float32, as such."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.add(builder.bitcast(arguments[0], _WORDS), _words(0x8000))
        return builder.bitcast(builder.and_(bits, _words(0xFFFF0000)), _singles.vector)

    return _singles(lanes), code


def spread_value(builder: Any, number: Any, count: int) -> Any:
    """So many lanes of one number, in LLVM's terms."""
    empty = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    first = builder.insert_element(empty, number, _WORD(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_WORD, count), [0] * count))


def _rounded(builder: Any, lanes: Any) -> Any:
    """Lanes of which the lowest 16 bits are those of the integer nearest to a float32."""
    units = ir.Constant(_singles.vector, [1.5 * 2**23] * SINGLES)  # plus which a float32 has no bits for fractions
    return builder.bitcast(builder.fadd(lanes, units), _WORDS)


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
        return lambda a, b: a if isinstance(a, _Lanes) and a == b else None

    @lower_builtin(sign, _Lanes, _Lanes)
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=("contract",))


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")
