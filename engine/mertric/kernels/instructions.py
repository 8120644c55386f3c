"""Instructions of the processor that Numba has no names for: AMX's, and those between numbers and their bits.

AMX has eight tiles, 0 to 7, of 16 rows of 64 bytes; kernels name them by constants.
"""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from llvmlite.binding import initialize_native_asmparser
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

_BYTE, _LONG, _WORD = ir.IntType(8), ir.IntType(64), ir.IntType(32)
_PLACE = _BYTE.as_pointer()
initialize_native_asmparser()  # for `fetch_tile`, also where it comes compiled from Numba's cache


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    return intrinsic(prefer_literal=True)(function)


def _call(builder: Any, name: str, arguments: list[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _PLACE)


def _moving(name: str) -> Callable[..., Any]:
    @_instruction
    def move(_: Any, tile: Any, array: Any, index: Any, stride: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(context, builder, signature.args[1], arguments[1], arguments[2])
            _call(builder, name, [_BYTE(tile.literal_value), place, arguments[3]])
            return context.get_dummy_value()

        return types.void(tile, array, types.int64, types.int64), code

    return move


load_tile = _moving("llvm.x86.tileloadd64")
"""Load a tile from an array: rows `stride` bytes apart from `index` on."""
store_tile = _moving("llvm.x86.tilestored64")
"""Write a tile where `load_tile` would read it."""


@_instruction
def multiply_add(_: Any, total: Any, a: Any, b: Any) -> Any:
    """Add the product of two tiles of bfloat16 to a tile of float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tdpbf16ps", [_BYTE(tile.literal_value) for tile in (total, a, b)])
        return context.get_dummy_value()

    return types.void(total, a, b), code


@_instruction
def zero_tile(_: Any, tile: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tilezero", [_BYTE(tile.literal_value)])
        return context.get_dummy_value()

    return types.void(tile), code


@_instruction
def configure(_: Any, block: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments[0], _LONG(0))
        _call(builder, "llvm.x86.ldtilecfg", [place])
        return context.get_dummy_value()

    return types.void(block), code


@_instruction
def release(_: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tilerelease", [])
        return context.get_dummy_value()

    return types.void(), code


_FOUR = """
prefetcht0 (%r10)
prefetcht0 (%r10,$1)
prefetcht0 (%r10,$1,2)
prefetcht0 (%r10,%r11)
"""
_FETCH = "movq $0, %r10; leaq ($1,$1,2), %r11" + "leaq (%r10,$1,4), %r10".join([_FOUR] * 4)
"""Sixteen rows. Left to LLVM, their addresses go to memory and back at every step."""


@_instruction
def fetch_tile(_: Any, array: Any, index: Any, stride: Any) -> Any:
    """Bring what `load_tile` would load to the first-level cache. It may be beyond the array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments[0], arguments[1])
        kind = ir.FunctionType(ir.VoidType(), [_PLACE, _LONG])
        builder.asm(kind, _FETCH, "r,r,~{r10},~{r11}", [place, arguments[2]], side_effect=True)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), code


@_instruction
def as_single(_: Any, bits: Any) -> Any:
    """The float32 that has these bits, a uint32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), code


@_instruction
def as_bits(_: Any, number: Any) -> Any:
    """The bits of a float32, as a uint32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.uint32(types.float32), code
