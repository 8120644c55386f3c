"""AMX's instructions, as LLVM writes them for our kernels, also where the processor has none."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mertric
from mertric.kernels.processor import why_no_tiles, why_no_vectors

HERE = Path(__file__).parent
ENGINE = Path(mertric.__file__).resolve().parents[1]
LINUX = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.mark.skipif(not LINUX, reason="tiles are for Linux on x86_64")
@pytest.mark.skipif(why_no_vectors() is not None, reason="what has no AVX-512 cannot run what is compiled for AMX")
@pytest.mark.skipif(why_no_tiles() is None, reason="with tiles all tests run on them")
def test_products_and_attention_on_emulated_tiles() -> None:
    files = [str(HERE / name) for name in ("test_products.py", "test_attention.py")]
    done = subprocess.run(
        [sys.executable, str(HERE / "emulated_tiles.py"), "-q", *files, "-k", "bf16"],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) pairs of tiles were multiplied", done.stdout)
    assert found and int(found[1]) > 100_000
