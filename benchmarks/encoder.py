"""How fast is the encoder, how much memory does it need and how exact is it, against what one would run instead?

Sides: PyTorch (transformers' HubertModel, scaled-dot-product attention, inference mode, the best number of
threads) in fp32 and under bf16 autocast; optimum's traced export on ONNX Runtime; every provider and precision
of mertric that works here. Each is warm in a process of its own, and they take turns; where not all fit into
memory together, in groups, with PyTorch's fp32 in each where there is room. All get the same samples at the
model's rate and give the last hidden state.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import environment, timings
from material import SIZES, Model, music, prepare
from sides import Side, Worker, WorkerEndedError
from tables import markdown

from mertric.cache import cache_directory
from mertric.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable

BASELINE = "PyTorch fp32"
MOST_RUNS = 100
COLUMNS = [
    {"key": "seconds", "title": "audio, s", "format": "g"},
    {"key": "side", "title": "side", "format": ""},
    {"key": "median_s", "title": "median", "format": "ms"},
    {"key": "min_s", "title": "minimum", "format": "ms"},
    {"key": "p99_s", "title": "p99", "format": "ms"},
    {"key": "runs", "title": "runs", "format": "d"},
    {"key": "real_time_factor", "title": "real-time factor", "format": ".4f"},
    {"key": "times", "title": "times as fast as PyTorch fp32", "format": ".2f"},
    {"key": "peak", "title": "peak memory, MiB", "format": ".0f"},
    {"key": "whole", "title": "with loading, MiB", "format": ".0f"},
    {"key": "error", "title": "largest error / rms", "format": ".1e"},
    {"key": "relative", "title": "relative error", "format": ".1e"},
]
PARITY = [
    {"key": "side", "title": "side", "format": ""},
    {"key": "error", "title": "largest error / rms, over all hidden states", "format": ".1e"},
    {"key": "state", "title": "in state", "format": "d"},
    {"key": "relative", "title": "largest relative error", "format": ".1e"},
]


def all_sides() -> list[Side]:
    """The baseline first; what does not work here says so itself."""
    sides = [Side(BASELINE, "torch", "cpu", "fp32"), Side("PyTorch bf16", "torch", "cpu", "bf16")]
    if shutil.which("nvidia-smi"):
        sides += [Side(f"PyTorch CUDA {kind}", "torch", "cuda", kind) for kind in ("fp32", "tf32", "bf16", "fp16")]
    sides.append(Side("optimum export", "optimum", "cpu", "fp32"))
    ours = [(provider.name, kind) for provider in PROVIDERS.values() for kind in provider.precisions]
    return sides + [Side(f"mertric {provider} {kind}", "mertric", provider, kind) for provider, kind in ours]


def needed(side: Side, model: Model, seconds: float, batch: int) -> float:
    """Memory in bytes that a side may take, on the safe side; it only decides who runs beside whom."""
    config = model.config
    weights = 2 * sum(file.stat().st_size for file in (model.bundle / "fp32").iterdir())
    frames = seconds * config.sample_rate / config.hop
    if side.kind == "mertric":
        return 8e8 + weights + 40 * batch * frames * config.hidden_size
    convolved = 4 * batch * config.conv_dim[0] * seconds * config.sample_rate / config.conv_stride[0]
    attention = 4 * batch * config.num_attention_heads * frames**2 if side.kind == "optimum" else 0
    return 1e9 + weights + 3 * convolved + 3 * attention


def free_memory() -> float:
    """Bytes that can still be taken; unknown is boundless."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return float("inf")
    fields = dict(line.split(":") for line in info.read_text().splitlines())
    return 1024.0 * int(fields["MemAvailable"].split()[0])


def in_groups(sides: list[Side], size: Callable[[Side], float], limit: float) -> list[list[Side]]:
    """Part sides into groups that fit into memory together, each side with the baseline where both fit."""
    baseline = [side for side in sides if side.name == BASELINE]
    groups = [baseline.copy()]
    for side in sides:
        if side in baseline:
            continue
        least = [*baseline, side] if sum(map(size, [*baseline, side])) <= limit else [side]
        for group in groups:
            if group[: len(baseline)] == least[: len(baseline)] and sum(map(size, [*group, side])) <= limit:
                group.append(side)
                break
        else:
            groups.append(least)
    return groups


