"""What tests of commands share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mertric.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]
    WriteWav = Callable[..., Path]
    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the whole program in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mertric", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
            raise SystemExit(0)
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def folders(tmp_path: Path, write_wav: WriteWav, sound: Sound) -> tuple[Path, Path]:
    """Three references and an estimate of each, one of them in a folder of its own."""
    for seed, name in enumerate(("a.wav", "b.wav", "sub/c.wav")):
        write_wav(f"ref/{name}", sound(seed=seed))
        write_wav(f"est/{name}", sound(seed=seed + 9))
    return tmp_path / "ref", tmp_path / "est"
