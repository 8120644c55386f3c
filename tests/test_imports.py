"""What fresh processes import: never PyTorch, and only what the work at hand needs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEVER = {"torch", "torchaudio", "transformers", "onnx", "mertric_export", "huggingface_hub", "librosa", "tensorflow"}
HEAVY = {"numpy", "scipy", "numba", "onnxruntime", "soundfile", "rich"}


def imported(code: str, *arguments: object) -> set[str]:
    """Top-level modules that a fresh process holds after `code`, which finds its arguments in `sys.argv`."""
    report = "; import sys as _s, json as _j; _s.stderr.write(chr(10) + _j.dumps(sorted(_s.modules)))"
    command = [sys.executable, "-c", code + report, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


RUN = """
import sys
from mertric.cli import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
pass"""


def test_the_package_is_light() -> None:
    assert not imported("import mertric") & (NEVER | HEAVY | {"click"})


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_is_light(arguments: list[str]) -> None:
    assert not imported(RUN, *arguments) & (NEVER | HEAVY)


@pytest.mark.parametrize("command", ["score", "embed", "demo", "export"])
def test_the_help_of_a_command_is_light(command: str) -> None:
    assert not imported(RUN, command, "--help") & (NEVER | HEAVY)


def test_embedding_in_fp32_needs_no_numba(bundle: Path) -> None:
    """It takes long to load; scores and tiles need it."""
    code = (
        "import sys, mertric, numpy as np; encoder = mertric.load(sys.argv[1]); "
        "encoder.embed(np.ones(22050) * 0.1, sample_rate=44100)"
    )
    modules = imported(code, bundle)
    assert "onnxruntime" in modules
    assert "numba" not in modules


def test_scoring_arrays_needs_no_pytorch(bundle: Path) -> None:
    code = (
        "import sys, mertric, numpy as np; encoder = mertric.load(sys.argv[1]); "
        "x = np.random.default_rng(0).standard_normal(22050) * 0.1; "
        "score = mertric.score(x, 0.5 * np.roll(x, 3), encoder=encoder, sample_rate=44100); assert score.fad > 0"
    )
    modules = imported(code, bundle)
    assert "onnxruntime" in modules
    assert not modules & NEVER


def test_scoring_folders_needs_no_pytorch(
    bundle: Path, tmp_path: Path, write_wav: Callable[..., Path], sound: Callable[..., object]
) -> None:
    for seed, folder in enumerate(("ref", "est")):
        write_wav(f"{folder}/a.wav", sound(seed=seed), 44100)
    output = tmp_path / "rows.json"
    modules = imported(RUN, "score", tmp_path / "ref", tmp_path / "est", "--model", bundle, "--json", output)
    assert json.loads(output.read_text())[0]["status"] == "ok"
    assert "onnxruntime" in modules
    assert not modules & NEVER


def test_scoring_works_where_the_others_cannot_be_imported(bundle: Path) -> None:
    code = (
        f"import sys; never = {sorted(NEVER)!r}; sys.modules.update(dict.fromkeys(never)); "
        "import mertric, numpy as np; encoder = mertric.load(sys.argv[1]); x = np.sin(np.arange(9000.0)); "
        "assert mertric.score(x, x, encoder=encoder, sample_rate=24000).mse == 0; [sys.modules.pop(n) for n in never]"
    )
    assert not imported(code, bundle) & NEVER


def test_public_names() -> None:
    code = (
        "import mertric; names = [n for n in mertric.__all__]; assert all(getattr(mertric, n) for n in names); "
        "assert set(names) <= set(dir(mertric)); assert 'score' in names"
    )
    assert not imported(code) & NEVER


def test_an_unknown_name_is_said() -> None:
    import mertric

    with pytest.raises(AttributeError, match="module 'mertric' has no attribute 'socre'"):
        mertric.socre  # noqa: B018
