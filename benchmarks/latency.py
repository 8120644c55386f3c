"""How long does a warm encoder let one wait: for a clip, for a length it has not seen, and for a push to a stream?

Providers and precisions take turns within one process. A stream gets blocks of audio as a sound card would deliver
them; only pushes that complete a window compute anything, so both kinds are shown.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import environment
from material import SIZES, music, prepare
from tables import markdown

from mertric.blas import limited
from mertric.cache import cache_directory
from mertric.encoder import Encoder
from mertric.errors import MertricError
from mertric.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable


RATE = 44_100
CLIPS = [
    {"key": "side", "title": "side", "format": ""},
    {"key": "seconds", "title": "clip, s", "format": "g"},
    {"key": "p50", "title": "p50", "format": "ms"},
    {"key": "p99", "title": "p99", "format": "ms"},
    {"key": "runs", "title": "runs", "format": "d"},
    {"key": "new", "title": "longer, of a length not seen before", "format": "ms"},
    {"key": "seen", "title": "the same again", "format": "ms"},
    {"key": "ratio", "title": "ratio", "format": ".2f"},
]
STREAMS = [
    {"key": "side", "title": "side", "format": ""},
    {"key": "block", "title": "block, s", "format": "g"},
    {"key": "window", "title": "window, s", "format": "g"},
    {"key": "p50", "title": "push with a window, p50", "format": "ms"},
    {"key": "p99", "title": "p99", "format": "ms"},
    {"key": "pushes", "title": "such pushes", "format": "d"},
    {"key": "idle", "title": "push without, p50", "format": "ms"},
    {"key": "real_time_factor", "title": "real-time factor", "format": ".3f"},
]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def clip_rows(encoders: dict[str, Encoder], lengths: list[float], runs: int) -> list[dict[str, Any]]:
    """A row for each length and side."""
    rows = []
    for seconds in lengths:
        clip = music(seconds, seed=0, rate=RATE)
        times: dict[str, list[float]] = {name: [] for name in encoders}
        for encoder in encoders.values():
            encoder.warm_up([seconds])
            encoder.embed(clip, sample_rate=RATE)
        for _ in range(runs):
            for name, encoder in encoders.items():
                times[name].append(timed(lambda e=encoder, c=clip: e.embed(c, sample_rate=RATE)))
        for name, encoder in encoders.items():
            new, seen = unseen(encoder, seconds)
            rows.append(
                {
                    "side": name,
                    "seconds": seconds,
                    "p50": float(np.median(times[name])),
                    "p99": float(np.percentile(times[name], 99)),
                    "runs": runs,
                    "new": new,
                    "seen": seen,
                    "ratio": new / seen,
                }
            )
    return rows


def unseen(encoder: Encoder, seconds: float) -> tuple[float, float]:
    """Seconds of the first and of the second embedding of a length that no other clip here has.

    Of five lengths, 0.9 s and more apart, so that no padding makes one of them another, it is the one with the median
    ratio. A sixth, before them, opens what is opened once for all lengths. BLAS makes the music on one thread: its
    others would spin on beside the first embedding.
    """
    encoder.embed(music(seconds + 0.45, seed=0, rate=RATE), sample_rate=RATE)
    found = []
    for step in range(1, 6):
        with limited(1):
            clip = music(seconds + 0.9 * step + 0.013, seed=0, rate=RATE)
        first, second = (timed(lambda c=clip: encoder.embed(c, sample_rate=RATE)) for _ in range(2))
        found.append((first, second))
    return sorted(found, key=lambda pair: pair[0] / pair[1])[len(found) // 2]


def stream_row(name: str, encoder: Encoder, *, block: float, window: float, seconds: float) -> dict[str, Any]:
    """A stream of `seconds`, pushed in blocks."""
    encoder.warm_up([window])
    audio = music(seconds, seed=1, rate=RATE)
    step = round(block * RATE)
    stream = encoder.stream(sample_rate=RATE, seconds=window)
    computed: list[object] = []
    embed = encoder.embed_samples
    encoder.embed_samples = lambda *a, **k: computed.append(None) or embed(*a, **k)  # type: ignore[method-assign]
    busy, idle = [], []
    for start in range(0, audio.size, step):
        began = time.perf_counter()
        stream.push(audio[start : start + step])
        (busy if computed else idle).append(time.perf_counter() - began)
        computed.clear()
    del encoder.embed_samples  # type: ignore[method-assign]
    return {
        "side": name,
        "block": block,
        "window": window,
        "p50": float(np.median(busy)),
        "p99": float(np.percentile(busy, 99)),
        "pushes": len(busy),
        "idle": float(np.median(idle)) if idle else None,
        "real_time_factor": (sum(busy) + sum(idle)) / seconds,
    }


def main() -> None:
    """Measure, print Markdown and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--seconds", nargs="+", type=float, default=[1, 2, 5, 10], help="lengths of a clip")
    parser.add_argument("--runs", type=int, default=100, help="embeddings of each length on each side")
    parser.add_argument("--stream", type=float, default=60, help="seconds of audio to stream")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where models are made")
    options = parser.parse_args()
    model = prepare(options.size, options.cache, checkpoint=None, trace=False)
    encoders: dict[str, Encoder] = {}
    for provider in PROVIDERS.values():
        for precision in provider.precisions:
            try:
                encoders[f"{provider.name} {precision}"] = Encoder(
                    model.bundle, provider=provider.name, precision=precision
                )
            except MertricError as error:
                print(f"{provider.name} {precision}: {error}")
    streams = [
        stream_row(name, encoder, block=0.1, window=window, seconds=options.stream)
        for window in (2.0, 5.0)
        for name, encoder in encoders.items()
    ]
    tables = [
        {
            "title": f"MERT {options.size}, one clip at {RATE} Hz",
            "columns": CLIPS,
            "rows": clip_rows(encoders, options.seconds, options.runs),
        },
        {"title": "A stream, windows overlapping by half", "columns": STREAMS, "rows": streams},
    ]
    result = {"title": "Latency", "environment": environment(), "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
