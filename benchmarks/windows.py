"""What do windows save on long audio, and how far are they from the exact result?

The same music, and one of its degradations, embedded exactly and with attention limited to windows: time, peak
memory of a fresh process, hidden states, and both metrics of the pair. With made-up weights attention is spread more
evenly than a trained model's, so the differences tell the order of magnitude and no more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import environment, peak_memory, timings
from material import SIZES, music, prepare
from tables import markdown

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


def pair(seconds: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Music, and the same with noise: float32 [samples] at 24 kHz."""
    clip = music(seconds, seed=0, rate=RATE)
    noise = np.random.default_rng(0).standard_normal(clip.size).astype(np.float32)
    return clip, clip + np.float32(0.02) * noise


def rows(bundle: Path, seconds: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The exact side, then each window."""
    encoder = Encoder(bundle, provider=options.provider, precision=options.precision)
    clip, worse = pair(seconds)
    sides: dict[str, Windows | None] = {"exact": None}
    sides |= {f"windows of {length:g} s": Windows(seconds=length) for length in options.windows}
    hidden = {
        name: [encoder.embed_samples(audio, windows=windows).hidden[0] for audio in (clip, worse)]
        for name, windows in sides.items()
    }
    calls = {name: (lambda w=windows: encoder.embed_samples(clip, windows=w)) for name, windows in sides.items()}
    taken = timings(calls, runs=options.runs, warm_up=False)
    exact = hidden["exact"]
    scores = {name: (embedding_mse(*states), frechet_distance(*states)) for name, states in hidden.items()}
    result = []
    for name, windows in sides.items():
        made = "None" if windows is None else f"b.Windows(seconds={windows.seconds})"
        program = (
            f"import windows as b\nencoder = b.Encoder({str(bundle)!r}, provider={options.provider!r}, "
            f"precision={options.precision!r})\nencoder.embed_samples(b.pair({seconds})[0], windows={made})\n"
        )
        row = {"seconds": seconds, "side": name, **taken[name], "peak": peak_memory(program)}
        row["times"] = taken["exact"]["median_s"] / taken[name]["median_s"]
        if windows is not None:
            row["relative"] = float(np.sqrt(np.square(hidden[name][0] - exact[0]).mean() / np.square(exact[0]).mean()))
            row |= {
                metric: abs(scores[name][index] / scores["exact"][index] - 1)
                for index, metric in enumerate(("mse", "fad"))
            }
        result.append(row)
        print(f"{seconds:g} s, {name}: {row['median_s']:.2f} s", flush=True)
    return result


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--seconds", nargs="+", type=float, default=[30, 120, 360], help="lengths of the audio")
    parser.add_argument("--windows", nargs="+", type=float, default=[5, 20], help="lengths of windows, in seconds")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where models are made")
    options = parser.parse_args()
    model = prepare(options.size, options.cache, checkpoint=None, trace=False)
    table = [row for seconds in options.seconds for row in rows(model.bundle, seconds, options)]
    title = f"MERT {options.size}, {options.provider} {options.precision}, windows overlapping by half"
    tables = [{"title": title, "columns": COLUMNS, "rows": table}]
    result = {"title": "Windows over long audio", "environment": environment(), "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
