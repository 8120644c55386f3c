"""What is known of each execution provider: its names, what it runs, what it needs, how it is set up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mertric.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Profile = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Least, best and greatest shape of an input."""


@dataclass(frozen=True, kw_only=True)
class FixedShapes:
    """What a provider gains from shapes that it knows before it loads a graph.

    Attributes
    ----------
    attention : mapping of str to str
        The encoder graphs to fix, by precision, where that is worth a session of its own. Those of whole clips are
        always fixed.
    captured : bool
        Runs are recorded once, as a CUDA graph, and then replayed, on arrays that keep their places in memory.
    """

    attention: Mapping[str, str] = field(default_factory=dict)
    captured: bool = False


@dataclass(frozen=True, kw_only=True)
class Provider:
    """An execution provider.

    Attributes
    ----------
    name : str
        What users call it.
    precisions : mapping of str to str
        What it computes in, and the precision of the graphs that it does so from.
    attention : str
        ``fused`` or ``portable``: which encoder graphs it runs best when shapes vary.
    needs : str
        What to install.
    ort_name : str
        What ONNX Runtime calls it; "" for our own.
    instructions : mapping of str to frozenset of str
        By precision, what of the processor, by LLVM's names, one is needed of: without it the precision is emulated.
    by_name_only : frozenset of str
        Precisions in which ``auto`` passes it over, as a provider that is always there is nearly as fast or faster, in
        less memory.
    multiples : mapping of str to int
        What frames are padded to a multiple of in a precision, where that is exact: fewer shapes to get used to, and
        shapes that kernels like. 1 where it is not named.
    batches : mapping of str to int
        Clips at once that a precision is fastest with; 1 where it is not named.
    ragged : bool
        Whether clips of any lengths run together with nothing padded.
    fixed : FixedShapes or None
        What it gains from fixed shapes, if anything.
    nvidia : bool
        Whether it runs on NVIDIA's GPUs.
    chunk : int
        Frames per run of the front end and, in graphs, of the positional convolution, at most. For MERT's 64 rows a
        frame and 512 channels, the first convolution and its GELU take 256 KiB a frame in graphs: 32 MiB for 128
        frames, near which processors are fastest, and 256 MiB for 1024, which keep a GPU busy and spare clips of up to
        13.7 s all but one journey there and back. In our own kernels it is 34 KiB for each byte of a number, and 2 MiB
        for 32 frames of two bytes stay in a core's second-level cache, where that is as large.
    readers : int
        Clips to decode, resample and look at at once, at most: one where inference takes all cores.
    clips : int
        Frames in all of a batch of clips of one length up to which it runs in one graph, from samples to hidden states,
        see `mertric.clips`; 0 where that gains nothing. It takes 256 KiB a frame in fp32 and half of that in fp16, 7 GB
        for 6 minutes; where a GPU has less, clips run in stages.
    """

    name: str
    precisions: Mapping[str, str]
    attention: str
    needs: str
    ort_name: str = ""
    instructions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    by_name_only: frozenset[str] = frozenset()
    multiples: Mapping[str, int] = field(default_factory=dict)
    batches: Mapping[str, int] = field(default_factory=dict)
    ragged: bool = False
    fixed: FixedShapes | None = None
    nvidia: bool = False
    chunk: int = 128
    clips: int = 0
    readers: int = 1

    @property
    def native(self) -> bool:
        """Whether it is our own, which reads the graphs' weights and runs kernels (`mertric.native`)."""
        return not self.ort_name


