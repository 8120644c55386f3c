"""Products of 32 x 32 blocks of scaled integers, summed in 32 bits over a step and in float32 over steps.

AVX-512 adds up products of pairs of int16 in one instruction where it has VNNI, and in two where it has not. The step
is written for the assembler: LLVM takes the sums apart, and its name for the instruction takes other types in some
releases.
"""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, initialize_native_asmparser
from numba import types
from numba.core import cgutils

from mertric.kernels.jit import instruction, kernel
from mertric.kernels.processor import why_no_vectors
from mertric.kernels.scaled import place_of_scale, scales_of
from mertric.kernels.sizes import BLOCK, PACKED, SINGLES, STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Integers = NDArray[np.int16]

_DEPTH = 4
"""Steps of the second factor, of 2 KiB each, that stay in the first-level cache for all rows of a block."""
_ROWS = 8
"""Rows whose sums stay in registers."""
_DOTS = bool(get_host_cpu_features().get("avx512vnni"))
_LONG = ir.IntType(64)
initialize_native_asmparser()  # also where kernels come compiled from Numba's cache


def _text(dots: bool) -> str:
    """A step of `_ROWS` rows and all columns, for the assembler, with dot products or without.

    Its operands are the places of rows, how far they lie apart, and of columns and sums; of the rows' scales, how far
    they lie apart, and of the columns'; and what to fetch.
    """
    rows = ("($0)", "($0,$1)", "($0,$1,2)", "(%r11)", "(%r11,$1)", "(%r11,$1,2)", "(%r11,%r10)", "(%r11,$1,4)")
    scales = tuple(row.replace("$0", "$4").replace("$1", "$5") for row in rows)
    lines = ["leaq ($1,$1,2), %r10", "leaq ($0,%r10), %r11"]
    lines += [f"vpxord %zmm{cell}, %zmm{cell}, %zmm{cell}" for cell in range(2 * _ROWS)]
    for pair in range(STEP // 2):
        if pair % 2 == 0:
            lines.append(f"prefetcht0 {32 * pair}($7)")
        one, two = (16, 17) if pair % 2 else (18, 19)
        lines += [f"vmovups {64 * pair}($2), %zmm{one}", f"vmovups {64 * (pair + STEP // 2)}($2), %zmm{two}"]
        for row, place in enumerate(rows):
            factor = 20 + row % 4
            lines += [
                f"vpbroadcastd {4 * pair}{place}, %zmm{factor}",
                *_dot(dots, f"%zmm{one}", f"%zmm{factor}", f"%zmm{2 * row}"),
                *_dot(dots, f"%zmm{two}", f"%zmm{factor}", f"%zmm{2 * row + 1}"),
            ]
    lines += ["leaq ($5,$5,2), %r10", "leaq ($4,%r10), %r11", "vmovups ($6), %zmm16", "vmovups 64($6), %zmm17"]
    for row, place in enumerate(scales):
        lines.append(f"vbroadcastss {place}, %zmm{20 + row % 4}")
        for cell in (2 * row, 2 * row + 1):
            sums = f"{64 * cell}($3)"
            lines += [
                f"vcvtdq2ps %zmm{cell}, %zmm{cell}",
                f"vmulps %zmm{20 + row % 4}, %zmm{cell}, %zmm{cell}",
                f"vfmadd213ps {sums}, %zmm{16 + cell % 2}, %zmm{cell}",
                f"vmovups %zmm{cell}, {sums}",
            ]
    return "\n".join(lines)


def _dot(dots: bool, a: str, b: str, total: str) -> list[str]:
    """Add to 16 sums the products of 16 pairs."""
    if dots:
        return [f"vpdpwssd {b}, {a}, {total}"]
    return [f"vpmaddwd {b}, {a}, %zmm24", f"vpaddd %zmm24, {total}, {total}"]


_CHANGED = ",".join(("~{r10}", "~{r11}", "~{memory}", *(f"~{{zmm{register}}}" for register in range(25))))


def _adder(text: str) -> Callable[..., Any]:
    """What adds steps of a product, each as the assembler is told."""

    @instruction
    def add_steps(
        _: Any, a: Any, at: Any, stride: Any, b: Any, packed: Any, steps: Any, out: Any, to: Any, ahead: Any
    ) -> Any:
        """Add a product to `_ROWS` rows of all columns, over some steps, and fetch a share of what is ahead in b."""

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a, at, stride, b, packed, steps, out, to, ahead = arguments

            def place(index: int, array: Any, number: Any) -> Any:
                own = context.make_array(signature.args[index])(context, builder, array)
                return builder.ptrtoint(builder.gep(own.data, [number]), _LONG)

            def scale(index: int, array: Any, number: Any) -> Any:
                line = builder.ashr(number, _LONG(5))
                return builder.ptrtoint(place_of_scale(context, builder, signature.args[index], array, line), _LONG)

            rows, columns, sums = place(0, a, at), place(3, b, packed), place(6, out, to)
            row_scales, column_scales = scale(0, a, at), scale(3, b, packed)
            apart, scales_apart = builder.shl(stride, _LONG(1)), builder.ashr(stride, _LONG(3))
            fetched = builder.add(columns, builder.shl(ahead, _LONG(1)))
            kind = ir.FunctionType(ir.VoidType(), [_LONG] * 8)

            def after(place: Any, step: Any, size: int) -> Any:
                return builder.add(place, builder.mul(step, _LONG(size)))

            with cgutils.for_range(builder, steps) as loop:
                step = loop.index
                given = [after(rows, step, 2 * STEP), apart, after(columns, step, 2 * PACKED), sums]
                given += [after(row_scales, step, 4), scales_apart, after(column_scales, step, 4 * BLOCK)]
                given += [after(fetched, step, 2 * PACKED * _ROWS // BLOCK)]
                builder.asm(kind, text, "r,r,r,r,r,r,r,r," + _CHANGED, given, side_effect=True)
            return context.get_dummy_value()

        numbers = types.int64
        return types.void(a, numbers, numbers, b, numbers, numbers, out, numbers, numbers), code

    return add_steps


_add_steps = _adder(_text(_DOTS))


@kernel()
def _multiply_dots(
    a: Integers,
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: Integers,
    packed: int,
    steps: int,
    product: Singles,
    to: int,
) -> None:
    product[to : to + BLOCK * BLOCK] = 0
    for tap in range(taps):
        place = at + tap * (stride // 2)
        for step in range(0, steps, _DEPTH):
            count = min(_DEPTH, steps - step)
            for row in range(0, rows, _ROWS):
                ahead = count * (PACKED + row * (PACKED // BLOCK))
                _add_steps(a, place + row * stride, stride, b, packed, count, product, to + row * BLOCK, ahead)
            place += count * STEP
            packed += count * PACKED


@kernel()
def _multiply_loops(
    a: Integers,
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: Integers,
    packed: int,
    steps: int,
    product: Singles,
    to: int,
) -> None:
    product[to : to + BLOCK * BLOCK] = 0
    row_scales, column_scales = scales_of(a), scales_of(b)
    for step in range(taps * steps):
        begin, second = at + step // steps * (stride // 2) + step % steps * STEP, packed + step * PACKED
        for row in range(rows):
            line = begin + row * stride
            for column in range(BLOCK):
                first, total = second + column // SINGLES * (PACKED // 2) + column % SINGLES * 2, np.int32(0)
                for inner in range(STEP):
                    factor = np.int32(b[0, first + inner // 2 * STEP + inner % 2])
                    total = np.int32(total + np.int32(a[0, line + inner]) * factor)
                scale = row_scales[line // BLOCK] * column_scales[second // BLOCK + column]
                product[to + row * BLOCK + column] += np.float32(total) * scale


multiply_scaled = _multiply_dots if why_no_vectors() is None else _multiply_loops
"""`mertric.kernels.factors.multiply_block` of scaled integers."""