class Case:
    """One length and one batch size of one model, measured on all sides; those `broken` work in no other either."""

    def __init__(self, model: Model, seconds: float, batch: int, options: argparse.Namespace) -> None:
        self.model, self.seconds, self.batch, self.options = model, seconds, batch, options
        self.rows: list[dict[str, Any]] = []
        self.parity: list[dict[str, Any]] = []
        self.refused: dict[str, str] = {}
        self.broken: set[str] = set()

    def measure(self, sides: list[Side], speed: dict[str, float], *, every: bool) -> None:
        """Run the sides; `speed` holds and is given seconds for a second of audio, to leave out what takes too long."""
        limit = 0.9 * free_memory()
        fitting = []
        for side in sides:
            size, expected = self._needed(side), speed.get(side.name, 0) * self.audio
            if size > limit:
                self.refused[side.name] = f"needs about {size / 1e9:.0f} GB, of which {limit / 1e9:.0f} GB are free"
            elif expected > self.options.limit:
                self.refused[side.name] = f"would take about {expected:.0f} s a run"
            else:
                fitting.append(side)
        with tempfile.TemporaryDirectory() as folder:
            clips = Path(folder) / "clips.npy"
            rate = self.model.config.sample_rate
            np.save(clips, np.stack([music(self.seconds, seed=index, rate=rate) for index in range(self.batch)]))
            for group in in_groups(fitting, self._needed, limit):
                self._measure_group(group, clips, speed, every=every)
            for row in self.rows:
                row |= self._difference(clips.parent, row["side"])
            if every:
                self.parity = [self._all_states(clips.parent, row["side"]) for row in self.rows]

    def _needed(self, side: Side) -> float:
        return needed(side, self.model, self.seconds, self.batch)

    @property
    def audio(self) -> float:
        """Seconds of audio in all."""
        return self.seconds * self.batch

    def _measure_group(self, sides: list[Side], clips: Path, speed: dict[str, float], *, every: bool) -> None:
        workers: list[Worker] = []
        try:
            for side in sides:
                worker = Worker(side, self.model, clips, clips.parent)
                if "refused" in worker.started:
                    self._refuse(side, worker.started["refused"])
                    if not worker.started.get("killed") and side.name in self.refused:
                        self.broken.add(side.name)
                    worker.close()
                else:
                    print(f"  {side.name}: {worker.started['warm']:.3g} s a run", flush=True)
                    workers.append(worker)
            timed = self._timed(workers, every=every)
            medians = {worker.side.name: times["median_s"] for worker, times in timed.items()}
            baseline = medians.get(BASELINE)
            for worker, times in timed.items():
                name = worker.side.name
                if any(row["side"] == name for row in self.rows):
                    continue  # the baseline, which every group has
                speed[name] = times["median_s"] / self.audio
                row = {"seconds": self.seconds, "batch": self.batch, "side": name, **worker.started, **times}
                row |= {"real_time_factor": speed[name], "times": baseline and baseline / times["median_s"]}
                self.rows.append(row)
        finally:
            for worker in workers:
                worker.close()

    def _timed(self, workers: list[Worker], *, every: bool) -> dict[Worker, dict[str, float]]:
        """Let the workers take turns; once one has ended, the others begin again without it."""
        while workers:
            try:
                if every:
                    for worker in workers:
                        worker.save_every_state()
                runs = {worker: self._runs(worker.started["warm"]) for worker in workers}
                return timings({worker: worker.run for worker in workers}, runs=runs, warm_up=False)
            except WorkerEndedError as ended:
                self._refuse(ended.worker.side, str(ended))
                workers.remove(ended.worker)
                ended.worker.close()
        return {}

    def _refuse(self, side: Side, why: str) -> None:
        """Note why a side has no row; the baseline may have one, of another group."""
        if not any(row["side"] == side.name for row in self.rows):
            self.refused[side.name] = why

    def _runs(self, warm: float) -> int:
        """As many as fit the budget, at least three; one if a single run exceeds it."""
        budget: float = self.options.budget
        return 1 if warm > budget else int(np.clip(budget / warm, 3, MOST_RUNS))

    def _difference(self, results: Path, side: str) -> dict[str, float]:
        expected = results / f"{BASELINE}.npy"
        if side == BASELINE or not expected.exists():
            return {}
        return dict(zip(("error", "relative"), _errors(results / f"{side}.npy", expected)[0], strict=True))

    def _all_states(self, results: Path, side: str) -> dict[str, Any]:
        expected = results / f"{BASELINE}.every.npy"
        if side == BASELINE or not expected.exists():
            return {"side": side}
        errors = np.array(_errors(results / f"{side}.every.npy", expected))
        return {
            "side": side,
            "error": float(errors[:, 0].max()),
            "state": int(errors[:, 0].argmax()),
            "relative": float(errors[:, 1].max()),
        }


