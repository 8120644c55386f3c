"""The one module that knows ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mertric.errors import DependencyError, ProviderError
from mertric.subgraph import keep_outputs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

CPU = "cpu"
PROVIDERS = {CPU: "CPUExecutionProvider"}
"""Names that users give, and ONNX Runtime's."""


class Session:
    """A graph of a bundle, ready to run. Safe to run from several threads at once.

    Parameters
    ----------
    graph
        The ONNX file; its weights stand beside it.
    outputs
        The outputs to compute; what only others need is not loaded.
    provider
        A key of `PROVIDERS`.
    threads
        Threads for one run, or None for one a core.
    """

    def __init__(self, graph: Path, outputs: Collection[str], *, provider: str, threads: int | None) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.parent))
        self._outputs = list(outputs)
        model = keep_outputs(graph.read_bytes(), self._outputs)
        try:
            self._session = ort.InferenceSession(model, options, providers=[PROVIDERS[provider]])
        except Exception as error:
            raise ProviderError(
                f"ONNX Runtime {ort.__version__} cannot load {graph} on {PROVIDERS[provider]} ({error}). "
                "Export the bundle again, or see `mertric doctor`."
            ) from error

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Run the graph and return its outputs in the order they were asked for."""
        results: list[NDArray[np.float32]] = self._session.run(self._outputs, dict(inputs))
        return results


def resolve_provider(name: str) -> str:
    """Return the provider that `name` stands for; ``auto`` is the best one here.

    Raises
    ------
    ProviderError
        The name is not known, or ONNX Runtime here lacks that provider.
    """
    available = _onnxruntime().get_available_providers()
    if name == "auto":
        return CPU
    if name not in PROVIDERS:
        raise ProviderError(f"provider {name!r} is not known; expected auto or {', '.join(PROVIDERS)}.")
    if PROVIDERS[name] not in available:
        raise ProviderError(f"ONNX Runtime here has no {PROVIDERS[name]}; it has {', '.join(available)}.")
    return name


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            'ONNX Runtime is not installed: pip install "mertric[cpu]", or "mertric[gpu]" for an NVIDIA GPU.'
        ) from error
    return onnxruntime
