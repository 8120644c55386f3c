"""The ways to embed that `encoder.py` compares, each served from a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from material import Model
    from numpy.typing import NDArray

    Clips = NDArray[np.float32]
    Run = Callable[[Clips, bool], list[Clips] | list[list[Clips]]]
    """Clips [batch, samples] to the last hidden state, or to all where the flag is set.

    Each is an array [batch, frames, dim], or for each clip one [frames, dim]: what callers get.
    """

SHORT = 2 * 24_000
"""Samples of the clip that the number of threads is chosen on."""


@dataclass(frozen=True)
class Side:
    """One way to embed: a `kind` of `OPEN`, where it runs, and in which precision."""

    name: str
    kind: str
    device: str
    precision: str


def torch_side(side: Side, model: Model, clips: Clips) -> tuple[Run, dict[str, Any]]:
    """PyTorch, as transformers runs it: scaled-dot-product attention, inference mode.

    Below fp32 the CPU has autocast; on CUDA weights and values are all of that type, which is faster. There ``tf32`` is
    what PyTorch makes of fp32 unless told otherwise: its convolutions round to TF32.
    """
    import torch

    from mertric_export.checkpoint import read_checkpoint
    from mertric_export.config import NORMALIZE_EPS
    from mertric_export.hubert import hubert_model
    from mertric_export.tracer import normalize

    if side.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no CUDA device")
    kinds = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    kind = kinds[side.precision]
    throughout = kind if side.device == "cuda" else torch.float32
    network = hubert_model(read_checkpoint(model.checkpoint)).to(side.device, throughout)

    def run(clips: Clips, every: bool) -> list[Clips]:
        torch.backends.cudnn.allow_tf32 = side.precision == "tf32"
        if side.device == "cuda":  # where it takes less time than on the host
            raw = torch.from_numpy(clips).to(side.device)
            spread = torch.sqrt(raw.var(dim=1, keepdim=True, correction=0) + NORMALIZE_EPS)
            inputs = ((raw - raw.mean(dim=1, keepdim=True)) / spread).to(throughout)
        else:
            inputs = torch.from_numpy(np.stack([normalize(clip) for clip in clips]))
        with torch.inference_mode(), torch.autocast(side.device, dtype=kind, enabled=kind != throughout):
            result = network(inputs, output_hidden_states=every)
        states = result.hidden_states if every else [result.last_hidden_state]
        return [state.float().cpu().numpy() for state in states]

    if side.device != "cpu":
        return run, {}
    cores = torch.get_num_threads()
    speed = {}
    for threads in sorted({1, max(1, cores // 2), cores}):
        torch.set_num_threads(threads)
        first, _ = _timed(run, clips[:1, :SHORT])
        speed[threads] = statistics.median(_timed(run, clips[:1, :SHORT])[0] for _ in range(3 if first < 1 else 1))
    best = min(speed, key=lambda threads: speed[threads])
    torch.set_num_threads(best)
    return run, {"threads": best}


def optimum_side(_: Side, model: Model, __: Clips) -> tuple[Run, dict[str, Any]]:
    """ONNX Runtime on what optimum's exporter makes, with its default options."""
    from mertric_export.tracer import INPUT, normalize, open_traced, state_names

    if model.traced is None:
        raise RuntimeError(model.why)
    session = open_traced(model.traced)
    names = state_names(model.config.num_hidden_layers)

    def run(clips: Clips, every: bool) -> list[Clips]:
        inputs = {INPUT: np.stack([normalize(clip) for clip in clips])}
        states: list[Clips] = session.run(names if every else names[-1:], inputs)
        return states

    return run, {}


def mertric_side(side: Side, model: Model, clips: Clips) -> tuple[Run, dict[str, Any]]:
    """Ours: an encoder that is warm for clips of this length."""
    import mertric

    encoder = mertric.load(model.bundle, provider=side.device, precision=side.precision)
    encoder.warm_up([clips.shape[1] / model.config.sample_rate], batch=len(clips))

    def run(clips: Clips, every: bool) -> list[list[Clips]]:
        batch = encoder.embed_batch(
            list(clips),
            sample_rate=model.config.sample_rate,
            layers="all" if every else None,
            protocol="float",
        )
        return [list(state) for state in zip(*(embeddings.hidden for embeddings in batch), strict=True)]

    return run, {}


OPEN = {"torch": torch_side, "optimum": optimum_side, "mertric": mertric_side}


class Worker:
    """A side in a fresh process that has loaded, is warm for `clips` and waits to be asked to run again.

    `started` holds what came of it: `refused`, or seconds of a `warm` run, and peak resident memory in MiB
    of the whole process, with its loading (`whole`) and of embedding alone (`peak`). States are left in `results`.
    """

    def __init__(self, side: Side, model: Model, clips: Path, results: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, side, model, clips, results), daemon=True)
        self._process.start()
        theirs.close()
        self.side = side
        try:
            self.started: dict[str, Any] = self._pipe.recv()
        except EOFError:
            self.started = {"refused": self._ending(), "killed": True}

    def run(self) -> None:
        """Embed the clips once more."""
        self._ask("run")

    def save_every_state(self) -> None:
        """Leave all hidden states of the first clip in `results`."""
        self._ask("every")

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(30)
        self._process.kill()

    def _ask(self, request: str) -> None:
        try:
            self._pipe.send(request)
            problem = self._pipe.recv()
        except (EOFError, OSError):
            problem = self._ending()
        if problem:
            raise WorkerEndedError(self, problem)

    def _ending(self) -> str:
        self._process.join(30)
        return f"its process ended with exit code {self._process.exitcode} (out of memory?)"


class WorkerEndedError(Exception):
    """A worker could not do what it was asked for, and why."""

    def __init__(self, worker: Worker, why: str) -> None:
        super().__init__(why)
        self.worker = worker


def serve(pipe: Connection, side: Side, model: Model, clips_file: Path, results: Path) -> None:
    """Load, warm up, answer, and then run at each request until the pipe closes."""
    if Path("/proc/self/oom_score_adj").exists():
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        clips = np.load(clips_file)
        run, details = OPEN[side.kind](side, model, clips)
        gc.collect()
        loading = peak_memory(reset=True)
        for _ in range(2):
            seconds, states = _timed(run, clips)
            if seconds > 5:
                break
        _save(results / f"{side.name}.npy", states[-1])
        peak = peak_memory()
        pipe.send({"warm": seconds, "whole": max(loading, peak), "peak": peak, **details})
        del states
    except Exception as error:  # whatever keeps a side from running is its result
        pipe.send({"refused": _described(error)})
        return
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if request == "every":
                _save(results / f"{side.name}.every.npy", np.asarray(run(clips[:1], True))[:, 0])
            else:
                run(clips, False)
            pipe.send("")
        except Exception as error:
            pipe.send(_described(error))
            return


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _save(path: Path, states: Clips | list[Clips]) -> None:
    """Write an array that appears when it is whole."""
    np.save(path.with_suffix(".part.npy"), states)
    path.with_suffix(".part.npy").replace(path)


def _timed(run: Run, clips: Clips) -> tuple[float, list[Clips] | list[list[Clips]]]:
    start = time.perf_counter()
    states = run(clips, False)
    return time.perf_counter() - start, states


def peak_memory(*, reset: bool = False) -> float:
    """Peak resident memory of this process in MiB since it began or since the last `reset`; 0 where unknown."""
    status = Path(f"/proc/{os.getpid()}/status")
    if not status.exists():
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(found[1]) / 1024 if found else 0.0
