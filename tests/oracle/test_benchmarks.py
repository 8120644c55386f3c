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


def test_no_file_hides_a_package_that_torch_imports() -> None:
    """Python looks in a script's own folder first."""
    subprocess.run([sys.executable, "-c", "import torch, transformers"], cwd=BENCHMARKS, check=True, timeout=300)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_what_it_does(script: str) -> None:
    run = subprocess.run(
        [sys.executable, script, "--help"], cwd=BENCHMARKS, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout
