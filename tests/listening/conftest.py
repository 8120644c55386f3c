from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_GENSVS = Path(__file__).parents[3] / "shared/data/gensvs/gensvs_eval_data.csv"


@pytest.fixture
def gensvs() -> Path:
    if not _GENSVS.exists():
        pytest.skip(f"{_GENSVS} is absent")
    return _GENSVS


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file
