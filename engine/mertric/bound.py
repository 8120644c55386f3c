"""A session whose inputs and outputs keep their places in a device's memory, as CUDA graphs need."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.page_locked import PageLocked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

PAGE_LOCKING = ("cuda",)
"""Devices whose driver page-locks memory."""
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


class BoundSession:
    """Runs a session on arrays of fixed shapes, in a thread of its own. Safe to use from several threads.

    ONNX Runtime keeps a recorded CUDA graph for each thread that runs a session (its `PerThreadContext`): other threads
    would each record, and hold, another.

    Parameters
    ----------
    runtime
        The module onnxruntime.
    session : onnxruntime.InferenceSession
        All its inputs, and the outputs asked for, have fixed shapes.
    outputs
        Names of the outputs to compute.
    device : str
        ONNX Runtime's name of the device, such as ``cuda``.
    sizes : mapping of str to int
        Sizes of dimensions that the session still knows by name.
    """

    def __init__(
        self, runtime: Any, session: Any, outputs: Sequence[str], *, device: str, sizes: Mapping[str, int]
    ) -> None:
        self._session = session
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mertric-bound")
        self._binding = session.io_binding()

        def allocate(value: Any) -> Any:
            shape = [sizes.get(size, size) for size in value.shape]
            return runtime.OrtValue.ortvalue_from_shape_and_type(shape, DTYPES[value.type], device, 0)

        self._inputs = {value.name: allocate(value) for value in session.get_inputs()}
        self._outputs = {value.name: allocate(value) for value in session.get_outputs() if value.name in outputs}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._order = list(outputs)
        self._shared = device == "cpu"  # memory that arrays would be views of
        self._locked = self._thread.submit(self._page_locked).result() if device in PAGE_LOCKING else None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Copy arrays in, run, and return copies of the outputs in the order they were asked for."""
        arrays = {name: np.ascontiguousarray(inputs[name]) for name in self._inputs}
        with self._lock:
            return self._thread.submit(self._run_on, arrays).result()

    def run_rows(self, inputs: Mapping[str, Sequence[NDArray[Any]]], rows: int) -> list[NDArray[np.float32]] | None:
        """Run a batch given and returned by its rows, see `Session.run_rows`; None where that is no faster here."""
        if self._locked is None:
            return None
        shape = self._outputs[self._order[0]].shape()[1:]
        results = [np.empty((len(self._order), *shape), np.float32) for _ in range(rows)]
        with self._lock:
            self._thread.submit(self._run_through, self._locked, inputs, results).result()
        return results

    def _run_on(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        for name, value in self._inputs.items():
            value.update_inplace(arrays[name])
        self._run()
        found = [self._outputs[name].numpy() for name in self._order]
        return [array.copy() for array in found] if self._shared else found

    def _run_through(
        self, locked: PageLocked, inputs: Mapping[str, Sequence[NDArray[Any]]], results: Sequence[NDArray[np.float32]]
    ) -> None:
        for name, value in self._inputs.items():
            locked.upload(inputs[name], _bytes(value) // len(inputs[name]), value.data_ptr())
        self._run()
        for index, name in enumerate(self._order):
            value = self._outputs[name]
            locked.download(value.data_ptr(), _bytes(value) // len(results), [result[index] for result in results])

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _page_locked(self) -> PageLocked | None:
        """Page-locked memory to copy through; None where CUDA's driver gives none, which ONNX Runtime does without."""
        values = [*self._inputs.values(), *self._outputs.values()]
        try:
            return PageLocked(max(_bytes(value) // value.shape()[0] for value in values), max(map(_bytes, values)))
        except OSError:
            return None


def _bytes(value: Any) -> int:
    """Bytes of an OrtValue."""
    count: int = math.prod(value.shape())
    return count * np.dtype(DTYPES[value.data_type()]).itemsize
