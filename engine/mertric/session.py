"""The one module that knows ONNX Runtime."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.bound import DTYPES, BoundSession
from mertric.bundle import MANIFEST
from mertric.cache import cache_directory
from mertric.device import Device
from mertric.errors import DependencyError, ProviderError
from mertric.providers import PROVIDERS, provider_options
from mertric.rows import joined, stacked
from mertric.subgraph import keep_outputs
from mertric.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from mertric.providers import Profile, Provider

_EXTERNAL_WEIGHTS = "session.model_external_initializers_file_folder_path"
_CPU = PROVIDERS["cpu"].ort_name
_PLUGIN = "mertric_openvino"
_REGISTERING = threading.Lock()
_TURNS = Turns()
"""While a CUDA graph is recorded, whatever else takes a GPU's memory fails, and so does the recording."""
_RUNS: set[Any] = set()
"""Options of the runs that are on, but for those with bound arrays."""
_UNWANTED = ["SkipLayerNormFusion", "MatmulTransposeFusion"]
"""Optimisations of ONNX Runtime that its CPU provider is slower with, or, for float64, has no kernel for in 1.21."""
_PROBE = (
    b'\x08\n:D\n\x11\n\x01x\n\x01x\x12\x01y"\x06MatMul\x12\x05probeZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02'
    b"\x08\x02\n\x02\x08\x02b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02B\x04\n\x00\x10\x14"
)
"""A model that multiplies a 2 x 2 matrix ``x`` by itself."""


class Session:
    """A graph of a bundle, ready to run. Safe to run from several threads at once.

    Parameters
    ----------
    graph
        The ONNX file; its weights stand beside it.
    outputs
        The outputs to compute; what only others need is not loaded.
    device
        Where it runs.
    profiles
        Least, best and greatest shape of each input, for TensorRT.
    sizes
        Sizes of the graph's free dimensions, by name, that no run will differ from. It then runs once, on zeros: what
        cannot run fails at once, and a CUDA graph is recorded, see `FixedShapes`.
    tensor_cores
        See `provider_options`.

    Attributes
    ----------
    name : str
        The file of the graph.
    """

    def __init__(
        self,
        graph: Path,
        outputs: Collection[str],
        *,
        device: Device,
        profiles: Mapping[str, Profile] | None = None,
        sizes: Mapping[str, int] | None = None,
        tensor_cores: bool = False,
    ) -> None:
        self.name = graph.name
        self._outputs = list(outputs)
        self._bound: BoundSession | None = None
        captured = bool(sizes) and device.provider.fixed is not None and device.provider.fixed.captured
        if not graph.is_file():
            there = ", ".join(sorted(path.name for path in graph.parent.glob("*.onnx")))
            raise ProviderError(
                f"there is no {graph.name} in {device.graphs}, which {device.provider.name} was to run; there are "
                f"{there}. Export the bundle again, or choose another attention."
            )
        model = keep_outputs(graph.read_bytes(), self._outputs)
        options = provider_options(
            device.provider,
            precision=device.precision,
            threads=device.threads,
            profiles=profiles or {},
            engines=partial(_engines, graph.parent),
            captured=captured,
            tensor_cores=tensor_cores,
        )
        self._turn = _TURNS.together if device.provider.nvidia else nullcontext
        try:
            with self._turn():
                self._session = _open(model, graph.parent, device, options, sizes or {})
                if captured:
                    self._bound = BoundSession(
                        _onnxruntime(), self._session, self._outputs, device=device.provider.name, sizes=sizes or {}
                    )
            if sizes:
                zeros = {value.name: np.zeros(value.shape, DTYPES[value.type]) for value in self._session.get_inputs()}
                with _TURNS.alone() if captured else self._turn():
                    self._run(zeros)
        except Exception as error:
            raise ProviderError(
                f"ONNX Runtime {_onnxruntime().__version__} cannot load {graph} on {device.provider.name} ({error}). "
                "Export the bundle again, or see `mertric doctor`."
            ) from error

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return its outputs in the order they were asked for.

        Raises
        ------
        ProviderError
            ONNX Runtime failed, for instance for want of memory.
        """
        with _failing({name: array.shape for name, array in inputs.items()}), self._turn():
            return self._run(inputs)

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        if self._bound is not None:
            return self._bound.run(inputs)
        with _stoppable() as options:
            results: list[NDArray[np.float32]] = self._session.run(self._outputs, dict(inputs), options)
        return results

    def run_rows(
        self, inputs: Mapping[str, Sequence[NDArray[Any]]], shapes: Mapping[str, tuple[int, ...]], rows: int
    ) -> list[NDArray[np.float32]]:
        """Run the graph on a batch that is given by its rows, and return its outputs by rows.

        Parameters
        ----------
        inputs
            For each input its rows, one after the other, or one array that is all of it. Each is contiguous; zeros
            follow those that are shorter than others.
        shapes
            For each input the shape of all of it.
        rows
            How many there are.

        Returns
        -------
        list of float32 [outputs, ...]
            For each row, its part of all outputs.

        Raises
        ------
        ProviderError
            See `run`.
        """
        if self._bound is not None:
            with _failing(shapes), self._turn():
                found = self._bound.run_rows(inputs, rows)
            if found is not None:
                return found
        outputs = self.run({name: joined(parts, shapes[name]) for name, parts in inputs.items()})
        return [stacked([output[index] for output in outputs]) for index in range(rows)]


@contextmanager
def _stoppable() -> Iterator[Any]:
    """Yield options for a run, by which `stop_runs` finds it."""
    options = _onnxruntime().RunOptions()
    _RUNS.add(options)
    try:
        yield options
    finally:
        _RUNS.discard(options)


def stop_runs() -> None:
    """Have ONNX Runtime end what it runs now, in any thread, after the operator that it is at; each fails."""
    for options in tuple(_RUNS):
        options.terminate = True


@contextmanager
def _failing(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[None]:
    """Say what inputs ONNX Runtime failed on."""
    try:
        yield
    except Exception as error:
        given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ProviderError(
            f"ONNX Runtime failed on {given} ({first_line(error)}). If memory ran out, use "
            "shorter clips, smaller batches or windows."
        ) from error


def square_unit_matrix(provider: Provider) -> NDArray[np.float32]:
    """Run a small model on a provider: the square of the 2 x 2 unit matrix.

    Whatever is wrong with the provider here is raised as it comes.
    """
    device = Device(provider=provider, precision="fp32", threads=1)
    square: Profile = ((2, 2), (2, 2), (2, 2))
    options = provider_options(
        provider, precision="fp32", threads=1, profiles={"x": square}, engines=partial(_engines, Path("probe"))
    )
    with _TURNS.together() if provider.nvidia else nullcontext():
        session = _open(_PROBE, None, device, options, {})
        (result,) = session.run(["y"], {"x": np.eye(2, dtype=np.float32)})
    return np.asarray(result)


_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-ep-openvino"),
    *("tensorrt-cu13", "tensorrt-cu12"),
)


def installed_runtimes() -> dict[str, str]:
    """Return the versions of the installed packages that bring ONNX Runtime or a provider; several overwrite."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _open(model: bytes, weights: Path | None, device: Device, options: dict[str, str], sizes: Mapping[str, int]) -> Any:
    """Open a session that runs on the device's provider and on no other but the CPU."""
    ort = _onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.enable_mem_pattern = False
    settings.intra_op_num_threads = device.threads or 0
    # Several sessions take turns; threads that spin after a run would take the cores from the next session's.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    for dimension, size in sizes.items():
        settings.add_free_dimension_override_by_name(dimension, size)
    if weights is not None:
        settings.add_session_config_entry(_EXTERNAL_WEIGHTS, str(weights))
    name = device.provider.ort_name
    if device.provider.name == "openvino":
        settings.add_provider_for_devices([_openvino_device(ort, name)], options)
        return ort.InferenceSession(model, settings)
    if name not in ort.get_available_providers():
        raise ProviderError(f"ONNX Runtime here has {', '.join(ort.get_available_providers())} and no {name}")
    if name == _CPU:
        return ort.InferenceSession(model, settings, providers=[(name, options)], disabled_optimizers=_UNWANTED)
    _preload(ort, device.provider)
    providers = [(name, options), (_CPU, {})]
    return ort.InferenceSession(model, settings, providers=providers, enable_fallback=0)


