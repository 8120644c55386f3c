"""The README's tables: what decides, from the JSON of all benchmarks.

    python benchmarks/summary.py

All that was measured stands in `RESULTS.md`, which `tables.py` fills.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tables import fill, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Row = Mapping[str, Any]
    Table = tuple[Sequence[Mapping[str, str]], Sequence[Row]]

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
CLIP, LENGTHS = 5, (1, 5, 30)
"""Seconds of the clip whose memory, error and latency are shown, and those of which times are."""
FRAMES_OF_CLIPS = {374: "5 s", 749: "10 s", 2249: "30 s", 27000: "6 min"}
PROCESSORS = [
    ("AMX", "encoder", "precisions", ("openvino", "cpu")),
    ("AMX, busy", "encoder_amx", "precisions", ("amx",)),
    ("AVX-512, busy", "encoder_avx512", "precisions_avx512", ("avx512", "openvino", "cpu")),
]
"""What the machine is called, its timings, its changes of metrics, and the providers to show."""
FOLDERS = [("AMX, busy", "pipeline_amx"), ("AVX-512, busy", "pipeline_avx512")]


def rows(name: str, number: int = 0) -> Sequence[Row]:
    """The rows of one table of a benchmark."""
    benchmark = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    found: Sequence[Row] = benchmark["tables"][number]["rows"]
    return found


def column(key: str, title: str, form: str = "") -> dict[str, str]:
    """A column as `tables.py` takes it."""
    return {"key": key, "title": title, "format": form}


def embedding() -> Table:
    """Clips on processors."""
    columns = [
        *(column("machine", "processor"), column("provider", "provider"), column("precision", "precision")),
        *(column(str(seconds), f"{seconds} s, times", ".2f") for seconds in LENGTHS),
        column("peak", "memory, MiB", ".0f"),
        column("relative", "relative error", ".0e"),
        column("change", "largest change of a metric", ".2%"),
    ]
    return columns, list(_embedding())


def _embedding() -> Iterator[Row]:
    for machine, timings, precisions, providers in PROCESSORS:
        timed = {(row["side"], row["seconds"]): row for row in rows(timings)}
        changes = [row for number in (0, 1) for row in rows(precisions, number)]
        baseline = timed["PyTorch fp32", CLIP]
        yield {"machine": machine, "provider": "PyTorch", "precision": "fp32", "peak": baseline["peak"]} | {
            str(seconds): 1 for seconds in LENGTHS
        }
        for side in dict.fromkeys(side for side, _ in timed if side.startswith("mertric ")):
            _, provider, precision = side.split()
            if provider in providers:
                own = [row for row in changes if (row["provider"], row["precision"]) == (provider, precision)]
                yield {
                    "machine": machine,
                    "provider": provider,
                    "precision": precision,
                    **{str(seconds): timed[side, seconds]["times"] for seconds in LENGTHS},
                    "peak": timed[side, CLIP]["peak"],
                    "relative": timed[side, CLIP]["relative"],
                    "change": max((_change(row) for row in own), default=None),
                }


def gpu() -> Table:
    """Clips on a GPU."""
    timed = [row for row in rows("gpu") if row["torch"] == row["mertric"]]
    cases = {f"{row['batch']} of {row['seconds']:g} s": None for row in timed}
    changes = {row["precision"]: _change(row) for row in rows("gpu", 2)}
    columns = [
        column("precision", "precision"),
        *(column(case, f"{case}, times", ".2f") for case in cases),
        column("error", "largest error / rms", ".0e"),
        column("change", "largest change of a metric", ".2%"),
    ]
    found: dict[str, dict[str, Any]] = {}
    for row in timed:
        own = found.setdefault(row["mertric"], {"precision": row["mertric"], "change": changes.get(row["mertric"])})
        own[f"{row['batch']} of {row['seconds']:g} s"] = row["times"]
        own["error"] = max(own.get("error", 0.0), row["mertric_error"])
    return columns, list(found.values())


def folder() -> Table:
    """The whole job."""
    columns = [
        column("machine", "processor"),
        column("side", "side"),
        column("median_s", "time", "s"),
        column("times", "times", ".1f"),
        column("peak", "memory, MiB", ".0f"),
        column("change", "largest change of a metric", ".2%"),
    ]
    found = [
        row | {"machine": machine, "change": _change(row) if "mert_mse" in row else None}
        for machine, name in FOLDERS
        for row in rows(name)
    ]
    return columns, found


def latency() -> Table:
    """A clip, and a push that ends a window of a stream."""
    columns = [
        column("side", "on AMX"),
        *(column("p50", "clip, p50", "ms"), column("p99", "clip, p99", "ms")),
        *(column("push50", "push, p50", "ms"), column("push99", "push, p99", "ms")),
    ]
    pushes = {row["side"]: row for row in rows("latency", 1) if row["window"] == CLIP}
    found = [
        row | {"push50": pushes[row["side"]]["p50"], "push99": pushes[row["side"]]["p99"]}
        for row in rows("latency")
        if row["seconds"] == CLIP
    ]
    return columns, found


def windows() -> Table:
    """What windows save and change."""
    columns = [
        column("seconds", "audio, s", "g"),
        column("side", "against exact"),
        column("times", "times", ".2f"),
        column("mse", "change of mert_mse", ".0%"),
        column("fad", "change of mert_fad", ".0%"),
    ]
    return columns, [row for row in rows("windows") if row["side"] != "exact"]


def distances() -> Table:
    """One pair of MERT-v1-95M's embeddings."""
    columns = [
        column("clip", "two clips of"),
        column("mertric_s", "mertric", "ms"),
        column("best_reference_s", "fadtk's route", "ms"),
        column("speedup", "times", ".0f"),
        column("mertric_error", "relative error", ".0e"),
    ]
    found = [
        row | {"clip": FRAMES_OF_CLIPS[row["frames"]]}
        for row in rows("distances")
        if row["dim"] == 768 and row["frames"] in FRAMES_OF_CLIPS
    ]
    return columns, found


def _change(row: Row) -> float:
    """The larger of both metrics' changes."""
    return float(max(row["mert_mse"], row["mert_fad"]))


def summarised(document: str) -> str:
    """The document with its tables as the JSON has them."""
    for make in (embedding, gpu, folder, latency, windows, distances):
        columns, found = make()
        document = fill(document, make.__name__, table({"title": "", "columns": columns, "rows": found}))
    return document


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    README.write_text(summarised(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
