"""How fast is the encoder on an NVIDIA GPU, against PyTorch there, and how much of what the chip can do is that?

All sides stand warm in one process and take turns. The first table is what a caller waits for, from samples on the host
to the last hidden states on the host. The second is the device's part alone: nothing is copied. The third is how far
fp16 and bf16 are from fp32, as the export's gate compares them.

PyTorch's own fp32 has convolutions that round to TF32. It is in a row of its own, ``tf32``, beside mertric's fp32; in
the row of fp32 PyTorch is told not to round.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import precisions
import torch
from environment import environment, timings
from material import SIZES, music, operations, prepare
from sides import OPEN, Side
from tables import markdown

from mertric.cache import cache_directory
from mertric.encoder import Encoder
from mertric_export.checkpoint import read_checkpoint
from mertric_export.gate import compare_precisions
from mertric_export.hubert import hubert_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from material import Model
    from numpy.typing import NDArray

KINDS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
ROWS = {"fp16": "fp16", "bf16": "bf16", "fp32": "fp32", "tf32": "fp32"}
"""What PyTorch computes in, and mertric beside it."""
COLUMNS = [
    {"key": "seconds", "title": "audio, s", "format": "g"},
    {"key": "batch", "title": "clips", "format": "d"},
    {"key": "torch", "title": "PyTorch in", "format": ""},
    {"key": "mertric", "title": "mertric in", "format": ""},
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


def whole(model: Model, clips: NDArray[np.float32]) -> dict[tuple[str, str], Callable[[], Any]]:
    """What a caller waits for, on each side and in each precision."""

    def run(kind: str, precision: str) -> Callable[[], Any]:
        embed, _ = OPEN[kind](Side(f"{kind} {precision}", kind, "cuda", precision), model, clips)
        return lambda: embed(clips, False)[-1]

    sides = [("torch", one) for one in ROWS] + [("mertric", one) for one in KINDS]
    return {(kind, precision): run(kind, precision) for kind, precision in sides}


def on_the_device(model: Model, clips: NDArray[np.float32]) -> dict[tuple[str, str], Callable[[], object]]:
    """The same without what the host does: PyTorch's model on samples that are there, ours on the arrays it keeps."""
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for precision in ROWS:
        kind = KINDS.get(precision, torch.float32)
        network = hubert_model(read_checkpoint(model.checkpoint)).to("cuda", kind)
        samples = torch.from_numpy(clips).to("cuda", kind)
        runs["torch", precision] = partial(forward, network, samples, precision == "tf32")
    for precision in KINDS:
        encoder = Encoder(model.bundle, provider="cuda", precision=precision)
        encoder.warm_up([clips.shape[1] / model.config.sample_rate], batch=len(clips))
        (session,) = (one for key, one in encoder._network._clips._sessions.items() if key.clips)
        bound = session._bound
        runs["mertric", precision] = lambda bound=bound: bound._thread.submit(bound._run).result()
    return runs


@torch.inference_mode()
def forward(network: torch.nn.Module, samples: torch.Tensor, rounding: bool) -> None:
    """Run PyTorch's model, and wait for it; `rounding` lets convolutions round to TF32."""
    torch.backends.cudnn.allow_tf32 = rounding
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
            for one, other in ROWS.items():
                theirs, ours = times["torch", one], times["mertric", other]
                work = batch * operations(model.config, clips.shape[1])
                row = {"seconds": seconds, "batch": batch, "torch": one, "mertric": other}
                row |= {"torch_s": theirs, "mertric_s": ours, "times": theirs / ours}
                row["share"] = work / ours / rates[other]
                if expected is not None:
                    row["torch_error"] = error(sides["torch", one](), expected)
                    row["mertric_error"] = error(sides["mertric", other](), expected)
                found.append(row)
                print(row, flush=True)
    return found


def error(got: Any, expected: NDArray[np.float32]) -> float:
    """Largest error over the root mean square."""
    return float(np.abs(np.asarray(got) - expected).max() / np.sqrt(np.square(expected, dtype=np.float64).mean()))


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5, 30], help="lengths of a clip")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 16], help="clips at a time")
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each side")
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
    compared = compare_precisions(model.bundle, ("fp16", "bf16"), None, notify=print)
    rounded = [row for row in compared if row["provider"] == "cuda"]
    tables.append(precisions.table(f"{options.size} against fp32 on the CPU, made-up music", rounded))
    where = environment() | {"matrix_rates": rates}
    where["versions"]["transformers"] = importlib.metadata.version("transformers")
    result = {"title": "On a GPU", "environment": where, "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
