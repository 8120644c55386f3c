"""How long does BSSEval v4 of a whole track take, against museval, and do the values agree?

Both sides get one seeded stereo track (coloured noise whose level moves, a silent second, estimates with
leakage, a filter and noise, 16 bits) and take turns. museval's metrics.py is loaded on its own, as its
package asks for ffmpeg at import. SDR and the scale-invariant metrics are held against fast-bss-eval on ten
seconds of the same track.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fast_bss_eval
import numpy as np
import torch
from environment import environment, peak_memory, timings
from scipy import signal
from tables import markdown

from mertric.metrics.bss_eval import bss_eval
from mertric.metrics.registry import score_track

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Route = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

RATE = 44_100
NAMES = ("sdr", "isr", "sir", "sar")
PLAIN = ("sdr", "si_sdr", "si_sir", "si_sar")


def make_track(seconds: int, sources: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """References and estimates, float64 [sources, 2, samples]."""
    rng = np.random.default_rng(0)
    samples = seconds * RATE
    references, estimates = np.empty((2, sources, 2, samples))
    for source in range(sources):
        level = np.interp(np.arange(samples), np.arange(0, samples + RATE, RATE), rng.random(seconds + 1))
        centre = signal.lfilter([0.02], [1, -0.5 - 0.4 * source / sources], rng.standard_normal(samples))
        side = 0.3 * signal.lfilter([0.02], [1, -0.6], rng.standard_normal(samples))
        references[source] = level * np.stack([centre + side, centre - side])
    references[0, :, RATE : 2 * RATE] = 0
    leakage = np.eye(sources) + 0.1 * rng.standard_normal((sources, sources))
    for source in range(sources):
        mixed = np.tensordot(leakage[source], references, 1)
        estimates[source] = signal.lfilter([0.9, 0.1], [1], mixed) + 0.002 * rng.standard_normal(mixed.shape)
    for track in (references, estimates):
        track *= 32768
        np.round(track, out=track)
        track /= 32768
    return references, estimates


def ours(references: NDArray[np.float64], estimates: NDArray[np.float64]) -> NDArray[np.float64]:
    result = bss_eval(references, estimates, window=RATE)
    return np.stack([getattr(result, name) for name in NAMES])


def museval(references: NDArray[np.float64], estimates: NDArray[np.float64]) -> NDArray[np.float64]:
    found = importlib.util.find_spec("museval")
    if found is None or found.origin is None:
        raise SystemExit("museval is not installed: pip install museval")
    path = Path(found.origin).parent / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference, estimate = references.transpose(0, 2, 1), estimates.transpose(0, 2, 1)
    return np.stack(module.bss_eval(reference, estimate, window=RATE, hop=RATE)[:4])


SIDES: dict[str, Route] = {"museval": museval, "ours": ours}


def times(seconds: int, sources: int, runs: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row for each side, and the largest difference of each metric over all frames, in dB."""
    track, short = make_track(seconds, sources), make_track(3, sources)
    values: dict[str, NDArray[np.float64]] = {}

    def run(name: str) -> None:
        values[name] = SIDES[name](*track)

    for side in SIDES.values():
        side(*short)
    taken = timings({name: partial(run, name) for name in SIDES}, runs=runs, warm_up=False)
    if not np.array_equal(np.isnan(values["ours"]), np.isnan(values["museval"])):
        raise SystemExit("the two sides disagree on which frames are silent")
    worst = np.nanmax(np.abs(values["ours"] - values["museval"]), axis=(1, 2))
    program = f"import bss_eval as b; b.SIDES[{{!r}}](*b.make_track({seconds}, {sources}))\n"
    track_only = peak_memory(f"import bss_eval as b; track = b.make_track({seconds}, {sources})\n")
    rows = [
        {
            "side": name,
            **taken[name],
            "times": taken["museval"]["median_s"] / taken[name]["median_s"],
            "peak": peak_memory(program.format(name)),
            "track": track_only,
        }
        for name in SIDES
    ]
    return rows, {f"{name}_v4": float(value) for name, value in zip(NAMES, worst, strict=True)}


def plain_differences(sources: int) -> dict[str, float]:
    """Largest difference from fast-bss-eval, in dB, over the stems of ten seconds of the track."""
    track = make_track(10, sources)
    rows = score_track(*track, names=PLAIN, sample_rate=RATE)
    found = np.array([[row[name] for row in rows] for name in PLAIN], np.float64)
    references, estimates = (torch.from_numpy(array.swapaxes(0, 1).copy()) for array in track)
    filtered = fast_bss_eval.bss_eval_sources(references, estimates, compute_permutation=False)[0]
    scaled = fast_bss_eval.si_bss_eval_sources(references, estimates, compute_permutation=False)
    expected = np.stack([column.numpy().mean(axis=0) for column in (filtered, *scaled)])
    worst = np.abs(found - expected).max(axis=1)
    return {name: float(value) for name, value in zip(PLAIN, worst, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--seconds", type=int, default=180, help="length of the track")
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    where = environment()
    for package in ("museval", "fast-bss-eval"):
        where["versions"][package] = importlib.metadata.version(package)
    rows, worst = times(options.seconds, options.sources, options.runs)
    errors = [{"metric": k, "against": "museval", "error": v} for k, v in worst.items()]
    plain = plain_differences(options.sources)
    errors += [{"metric": k, "against": "fast-bss-eval", "error": v} for k, v in plain.items()]
    length = f"{options.seconds} s, stereo, {options.sources} stems, 44.1 kHz"
    columns = [
        {"key": "side", "title": "side", "format": ""},
        {"key": "median_s", "title": "median", "format": "s"},
        {"key": "min_s", "title": "minimum", "format": "s"},
        {"key": "times", "title": "times as fast", "format": ".1f"},
        {"key": "peak", "title": "peak memory, MiB", "format": ".0f"},
        {"key": "track", "title": "the track alone, MiB", "format": ".0f"},
    ]
    accuracy = [
        {"key": "metric", "title": "metric", "format": ""},
        {"key": "against", "title": "against", "format": ""},
        {"key": "error", "title": "largest difference, dB", "format": ".1e"},
    ]
    result = {
        "title": "BSSEval v4 of a track",
        "environment": where,
        "tables": [
            {"title": f"Frames of 1 s, 512 taps; {length}", "columns": columns, "rows": rows},
            {"title": "Over all stems and frames", "columns": accuracy, "rows": errors},
        ],
    }
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
