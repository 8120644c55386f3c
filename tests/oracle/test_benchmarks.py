"""Benchmarks start beside the packages that they compare with, and answer for themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.oracle
pytest.importorskip("torch")
pytest.importorskip("transformers")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if "def main(" in path.read_text(encoding="utf-8"))
ASK = """
import runpy, sys
import torch, transformers  # of which Python looks for parts in a script's own folder first
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print(script, "ended with", end.code)
"""


def test_every_script_says_what_it_does() -> None:
    """In one process, as importing PyTorch takes long."""
    run = subprocess.run(
        [sys.executable, "-c", ASK, *SCRIPTS], cwd=BENCHMARKS, capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert len(SCRIPTS) > 9
    for script in SCRIPTS:
        assert f"usage: {script}" in run.stdout
        assert f"{script} ended with 0" in run.stdout
