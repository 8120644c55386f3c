"""How fast is the encoder on an NVIDIA GPU, against PyTorch there, and how much of what the chip can do is that?

All sides stand warm in one process and take turns. The first table is what a caller waits for, from samples on the host
to the last hidden states on the host, in one array. The second is the device's part alone: nothing is copied.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from environment import environment, timings
from material import SIZES, music, operations, prepare
from sides import OPEN, Side
from tables import markdown

from mertric.cache import cache_directory
from mertric.encoder import Encoder
from mertric_export.checkpoint import read_checkpoint
from mertric_export.hubert import hubert_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from material import Model
    from numpy.typing import NDArray

KINDS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
COLUMNS = [
    {"key": "seconds", "title": "audio, s", "format": "g"},
    {"key": "batch", "title": "clips", "format": "d"},
    {"key": "precision", "title": "precision", "format": ""},
    {"key": "torch_s", "title": "PyTorch", "format": "ms"},
    {"key": "mertric_s", "title": "mertric", "format": "ms"},
    {"key": "times", "title": "times as fast", "format": ".2f"},
    {"key": "share", "title": "share of the matrix rate", "format": ".1%"},
]
ERRORS = [
    {"key": "torch_error", "title": "PyTorch: largest error / rms", "format": ".1e"},
    {"key": "mertric_error", "title": "mertric: largest error / rms", "format": ".1e"},
]


def matrix_rates() -> dict[str, float]:
    """Operations a second of a large matrix product of random numbers on CUDA, in each precision; fp32 without TF32."""
    rates = {}
    for name, kind in KINDS.items():
        one, other = (torch.randn(8192, 8192, device="cuda").to(kind) for _ in range(2))
        times = []
        for _ in range(10):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            torch.matmul(one, other)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1000)
        rates[name] = 2 * 8192**3 / statistics.median(times)
    return rates


def whole(model: Model, clips: NDArray[np.float32]) -> dict[tuple[str, str], Callable[[], NDArray[np.float32]]]:
    """What a caller waits for, on each side and in each precision."""

    def run(kind: str, precision: str) -> Callable[[], NDArray[np.float32]]:
        embed, _ = OPEN[kind](Side(f"{kind} {precision}", kind, "cuda", precision), model, clips)
        return lambda: embed(clips, False)[-1]

    return {(kind, precision): run(kind, precision) for precision in KINDS for kind in ("torch", "mertric")}


def on_the_device(model: Model, clips: NDArray[np.float32]) -> dict[tuple[str, str], Callable[[], object]]:
    """The same without what the host does: PyTorch's model on samples that are there, ours on the arrays it keeps."""
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for precision, kind in KINDS.items():
        network = hubert_model(read_checkpoint(model.checkpoint)).to("cuda", kind)
        runs["torch", precision] = partial(forward, network, torch.from_numpy(clips).to("cuda", kind))
        encoder = Encoder(model.bundle, provider="cuda", precision=precision)
        encoder.warm_up([clips.shape[1] / model.config.sample_rate], batch=len(clips))
        (session,) = (one for key, one in encoder._network._clips._sessions.items() if key.clips)
        bound = session._bound
        runs["mertric", precision] = lambda bound=bound: bound._thread.submit(bound._run).result()
    return runs


@torch.inference_mode()
def forward(network: torch.nn.Module, samples: torch.Tensor) -> None:
    """Run PyTorch's model, and wait for it."""
    network(samples)
    torch.cuda.synchronize()


def rows(
    model: Model, batches: list[int], lengths: list[float], rates: dict[str, float], runs: int, *, device: bool
) -> list[dict[str, Any]]:
    """Measure one table: a row for each batch, length and precision, with errors against mertric's fp32 on the CPU."""
    found = []
    exact = Encoder(model.bundle, provider="cpu")
    rate = model.config.sample_rate
    for seconds in lengths:
        for batch in batches:
            clips = np.stack([music(seconds, seed=index, rate=rate) for index in range(batch)])
            sides = on_the_device(model, clips) if device else whole(model, clips)
            times = {key: value["median_s"] for key, value in timings(sides, runs=runs).items()}
            expected = None if device else np.stack([exact.embed_samples(clip).hidden[0] for clip in clips])
            for precision in KINDS:
                theirs, ours = times["torch", precision], times["mertric", precision]
                work = batch * operations(model.config, clips.shape[1])
                row = {"seconds": seconds, "batch": batch, "precision": precision, "torch_s": theirs, "mertric_s": ours}
                row |= {"times": theirs / ours, "share": work / ours / rates[precision]}
                if expected is not None:
                    row |= {f"{kind}_error": error(sides[kind, precision](), expected) for kind in ("torch", "mertric")}
                found.append(row)
                print(row, flush=True)
    return found


def error(got: Any, expected: NDArray[np.float32]) -> float:
    """Largest error over the root mean square."""
    return float(np.abs(got - expected).max() / np.sqrt(np.square(expected, dtype=np.float64).mean()))


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5, 30], help="lengths of a clip")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 16], help="clips at a time")
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each side")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's directory; by default a seeded one is made")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where models are made")
    options = parser.parse_args()
    model = prepare(options.size, options.cache, checkpoint=options.checkpoint, trace=False)
    rates = matrix_rates()
    measure = partial(rows, model, options.batch, options.seconds, rates, options.runs)
    tables = [
        {"title": f"{options.size}: from samples to states on the host", "columns": COLUMNS + ERRORS},
        {"title": f"{options.size}: on the device alone", "columns": COLUMNS},
    ]
    for table, device in zip(tables, (False, True), strict=True):
        table["rows"] = measure(device=device)
    result = {"title": "On a GPU", "environment": environment() | {"matrix_rates": rates}, "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
