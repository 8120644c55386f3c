"""Run tests on AMX's instructions where the processor has none: a program, which takes pytest's arguments.

Kernels are compiled for tiles as they would be on a processor that has them. It refuses each such instruction by the
signal SIGILL, whose handler here does what the instruction would have done (Intel 64 and IA-32 Architectures Software
Developer's Manual, volume 2) and goes on behind it. The handler is compiled too, as Python could not run in one. What
it cannot emulate ends the process, and so do tiles that are used before `configure` or after `release`.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

_real_features = llvmlite.binding.get_host_cpu_features


def _features() -> Any:
    found = _real_features()
    found.update({"amx-tile": True, "amx-bf16": True})
    return found


llvmlite.binding.initialize_native_asmparser()
llvmlite.binding.get_host_cpu_features = _features  # before Numba compiles anything

_THREADS, _TILES, _ROWS, _BYTES = 64, 8, 16, 64
_TILE = _ROWS * _BYTES
_REGISTERS = 40
"""Bytes of `ucontext_t` before its registers, of Linux on x86-64: `sys/ucontext.h`."""
_ORDER = np.array([13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7])
"""Where a register stands there, by its number in instructions."""
_NEXT = 16
_NP, _66, _F3, _F2 = range(4)
"""Prefixes, as VEX numbers them."""

threads = np.zeros(_THREADS, np.int64)
"""Who has which place in `tiles`."""
tiles = np.zeros((_THREADS, 1 + _TILES, _TILE), np.uint8)
"""Of each thread, behind what begins with a 1 while they are configured."""
multiplied = np.zeros(1, np.int64)
"""Pairs of tiles so far, about: threads do not wait for one another to count."""
_THREADS_AT, _TILES_AT, _MULTIPLIED_AT = threads.ctypes.data, tiles.ctypes.data, multiplied.ctypes.data


@intrinsic
def _pointer(_: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.CPointer(types.uint8)(types.int64), code


@intrinsic
def _this_thread(_: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.asm(ir.FunctionType(ir.IntType(64), []), "movq %fs:0, $0", "=r", [], side_effect=False)

    return types.int64(), code


@intrinsic
def _claim(_: Any, address: Any, owner: Any) -> Any:
    """Write an owner where there is none, and return who was there."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        long = ir.IntType(64)
        place = builder.inttoptr(arguments[0], long.as_pointer())
        return builder.extract_value(builder.cmpxchg(place, long(0), arguments[1], "seq_cst"), 0)

    return types.int64(types.int64, types.int64), code


@njit
def _bytes(address: int, count: int) -> Any:
    return carray(_pointer(address), (count,), np.uint8)


@njit
def _own_tiles() -> int:
    """Where this thread has its place in `tiles`; 0 if too many have one."""
    owner = _this_thread()
    for place in range(_THREADS):
        if _claim(_THREADS_AT + 8 * place, owner) in (0, owner):
            return _TILES_AT + place * (1 + _TILES) * _TILE
    return 0


@njit
def _tile(own: int, number: int) -> Any:
    return _bytes(own + (1 + number) * _TILE, _TILE)


@njit
def _signed(code: Any, at: int, size: int) -> int:
    number = np.int64(0)
    for place in range(size):
        number |= np.int64(code[at + place]) << 8 * place
    return number - ((number >> (8 * size - 1)) << 8 * size)


@njit
def _address(code: Any, registers: Any) -> tuple[int, int, int]:
    """Base and index of an operand in memory, and how long the instruction is."""
    mode, base, index, length = code[4] >> 6, code[4] & 7, np.int64(0), 5
    if base == 4:
        scale, number = code[5] >> 6, (code[5] >> 3 & 7) | (0 if code[1] & 0x40 else 8)
        base, length = code[5] & 7, 6
        if number != 4:
            index = registers[_ORDER[number]] << scale
    size = 4 if mode == 2 or (mode == 0 and base == 5) else mode
    displacement = _signed(code, length, size) if size else 0
    if mode != 0 or base != 5:
        displacement += registers[_ORDER[base | (0 if code[1] & 0x20 else 8)]]
    elif length == 5:  # counted from the next instruction
        displacement += registers[_NEXT] + length + size
    return displacement, index, length + size


