"""What do windows save on long audio, and how far are they from the exact result?

The same music, and one of its degradations, embedded exactly and with attention limited to windows, each in a fresh
process: time, peak memory, hidden states, and both metrics of the pair. Lengths are taken in order, and what would
take longer than `--limit` a run, by how it grew, is left out. With made-up weights attention is spread more
evenly than a trained model's, so the differences tell the order of magnitude and no more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import environment, peak_memory
from material import SIZES, music, prepare
from tables import NOT_RUN, markdown

from mertric.cache import cache_directory
from mertric.encoder import Encoder
from mertric.metrics.embedding_mse import embedding_mse
from mertric.metrics.frechet import frechet_distance
from mertric.windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 24_000
COLUMNS = [
    {"key": "seconds", "title": "audio, s", "format": "g"},
    {"key": "side", "title": "attention", "format": ""},
    {"key": "median_s", "title": "median", "format": "s"},
    {"key": "times", "title": "times as fast as exact", "format": ".2f"},
    {"key": "peak", "title": "peak memory, MiB", "format": ".0f"},
    {"key": "relative", "title": "relative error, last state", "format": ".1e"},
    {"key": "mse", "title": "change of MSE", "format": ".1e"},
    {"key": "fad", "title": "change of FAD", "format": ".1e"},
]
LEFT_OUT = [*COLUMNS[:2], {"key": "why", "title": "why", "format": ""}]


def pair(seconds: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Music, and the same with noise: float32 [samples] at 24 kHz."""
    clip = music(seconds, seed=0, rate=RATE)
    noise = np.random.default_rng(0).standard_normal(clip.size).astype(np.float32)
    return clip, clip + np.float32(0.02) * noise


def embed_pair(
    bundle: str, provider: str, precision: str, seconds: float, window: float | None, runs: int, output: str
) -> None:
    """Embed the worse clip, then `runs` times the other; states and times go to `output`."""
    encoder = Encoder(bundle, provider=provider, precision=precision)
    windows = None if window is None else Windows(seconds=window)
    clip, worse = pair(seconds)
    other = encoder.embed_samples(worse, windows=windows).hidden[0]
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        state = encoder.embed_samples(clip, windows=windows).hidden[0]
        times.append(time.perf_counter() - start)
    np.savez(output, states=[state, other], times=times)


class Sides:
    """Exact attention and each window, one at a time and in a process of its own, on longer and longer audio."""

    def __init__(self, bundle: Path, options: argparse.Namespace) -> None:
        self.bundle, self.options = bundle, options
        self.sides = {"exact": None} | {f"windows of {length:g} s": length for length in options.windows}
        self.last: dict[str, tuple[float, float]] = {}
        self.refused: list[dict[str, Any]] = []

    def measure(self, seconds: float) -> list[dict[str, Any]]:
        """A row for each side that runs, the exact one first."""
        rows = []
        exact: dict[str, Any] = {}
        for name, window in self.sides.items():
            try:
                states, row = self._run(name, window, seconds)
            except RuntimeError as error:
                self.refused.append({"seconds": seconds, "side": name, "why": str(error).strip().splitlines()[-1]})
                continue
            scores = np.array([embedding_mse(*states), frechet_distance(*states)])
            if window is None:
                exact = {"state": states[0], "scores": scores, "median": row["median_s"]}
            if exact:
                row["times"] = exact["median"] / row["median_s"]
            if exact and window is not None:
                difference, state = states[0] - exact["state"], exact["state"]
                row["relative"] = float(np.sqrt(np.square(difference).mean() / np.square(state).mean()))
                row |= zip(("mse", "fad"), np.abs(scores / exact["scores"] - 1).tolist(), strict=True)
            rows.append(row)
            print(f"{seconds:g} s, {name}: {row['median_s']:.2f} s", flush=True)
        return rows

    def _run(self, name: str, window: float | None, seconds: float) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the states of both clips and what was measured, or raise a RuntimeError that says why not."""
        known, taken = self.last.get(name, (seconds, 0.0))
        expected = taken * (seconds / known) ** (2 if window is None else 1)
        if expected > self.options.limit:
            raise RuntimeError(f"would take about {expected:.0f} s a run")
        with tempfile.TemporaryDirectory() as folder:
            output = str(Path(folder) / "result.npz")
            arguments = {"bundle": str(self.bundle), "provider": self.options.provider}
            arguments |= {"precision": self.options.precision, "seconds": seconds, "window": window}
            arguments |= {"runs": self.options.runs, "output": output}
            peak = peak_memory(f"import windows\nwindows.embed_pair(**{arguments!r})\n")
            with np.load(output) as result:
                states, times = result["states"], result["times"]
        self.last[name] = (seconds, float(np.median(times)))
        return states, {"seconds": seconds, "side": name, "median_s": float(np.median(times)), "peak": peak}


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--seconds", nargs="+", type=float, default=[30, 120, 360], help="lengths of the audio")
    parser.add_argument("--windows", nargs="+", type=float, default=[5, 20], help="lengths of windows, in seconds")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--runs", type=int, default=1, help="timed runs of each side, after one that warms up")
    parser.add_argument("--limit", type=float, default=600, help="seconds of a run above which a side is left out")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where models are made")
    options = parser.parse_args()
    model = prepare(
        options.size, options.cache, checkpoint=None, trace=False, sides=[(options.provider, options.precision)]
    )
    sides = Sides(model.bundle, options)
    table = [row for seconds in sorted(options.seconds) for row in sides.measure(seconds)]
    title = f"MERT {options.size}, {options.provider} {options.precision}, windows overlapping by half"
    tables = [
        {"title": title, "columns": COLUMNS, "rows": table},
        {"title": NOT_RUN, "columns": LEFT_OUT, "rows": sides.refused},
    ]
    result = {"title": "Windows over long audio", "environment": environment(), "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
