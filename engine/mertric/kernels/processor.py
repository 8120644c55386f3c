"""Whether kernels may use AMX's tiles and AVX-512's vectors, and what those need."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from typing import Any

from llvmlite.binding import get_host_cpu_features
from numba.core import config

_VECTORS = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_TILES = ("amx-tile", "amx-bf16", "avx512f", "avx512bw")
# Of Linux, `asm/prctl.h`: a process asks for registers that are large before it uses them.
_ARCH_PRCTL, _SUPPORTED, _REQUEST, _TILE_DATA = 158, 0x1021, 0x1023, 18


@cache
def why_no_vectors() -> str | None:
    """Say why kernels are not compiled for AVX-512 here; None if they are."""
    return _why_not(_VECTORS)


@cache
def why_no_tiles() -> str | None:
    """Say why kernels are not compiled for tiles here; None if they are."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"tiles are for Linux on x86_64, and this is {platform.system()} on {platform.machine()}"
    if problem := _why_not(_TILES):
        return problem
    supported = ctypes.c_uint64()
    failed = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _SUPPORTED, ctypes.byref(supported))
    if failed or not supported.value >> _TILE_DATA & 1:
        return "this Linux does not support tiles"
    return None


@cache
def request_tiles() -> str | None:
    """Ask for tiles, once for the process, and say why there are none; None if there are. Needed before any is used."""
    if problem := why_no_tiles():
        return problem
    if ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA):
        return "Linux does not give this process tiles"
    return None


def _why_not(features: tuple[str, ...]) -> str | None:
    """Say why Numba does not use these here; None if it does."""
    missing = [feature for feature in features if not get_host_cpu_features().get(feature)]
    if missing:
        return f"this processor has no {', '.join(missing)}"
    settings: Any = config  # of which mypy knows only a part
    if (settings.CPU_NAME, settings.CPU_FEATURES) != (None, None) or not settings.ENABLE_AVX:
        return (
            "NUMBA_CPU_NAME, NUMBA_CPU_FEATURES or NUMBA_ENABLE_AVX is set, and Numba then may not use all that this "
            "processor has"
        )
    return None
