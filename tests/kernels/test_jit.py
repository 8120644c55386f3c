from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mertric
from mertric.kernels import jit
from mertric.kernels.costs import compile_report

ENGINE = Path(mertric.__file__).resolve().parents[1]

SCORE = """
import numpy as np
from mertric.kernels import band, costs, differences, gaussian, half, jit, moments, nuclear, triangular
from mertric.kernels.differences import frame_squared_errors
from mertric.metrics.embedding_mse import embedding_mse
print(embedding_mse(np.eye(4, 3), np.ones((4, 3))))
# The other kernels compile in the same way; they are left out of the report to save time.
kept = {"frame_squared_errors": jit.examples["frame_squared_errors"]}
jit.examples.clear(); jit.examples.update(kept)
report = costs.compile_report()
jit.examples.clear()
print(report.cache_directory, report.compiled)
"""


def _run(program: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ENGINE), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _output(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output.strip()


def test_report_names_every_kernel_and_its_cost() -> None:
    report = compile_report()
    names = {cost.name for cost in report.kernels}
    assert {"reduce_to_band", "absorb", "band_log_determinants", "frame_mean", "centre", "widen_half"} <= names
    assert report.seconds == sum(cost.seconds for cost in report.kernels)
    assert all(cost.seconds >= 0.0 for cost in report.kernels)
    assert report.compiled == sum(not cost.from_cache for cost in report.kernels)


def test_nothing_is_compiled_at_import() -> None:
    program = """
import mertric.metrics.batch, mertric.metrics.fad_infinity, mertric.metrics.kernel_distance
import mertric.metrics.embedding_mse, mertric.metrics.curves
from mertric.kernels import band, costs, differences, gaussian, half, jit, moments, nuclear, triangular
print(sum(len(dispatcher.signatures) for dispatcher, _ in jit.examples.values()))
"""
    assert _output(_run(program)) == "0"


def test_several_processes_share_one_fresh_cache(tmp_path: Path) -> None:
    processes = [_run(SCORE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(3)]
    assert {_output(process).splitlines()[0] for process in processes} == {"0.75"}
    value, report = _output(_run(SCORE, NUMBA_CACHE_DIR=str(tmp_path))).splitlines()
    assert value == "0.75"
    assert report.startswith(str(tmp_path))
    assert report.endswith(" 0")


@pytest.mark.parametrize("kept", [True, False])
def test_what_has_to_be_compiled_is_said_once(tmp_path: Path, *, kept: bool) -> None:
    nowhere = """
from numba.core import caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda cls, function, path: None)
"""
    program = f"""
import logging, sys, numba
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
{"" if kept else nowhere}
made = {{}}; exec("def f(x): return x", made); numba.njit(made["f"])(1)  # which is of no module
{SCORE}
frame_squared_errors(*(np.zeros((2, 16)) for _ in range(2)), np.empty(2))  # another version
"""
    once = ", once" if kept else ""
    said = f"mertric.kernels.jit: Compiling kernels for this processor{once}, which may take half a minute."
    expected = [said, "0.75"]
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert _output(_run(program, **environment)).splitlines()[:-1] == expected
    assert _output(_run(program, **environment)).splitlines()[:-1] == (["0.75"] if kept else expected)


@pytest.mark.parametrize("kept", [0, 40])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, kept: int, ending: str) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    _output(_run(SCORE, **environment))
    for path in tmp_path.rglob(f"*.{ending}"):
        path.write_bytes(path.read_bytes()[:kept])
    assert _output(_run(SCORE, **environment)).splitlines()[0] == "0.75"
    assert _output(_run(SCORE, **environment)).splitlines()[1].endswith(" 0")


def test_a_damaged_cache_that_cannot_be_made_again(tmp_path: Path) -> None:
    """As on a disk that is full still."""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    _output(_run(SCORE, **environment))
    for path in tmp_path.rglob("*.nbi"):
        path.write_bytes(b"")
    program = f"""
import errno
from numba.core import caching
def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")
caching.IndexDataCacheFile._open_for_write = full
{SCORE}
"""
    assert _output(_run(program, **environment)).splitlines()[0] == "0.75"


def test_kernels_work_where_nothing_can_be_written() -> None:
    """Numba finds no cache directory: every locator it would try refuses."""
    program = f"""
from numba.core import caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda cls, function, path: None)
{SCORE}
"""
    assert _output(_run(program)).splitlines() == ["0.75", "None 1"]


@pytest.mark.parametrize(("name", "value"), [("_sources", "others"), ("why_no_tiles", "there are none here")])
def test_a_cached_kernel_is_for_these_sources_and_these_tiles(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A kernel holds others, from whatever files, and products on tiles or in loops."""
    dispatcher, _ = jit.examples["frame_squared_errors"]

    def key() -> object:
        return dispatcher._cache._index_key((), dispatcher.targetctx.codegen())

    monkeypatch.setattr(jit, "why_no_tiles", lambda: None)
    before = key()
    assert key() == before
    monkeypatch.setattr(jit, name, lambda: value)
    assert key() != before
