"""Products of 32 x 32 blocks in float32, in the processor's vectors.

The second factor is packed by steps of the inner dimension, [STEP, BLOCK].
"""

# ruff: noqa: ARG001  (Numba calls these functions, with arguments of its own choice)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils

from mertric.kernels.jit import instruction, kernel
from mertric.kernels.lanes import load, spread_value, store
from mertric.kernels.sizes import BLOCK, SINGLES, STEP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Singles = NDArray[np.float32]

_DEPTH = 2
"""Steps of the second factor, of 4 KiB each, that stay in the first-level cache for all rows of a block."""
_WIDTH = BLOCK // SINGLES
_ROWS, _COLUMNS = (8, _WIDTH) if get_host_cpu_features().get("avx512f") else (4, 1)
"""Rows and lanes of columns whose sums stay in registers, of which AVX-512 has 32 of 16 numbers and AVX2 16 of 8."""
_UNROLLED = 4
_BYTE, _WORD, _LONG, _SINGLE = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_LANES = ir.VectorType(_SINGLE, SINGLES)


@instruction
def _add_rows(
    _: Any, a: Any, at: Any, stride: Any, b: Any, packed: Any, count: Any, out: Any, to: Any, ahead: Any
) -> Any:
    """Add a product to some rows of some columns, and fetch a share of what is so far ahead in b.

    The sum is over `count` numbers, a multiple of `_UNROLLED`.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, columns, sums = (
            builder.gep(context.make_array(signature.args[i])(context, builder, arguments[i]).data, [arguments[i + 1]])
            for i in (0, 3, 6)
        )
        places = [builder.gep(rows, [builder.mul(arguments[2], _LONG(row))]) for row in range(_ROWS)]
        kind = ir.FunctionType(_LANES, [_LANES] * 3)
        name = f"llvm.fma.v{SINGLES}f32"
        add_product = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        cells = [(row, j) for row in range(_ROWS) for j in range(_COLUMNS)]
        held = {
            (row, j): builder.bitcast(builder.gep(sums, [_LONG(row * BLOCK + j * SINGLES)]), _LANES.as_pointer())
            for row, j in cells
        }
        before = {cell: builder.load(place, align=4) for cell, place in held.items()}
        entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(_LONG)
        index.add_incoming(_LONG(0), entry)
        first = {cell: builder.phi(_LANES) for cell in cells}
        found: dict[tuple[int, int], Any] = dict(first)
        share = builder.gep(columns, [builder.add(arguments[8], builder.mul(index, _LONG(_ROWS)))])
        for line in range(0, _UNROLLED * _ROWS, SINGLES):
            _fetch(builder, builder.gep(share, [_LONG(line)]))
        for number in range(_UNROLLED):
            inner = builder.add(index, _LONG(number))
            line = builder.gep(columns, [builder.mul(inner, _LONG(BLOCK))])
            factors = [
                builder.load(builder.bitcast(builder.gep(line, [_LONG(j * SINGLES)]), _LANES.as_pointer()), align=4)
                for j in range(_COLUMNS)
            ]
            for row, place in enumerate(places):
                factor = spread_value(builder, builder.load(builder.gep(place, [inner])), SINGLES)
                for j in range(_COLUMNS):
                    found[row, j] = builder.call(add_product, [factor, factors[j], found[row, j]])
        following = builder.add(index, _LONG(_UNROLLED))
        index.add_incoming(following, loop)
        for cell, phi in first.items():
            phi.add_incoming(before[cell], entry)
            phi.add_incoming(found[cell], loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[5]), loop, done)
        builder.position_at_end(done)
        for cell, place in held.items():
            builder.store(found[cell], place, align=4)
        return context.get_dummy_value()

    numbers = types.int64
    return types.void(a, numbers, numbers, b, numbers, numbers, out, numbers, numbers), code


def _fetch(builder: Any, place: Any) -> None:
    """Bring a line to the first-level cache."""
    kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _WORD, _WORD, _WORD])
    name = "llvm.prefetch.p0i8"
    prefetch = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    builder.call(prefetch, [builder.bitcast(place, _BYTE.as_pointer()), _WORD(0), _WORD(3), _WORD(1)])


@kernel()
def multiply_singles(
    a: Singles,
    at: int,
    stride: int,
    rows: int,
    taps: int,
    b: Singles,
    packed: int,
    steps: int,
    product: Singles,
    to: int,
) -> None:
    """`mertric.kernels.factors.multiply_block` of float32."""
    product[to : to + BLOCK * BLOCK] = 0
    for tap in range(taps):
        place = at + tap * (stride // 2)
        for step in range(0, steps, _DEPTH):
            inner = STEP * min(_DEPTH, steps - step)
            for row in range(0, rows, _ROWS):
                for j in range(0, _WIDTH, _COLUMNS):
                    column, ahead = j * SINGLES, inner * (BLOCK + row)
                    begin, out = place + row * stride, to + row * BLOCK + column
                    _add_rows(a, begin, stride, b, packed + column, inner, product, out, ahead)
            place += inner
            packed += inner * BLOCK


@kernel()
def pack_singles(b: Singles, packed: int, source: Singles, begin: int, stride: int) -> None:
    """`mertric.kernels.factors.pack_block` in float32."""
    for inner in range(STEP):
        for j in range(_WIDTH):
            line = (begin + inner * stride) // SINGLES
            store(b, packed // SINGLES + inner * _WIDTH + j, load(source, line + j))
