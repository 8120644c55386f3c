from __future__ import annotations

import pytest

from mertric.kernels import processor


@pytest.fixture(autouse=True)
def _ask() -> None:
    processor.request_tiles()
