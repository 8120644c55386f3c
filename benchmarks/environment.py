"""Where a benchmark ran, how long things take there, and how much memory they need."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mertric.cores import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Key = TypeVar("Key")

PACKAGES = ("mertric", "numpy", "scipy", "numba", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino", "torch")
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

MEMORY = """
import json, resource, sys
from pathlib import Path
status = Path("/proc/self/status")
if status.exists():
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
print(json.dumps(peak / 1024))
"""


def environment() -> dict[str, Any]:
    """CPU, cores, system, versions, ONNX Runtime's providers, thread settings, and the load of the last minute."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except ImportError:
        providers = []
    return {
        "cpu": _cpu(),
        "gpu": _gpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "providers": providers,
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def timings(
    sides: Mapping[Key, Callable[[], object]], *, runs: Mapping[Key, int] | int = 7, warm_up: bool = True
) -> dict[Key, dict[str, float]]:
    """Median, minimum and 99th percentile of the wall time in seconds of each side, which take turns.

    They are warmed up first, unless that was done outside. `runs` is the number of timed calls, for all or for each.
    """
    counts = dict.fromkeys(sides, runs) if isinstance(runs, int) else dict(runs)
    taken: dict[Key, list[float]] = {name: [] for name in sides}
    if warm_up:
        for side in sides.values():
            side()
    for turn in range(max(counts.values())):
        for name, side in sides.items():
            if turn < counts[name]:
                start = time.perf_counter()
                side()
                taken[name].append(time.perf_counter() - start)
    return {
        name: {
            "median_s": statistics.median(values),
            "min_s": min(values),
            "p99_s": float(np.percentile(values, 99)),
            "runs": len(values),
        }
        for name, values in taken.items()
    }


def peak_memory(program: str) -> float:
    """Peak resident memory in MiB of a fresh interpreter that runs `program` beside the benchmarks."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program + MEMORY],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the program whose memory was to be measured failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _gpu() -> str | None:
    """Name of the first NVIDIA GPU."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    return names[0] if names else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        flags = named.get("flags", "").split()
        vectors = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if name in flags]
        return f"{named.get('model name', 'unknown')} ({', '.join(vectors) or 'no vector extensions known'})"
    return platform.processor() or "unknown"