def _openvino_device(ort: Any, name: str) -> Any:
    """Register OpenVINO's plugin and return its CPU device."""
    try:
        import onnxruntime_ep_openvino
    except ImportError as error:
        raise ProviderError("onnxruntime-ep-openvino is not installed") from error
    with _REGISTERING:
        if not any(device.ep_name == name for device in ort.get_ep_devices()):
            ort.register_execution_provider_library(_PLUGIN, onnxruntime_ep_openvino.get_library_path())
    for device in ort.get_ep_devices():
        if device.ep_name == name and device.device.type == ort.OrtHardwareDeviceType.CPU:
            return device
    raise ProviderError("OpenVINO's plugin finds no processor that it supports")


def _preload(ort: Any, provider: Provider) -> None:
    """Load CUDA's and cuDNN's libraries, and TensorRT's, from their packages."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    if provider.name == "tensorrt":
        try:
            import tensorrt_libs  # noqa: F401
        except ImportError as error:
            raise ProviderError("TensorRT's libraries are not installed") from error


def _engines(graphs: Path) -> Path:
    """Return where TensorRT keeps the engines of a directory of graphs.

    They differ by the versions of both runtimes, and by the bundle's manifest, which names its weights.
    """
    versions = "-".join(installed_runtimes().values())
    manifest = graphs.parent / MANIFEST
    content = manifest.read_bytes() if manifest.is_file() else b""
    digest = hashlib.sha256(str(graphs.resolve()).encode() + content).hexdigest()[:16]
    return cache_directory() / "tensorrt" / versions / digest


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), repr(error))


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            'ONNX Runtime is not installed: pip install "mertric[cpu]", or "mertric[gpu]" for an NVIDIA GPU.'
        ) from error
    return onnxruntime