_ATTENTION = 1 | 2 | 16
"""ONNX Runtime's kernels for attention on CUDA, as bits: flash and memory-efficient, which hold scores in float32, and
unfused, which cannot be left out and runs where a GPU has neither. TensorRT's may hold them in float16, which ends at
65504."""
_CAPTURED_ATTENTION = _ATTENTION | 8
"""And cuDNN's, which is faster, but takes some 75 ms to get ready for a new shape."""
FRAMES = (1, 374, 2249)
"""Frames of a clip that TensorRT's engines are built for: least, best (5 s) and most (30 s)."""
BATCH = 8
"""Clips in a batch that TensorRT's engines are built for, at most."""

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="cuda",
            ort_name="CUDAExecutionProvider",
            precisions={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16"},
            attention="fused",
            needs='an NVIDIA GPU and pip install "mertric[gpu]", without onnxruntime beside onnxruntime-gpu',
            batches={"fp32": 16, "fp16": 16, "bf16": 16},
            fixed=FixedShapes(captured=True),
            nvidia=True,
            chunk=1024,
            clips=27000,
            readers=8,
        ),
        Provider(
            name="tensorrt",
            ort_name="TensorrtExecutionProvider",
            precisions={"fp32": "fp32", "fp16": "fp16"},
            attention="portable",
            needs='an NVIDIA GPU and pip install "mertric[tensorrt]", without onnxruntime beside onnxruntime-gpu',
            batches={"fp32": BATCH, "fp16": BATCH},
            nvidia=True,
            chunk=1024,
            readers=8,
        ),
        Provider(
            name="amx",
            precisions={"bf16": "fp32", "bf16x3": "fp32", "fp32": "fp32"},
            attention="portable",
            needs="Linux and an x86-64 processor with AMX in bfloat16",
            batches={"bf16": 8, "bf16x3": 8, "fp32": 8},
            ragged=True,
            chunk=32,
        ),
        Provider(
            name="avx512",
            precisions={"int16": "fp32", "fp32": "fp32"},
            attention="portable",
            needs="an x86-64 processor with AVX-512",
            batches={"int16": 8, "fp32": 8},
            ragged=True,
            chunk=32,
        ),
        Provider(
            name="openvino",
            ort_name="OpenVINOExecutionProvider",
            precisions={"fp32": "fp32", "bf16": "fp32", "int8": "int8"},
            attention="portable",
            needs='a processor that OpenVINO supports and pip install "mertric[openvino]"',
            instructions={"bf16": frozenset({"amx-bf16", "avx512bf16", "bf16"})},
            by_name_only=frozenset({"fp32"}),
            multiples={"fp32": 8, "bf16": 32, "int8": 32},
            batches={"bf16": 8, "int8": 8},
            fixed=FixedShapes(attention={"bf16": "pointwise", "int8": "portable"}),
        ),
        Provider(
            name="cpu",
            ort_name="CPUExecutionProvider",
            precisions={"fp32": "fp32", "int8": "int8"},
            attention="fused",
            needs='pip install "mertric[cpu]"',
        ),
    )
}
"""All providers, the fastest first."""
COMPUTED = tuple(dict.fromkeys(name for provider in PROVIDERS.values() for name in provider.precisions))
"""What some provider computes in."""


def get_provider(name: str, precision: str) -> Provider:
    """Return a provider by name.

    Raises
    ------
    ProviderError
        There is none of that name, or it does not compute in that precision.
    """
    if name not in PROVIDERS:
        raise ProviderError(f"provider {name!r} is not known; expected auto, {', '.join(PROVIDERS)}.")
    provider = PROVIDERS[name]
    if precision not in provider.precisions:
        able = [one.name for one in PROVIDERS.values() if precision in one.precisions]
        own = ", ".join(provider.precisions)
        raise ProviderError(
            f"precision {precision!r} was asked for on {name}, which computes in {own}; "
            f"{precision} is for {', '.join(able) or 'no provider'}."
        )
    return provider


def provider_options(
    provider: Provider,
    *,
    precision: str,
    threads: int | None,
    profiles: Mapping[str, Profile],
    engines: Callable[[], Path],
    captured: bool = False,
    tensor_cores: bool = False,
) -> dict[str, str]:
    """Return ONNX Runtime's options for a provider.

    Parameters
    ----------
    precision
        OpenVINO picks bf16 by itself on processors that have it, so it is always told.
    threads
        For OpenVINO, which does not read the session's.
    profiles
        The shapes of each of the graph's inputs that TensorRT builds its engine for.
    engines
        Returns a directory for TensorRT's engines of this bundle.
    captured
        Record a CUDA graph, see `FixedShapes`.
    tensor_cores
        Let all operators use tensor cores, as none that would then round to TF32 is in float32. Where TF32 is barred,
        ONNX Runtime bars tensor cores from convolutions in 16 bits too.
    """
    if provider.name == "cuda":
        return {
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": str(int(tensor_cores)),
            "prefer_nhwc": str(int(tensor_cores)),
            "sdpa_kernel": str(_CAPTURED_ATTENTION if captured else _ATTENTION),
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(captured)),
        }
    if provider.name == "openvino":
        settings: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        return {"load_config": json.dumps({"CPU": settings})}
    if provider.name == "tensorrt":
        cache = str(engines())
        names = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
        return {
            "trt_fp16_enable": "0",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": cache,
            **{name: _shapes(profiles, index) for index, name in enumerate(names)},
        }
    return {}


def _shapes(profiles: Mapping[str, Profile], index: int) -> str:
    """Write one of each input's shapes as TensorRT reads them."""
    return ",".join(f"{name}:{'x'.join(map(str, profile[index]))}" for name, profile in profiles.items())