def _errors(got: Path, expected: Path) -> list[tuple[float, float]]:
    """For each array along the first axis, the largest error over the root mean square, and the relative error."""
    pairs = zip(np.load(got, mmap_mode="r"), np.load(expected, mmap_mode="r"), strict=True)
    result = []
    for state, exact in pairs:
        difference, scale = state - exact, np.sqrt(np.square(exact, dtype=np.float64).mean())
        result.append((float(np.abs(difference).max() / scale), float(np.sqrt(np.square(difference).mean()) / scale)))
    return result


def measure_size(size: str, options: argparse.Namespace, sides: list[Side]) -> tuple[list[Any], list[Any]]:
    """The tables of one model size, and what could not be run."""
    trace = any(side.kind == "optimum" for side in sides)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:  # which gives back the memory that it takes
        ours = [(side.device, side.precision) for side in sides if side.kind == "mertric"]
        given = {"checkpoint": options.checkpoint, "trace": trace, "sides": ours}
        model = apart.submit(prepare, size, options.cache, **given).result()
    tables, not_run, speed = [], [], dict[str, float]()
    for batch in options.batch:
        rows: list[Any] = []
        for seconds in sorted(options.seconds):
            print(f"{size}: batch of {batch}, {seconds:g} s", flush=True)
            case = Case(model, seconds, batch, options)
            first = not tables and not rows
            case.measure(sides, speed, every=first)
            rows += case.rows
            sides = [side for side in sides if side.name not in case.broken]
            not_run += [
                {"size": size, "seconds": seconds, "batch": batch, "side": side, "why": why}
                for side, why in case.refused.items()
            ]
            if first:
                title = f"{size}: all hidden states of {seconds:g} s against PyTorch fp32"
                parity = {"title": title, "columns": PARITY, "rows": case.parity}
        tables.append({"title": f"{size}, batch of {batch}", "columns": COLUMNS, "rows": rows})
    return [*tables, parity], not_run


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--title", default="Embedding", help="heading of the tables")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["95M", "330M"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[1, 5, 30, 120, 360], help="lengths of a clip")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="clips at a time")
    parser.add_argument("--sides", nargs="+", help="parts of the names of sides to run, such as 'mertric cpu'")
    parser.add_argument("--budget", type=float, default=30, help="seconds to time a side for, in each case")
    parser.add_argument("--limit", type=float, default=300, help="leave out what takes more seconds than this a run")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's directory; by default a seeded one is made")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where models are made")
    options = parser.parse_args()
    if options.checkpoint and len(options.sizes) != 1:
        parser.error("give the one size of the checkpoint with --sizes")
    wanted = [BASELINE, *options.sides] if options.sides else [""]
    sides = [side for side in all_sides() if any(part.lower() in side.name.lower() for part in wanted)]
    where = environment()
    for package in ("transformers", "optimum", "optimum-onnx"):
        if importlib.metadata.packages_distributions().get(package.replace("-", "_").split("_")[0]):
            where["versions"][package] = importlib.metadata.version(package)
    tables, not_run = [], []
    for size in options.sizes:
        made, left_out = measure_size(size, options, sides)
        tables += made
        not_run += left_out
    columns = [{"key": key, "title": key, "format": ""} for key in ("size", "side", "why")]
    columns[1:1] = [{"key": key, "title": key, "format": "g"} for key in ("seconds", "batch")]
    tables.append({"title": "Not run", "columns": columns, "rows": not_run})
    result = {"title": options.title, "environment": where, "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
