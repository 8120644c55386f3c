"""Copies through page-locked memory, with a driver of CUDA that keeps the device's memory in the host's."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric import bound, page_locked
from mertric.bundle import encoder_graph
from mertric.device import Device
from mertric.page_locked import PageLocked
from mertric.providers import PROVIDERS, FixedShapes
from mertric.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Driver:
    """Stands in for libcuda: hands out memory of the host, poisoned, and knows what was given back."""

    def __init__(self, *, refuses: str = "") -> None:
        self.refuses = refuses
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._called(name, arguments)

    def _called(self, name: str, arguments: tuple[Any, ...]) -> int:
        self.calls.append(name)
        if name == self.refuses:
            return 2
        if name == "cuMemHostAlloc":
            place, size, flags = arguments
            assert flags == 1
            block = (ctypes.c_uint8 * size.value)(*[0xAA] * size.value)
            place._obj.value = ctypes.addressof(block)
            self.memory[ctypes.addressof(block)] = block
        elif name == "cuMemFreeHost":
            del self.memory[arguments[0].value]
        elif name.startswith("cuMemcpy"):
            target, source, size = arguments
            ctypes.memmove(target.value, source.value, size.value)
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: found)
    return found


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("most", [100, 4096, 10**6])
@pytest.mark.parametrize("part", [16, 10**9])
def test_arrays_come_through_whole(driver: Driver, monkeypatch: pytest.MonkeyPatch, most: int, part: int) -> None:
    """In pieces, by one thread and by several."""
    monkeypatch.setattr(page_locked, "_MOST", most)
    monkeypatch.setattr(page_locked, "_PART", part)
    array, there, back = numbers(3, 37, 5), np.full(3 * 37 * 5, np.nan, np.float32), np.zeros((3, 37, 5), np.float32)
    locked = PageLocked(array.nbytes)
    (block,) = driver.memory.values()
    assert len(block) == min(most, array.nbytes)
    locked.upload(array, there.ctypes.data)
    np.testing.assert_array_equal(there, array.ravel())
    locked.download(there.ctypes.data, back)
    np.testing.assert_array_equal(back, array)
    copies = -(-array.nbytes // len(block))
    assert [driver.calls.count(name) for name in ("cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2")] == [copies, copies]
    del locked
    gc.collect()
    assert not driver.memory
    assert driver.calls[-4:] == [
        "cuCtxPushCurrent_v2",
        "cuMemFreeHost",
        "cuCtxPopCurrent_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]


@pytest.mark.parametrize("name", ["cuInit", "cuMemHostAlloc"])
def test_a_driver_that_refuses(driver: Driver, name: str) -> None:
    driver.refuses = name
    with pytest.raises(OSError, match=f"CUDA's {name} failed with error 2"):
        PageLocked(10)


def features(frames: int, batch: int) -> dict[str, NDArray[Any]]:
    return {"state_0": numbers(batch, frames, 64)}


@pytest.mark.parametrize("refuses", ["", "cuMemHostAlloc", "no driver"])
def test_a_session_whose_arrays_go_through_it(bundle: Path, monkeypatch: pytest.MonkeyPatch, refuses: str) -> None:
    """It gives what it gives without; where there is no driver, that is what happens."""
    found = Driver(refuses=refuses)

    def load(name: str) -> Driver:
        if refuses == "no driver":
            raise OSError(f"there is no {name}")
        return found

    monkeypatch.setattr(ctypes, "CDLL", load)
    fixed = FixedShapes(attention={"fp32": "fused"}, captured=True)
    device = Device(provider=replace(PROVIDERS["cpu"], fixed=fixed), precision="fp32", threads=1)
    options: dict[str, Any] = {"device": device, "sizes": {"batch": 2, "frames": 9}}
    graph, names = bundle / "fp32" / encoder_graph("fused"), ["state_4", "state_2"]
    expected = Session(graph, names, **options).run(features(9, 2))
    monkeypatch.setattr(bound, "PAGE_LOCKING", ("cpu",))
    through = Session(graph, names, **options)
    first = through.run(features(9, 2))
    through.run({"state_0": np.zeros((2, 9, 64), np.float32)})
    for one, other in zip(first, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    copies = found.calls.count("cuMemcpyDtoH_v2")
    assert copies == (0 if refuses else 3 * len(names))
