"""What do all hidden states of a clip cost, compared with the last one alone?

Both sides run the encoder once; the bundle has MERT's full size and random weights unless one is given.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environment import environment, peak_memory, timings
from tables import markdown

from mertric.encoder import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 24000
PRESET = "m-a-p/MERT-v1-95M"
SIDES = {"the last state": None, "all states": "all"}


def make_bundle(directory: Path) -> Path:
    """A bundle of MERT's full size with seeded weights."""
    from mertric_export.export import Provenance, export_checkpoint
    from mertric_export.synthetic import PRESETS, write_checkpoint

    checkpoint = write_checkpoint(directory / "checkpoint", PRESETS[PRESET], seed=0)
    made_up = Provenance(model=f"{PRESET}, random weights", license="none", trained=False)
    return export_checkpoint(checkpoint, directory / "bundle", provenance=made_up).path


def clip(seconds: float) -> NDArray[np.float32]:
    """Noise at a tenth of full scale: float32 [samples] at 24 kHz."""
    samples = round(seconds * RATE)
    return 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)


def compare(bundle: Path, encoder: Encoder, seconds: float, runs: int) -> list[dict[str, Any]]:
    """A row for each side: times, and peak memory of a fresh process."""
    samples = clip(seconds)
    calls = {
        name: (lambda layers=layers: encoder.embed(samples, sample_rate=RATE, layers=layers))
        for name, layers in SIDES.items()
    }
    taken = timings(calls, runs=runs)
    last = taken["the last state"]
    program = "import layers as b; b.Encoder({!r}).embed(b.clip({}), sample_rate=b.RATE, layers={!r})\n"
    return [
        {
            "seconds": seconds,
            "side": name,
            **taken[name],
            "ratio": taken[name]["median_s"] / last["median_s"],
            "min_ratio": taken[name]["min_s"] / last["min_s"],
            "peak": peak_memory(program.format(str(bundle), seconds, layers)),
        }
        for name, layers in SIDES.items()
    ]


def measure(bundle: Path, lengths: list[float], runs: int) -> dict[str, Any]:
    encoder = Encoder(bundle)
    columns = [
        {"key": "seconds", "title": "clip, s", "format": "g"},
        {"key": "side", "title": "side", "format": ""},
        {"key": "median_s", "title": "median", "format": "ms"},
        {"key": "min_s", "title": "minimum", "format": "ms"},
        {"key": "ratio", "title": "cost, of medians", "format": ".3f"},
        {"key": "min_ratio", "title": "of minima", "format": ".3f"},
        {"key": "peak", "title": "peak memory, MiB", "format": ".0f"},
    ]
    rows = [row for seconds in lengths for row in compare(bundle, encoder, seconds, runs)]
    spec = {"title": f"{encoder.bundle.model}, {encoder.layers + 1} hidden states.", "columns": columns, "rows": rows}
    return {"title": "All hidden states against the last", "environment": environment(), "tables": [spec]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--bundle", type=Path, help="a bundle's directory; made with random weights unless given")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 30.0], help="lengths of clips")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bundle = options.bundle or make_bundle(Path(directory))
        result = measure(bundle.absolute(), options.seconds, options.runs)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(markdown(result))


if __name__ == "__main__":
    main()
