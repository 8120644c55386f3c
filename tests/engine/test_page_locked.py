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


@pytest.mark.parametrize("most", [100, 1500, 10**6])
@pytest.mark.parametrize("part", [16, 10**9])
def test_rows_come_through_whole(driver: Driver, monkeypatch: pytest.MonkeyPatch, most: int, part: int) -> None:
    """One or two at a time and all at once, by one thread and by several."""
    monkeypatch.setattr(page_locked, "_MOST", most)
    monkeypatch.setattr(page_locked, "_PART", part)
    array, there, back = numbers(5, 150), np.full((5, 150), np.nan, np.float32), np.zeros((5, 150), np.float32)
    locked = PageLocked(600, 3000)
    (block,) = driver.memory.values()
    assert len(block) == max(600, min(most, 3000))
    sizes = [150, 7, 0, 150, 149]
    locked.upload([row[:size] for row, size in zip(array, sizes, strict=True)], 600, there.ctypes.data)
    for row, given, size in zip(there, array, sizes, strict=True):
        np.testing.assert_array_equal(row, np.where(np.arange(150) < size, given, 0))
    locked.download(there.ctypes.data, 600, list(back))
    np.testing.assert_array_equal(back, there)
    copies = {100: 5, 1500: 3, 10**6: 1}[most]
    assert [driver.calls.count(name) for name in ("cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2")] == [copies, copies]
    del locked
    gc.collect()
    assert not driver.memory
    assert driver.calls[-6:] == [
        "cuCtxPushCurrent_v2",
        "cuThreadExchangeStreamCaptureMode",
        "cuMemFreeHost",
        "cuThreadExchangeStreamCaptureMode",
        "cuCtxPopCurrent_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]


@pytest.mark.parametrize("name", ["cuInit", "cuMemHostAlloc"])
def test_a_driver_that_refuses(driver: Driver, name: str) -> None:
    driver.refuses = name
    with pytest.raises(OSError, match=f"CUDA's {name} failed with error 2"):
        PageLocked(10, 10)


@pytest.mark.parametrize("refuses", ["", "cuMemHostAlloc", "no driver"])
def test_a_session_whose_rows_go_through_it(bundle: Path, monkeypatch: pytest.MonkeyPatch, refuses: str) -> None:
    """It gives what it gives without; where there is no driver, that is what happens."""
    found = Driver(refuses=refuses)

    def load(name: str) -> Driver:
        if refuses == "no driver":
            raise OSError(f"there is no {name}")
        return found

    monkeypatch.setattr(ctypes, "CDLL", load)
    fixed = FixedShapes(attention={"fp32": "fused"}, captured=True)
    device = Device(provider=replace(PROVIDERS["cpu"], fixed=fixed), precision="fp32", threads=1)
    graph, names = bundle / "fp32" / encoder_graph("fused"), ["state_4", "state_2"]
    batch = numbers(2, 9, 64)
    batch[1, 5:] = 0
    expected = Session(graph, names, device=Device(provider=PROVIDERS["cpu"], precision="fp32", threads=1)).run(
        {"state_0": batch}
    )
    monkeypatch.setattr(bound, "PAGE_LOCKING", ("cpu",))
    through = Session(graph, names, device=device, sizes={"batch": 2, "frames": 9})

    def run(*rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return through.run_rows({"state_0": rows}, {"state_0": (2, 9, 64)}, 2)

    first = run(batch[0], batch[1, :5])
    run(*np.zeros((2, 9, 64), np.float32))
    for index, states in enumerate(first):
        np.testing.assert_allclose(states, [state[index] for state in expected], atol=2e-6)
    assert found.calls.count("cuMemcpyDtoH_v2") == (0 if refuses else 2 * len(names))