@njit
def _multiply(own: int, total: int, first: int, second: int) -> None:
    """Sum even and odd places each, in float32, and add both up."""
    sums = _tile(own, total).view(np.float32)
    a, b = _tile(own, first).view(np.uint16), _tile(own, second).view(np.uint16)
    left, right, added = np.empty(512, np.uint32), np.empty(512, np.uint32), np.empty(32, np.float32)
    left[:], right[:] = a, b
    left[:], right[:] = left << 16, right << 16
    lefts, rights = left.view(np.float32), right.view(np.float32)
    for row in range(_ROWS):
        added[:] = 0
        for pair in range(16):
            for column in range(16):
                added[column] += lefts[row * 32 + 2 * pair] * rights[pair * 32 + 2 * column]
                added[16 + column] += lefts[row * 32 + 2 * pair + 1] * rights[pair * 32 + 2 * column + 1]
        for column in range(16):
            sums[row * 16 + column] += added[column] + added[16 + column]
    _bytes(_MULTIPLIED_AT, 8).view(np.int64)[0] += 1


@njit
def _emulate(code: Any, registers: Any) -> int:
    """Do what an instruction would, and return its length; 0 if it is none of AMX's that kernels use."""
    own = _own_tiles()
    if not own or code[0] != 0xC4 or code[1] & 0x1F != 2 or not code[1] & 0x80 or code[2] & 0x84:
        return 0
    what, tile, other = (code[2] & 3, code[3]), code[4] >> 3 & 7, code[4] & 7
    configured, registers_only = _bytes(own, 1), code[4] >> 6 == 3
    base, index, length = (0, 0, 5) if registers_only else _address(code, registers)
    if what == (_NP, 0x49) and not registers_only:  # LDTILECFG
        shape = _bytes(base + index, 64)
        if shape[0] != 1 or (shape[48:56] != _ROWS).any() or (shape[16:32].view(np.uint16) != _BYTES).any():
            return 0
        _bytes(own, (1 + _TILES) * _TILE)[:] = 0
        configured[0] = 1
    elif not configured[0]:
        return 0
    elif what == (_NP, 0x49):  # TILERELEASE
        configured[0] = 0
    elif what == (_F2, 0x49) and registers_only:  # TILEZERO
        _tile(own, tile)[:] = 0
    elif what == (_F3, 0x5C) and registers_only:  # TDPBF16PS
        _multiply(own, tile, other, ~(code[2] >> 3) & 7)
    elif what in ((_F2, 0x4B), (_F3, 0x4B)) and not registers_only:
        for row in range(_ROWS):
            there, here = _bytes(base + row * index, _BYTES), _tile(own, tile)[row * _BYTES : (row + 1) * _BYTES]
            if what == (_F2, 0x4B):  # TILELOADD
                here[:] = there
            else:  # TILESTORED
                there[:] = here
    else:
        return 0
    return length


@cfunc(types.void(types.int32, types.int64, types.int64))
def _on_illegal_instruction(number: int, information: int, context: int) -> None:
    registers = _bytes(context + _REGISTERS, 8 * 23).view(np.int64)
    length = _emulate(_bytes(registers[_NEXT], 16).astype(np.int64), registers)
    registers[_NEXT] = registers[_NEXT] + length if length else 0


def _begin() -> None:
    """Let mertric take this processor for one with tiles, and emulate them."""
    from mertric.kernels import processor

    processor.why_no_tiles = processor.request_tiles = lambda: None
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGILL, _on_illegal_instruction.address)


if __name__ == "__main__":
    _begin()
    import pytest

    result = pytest.main(["-p", "no:faulthandler", "-p", "no:cacheprovider", *sys.argv[1:]])
    print(f"{multiplied[0]} pairs of tiles were multiplied")
    sys.exit(result)
