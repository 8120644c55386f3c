"""How long does scoring a folder of separated stems take, against the code of the paper, and do the numbers agree?

The folder is like GenSVS: references, and several models' estimates of each. The other side does what the
paper's code does (fadtk's routes, with the model of transformers): one file at a time, resampled with
torchaudio's kernel and rounded to 16 bits on disk, embedded by PyTorch in fp32, kept as float16 .npy, and a
Fréchet distance by `sqrtm` and `eig`, with BLAS as it comes or on one thread, whichever is faster here. Where
there is a GPU, it embeds there, in PyTorch's own fp32, with convolutions that round to TF32. Each
side does the whole job in a process of its own, from start to exit; small jobs before it fill the caches of both.

How far a metric is off is told as the export's gate does (`mertric_export.comparison`): by the largest change of a
pair, as a part of its value, or of a tenth of the metric's mean over all pairs where that is more. Of nearly equal
pairs any rounding is a large part, which says nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from environment import environment, peak_memory
from tables import markdown

from mertric.cache import cache_directory
from mertric.music import GRADES, SAMPLE_RATE, compose, degrade
from mertric_export.comparison import relative_changes

if TYPE_CHECKING:
    import torch

REFERENCE = "the paper's code, PyTorch fp32"
METRICS = ("mert_mse", "mert_fad")
COLUMNS = [
    {"key": "side", "title": "side", "format": ""},
    {"key": "median_s", "title": "whole job, median", "format": "s"},
    {"key": "min_s", "title": "minimum", "format": "s"},
    {"key": "runs", "title": "runs", "format": "d"},
    {"key": "times", "title": "times as fast", "format": ".1f"},
    {"key": "peak", "title": "peak memory, MiB", "format": ".0f"},
    {"key": "mert_mse", "title": "largest change of `mert_mse`", "format": ".2%"},
    {"key": "mert_fad", "title": "of `mert_fad`", "format": ".2%"},
]
STEPS = [
    {"key": "step", "title": f"step of {REFERENCE}", "format": ""},
    {"key": "seconds", "title": "time", "format": "s"},
]
NOT_RUN = [{"key": "side", "title": "side", "format": ""}, {"key": "why", "title": "why", "format": ""}]
OURS = """
from mertric.cli import cli
try:
    cli({arguments!r})
except SystemExit as end:
    if end.code:
        raise
"""
THEIRS = "import pipeline\npipeline.reference_job(**{arguments!r})\n"


def write_folder(folder: Path, *, models: int, excerpts: int, seconds: float) -> list[Path]:
    """Write `target` and a folder for each model, 16 bits at 44.1 kHz, and return them.

    Models degrade the voice in the ways of `mertric.music`, each excerpt with another strength.
    """
    kinds = list(GRADES)
    samples = round(seconds * SAMPLE_RATE)
    folders = [folder / "target"] + [folder / f"{kinds[m % len(kinds)]}_{m // len(kinds)}" for m in range(models)]
    for path in folders:
        path.mkdir(parents=True)
    for number in range(excerpts):
        parts = [compose(1000 * number + part) for part in range(math.ceil(seconds / 4))]
        lead, others = (np.concatenate(voice)[:samples] for voice in zip(*parts, strict=True))
        soundfile.write(folders[0] / f"target_fileid_{number}.wav", lead, SAMPLE_RATE, subtype="PCM_16")
        for model, path in enumerate(folders[1:]):
            kind = kinds[model % len(kinds)]
            strength = GRADES[kind][(number + model // len(kinds)) % len(GRADES[kind])]
            sound = np.clip(degrade(lead, others, kind, strength, np.random.default_rng(number)), -1, 1)
            name = f"separated_vocals_mixture_fileid_{number}.wav"
            soundfile.write(path / name, sound, SAMPLE_RATE, subtype="PCM_16")
    return folders


def reference_job(folders: list[str], checkpoint: str, output: str, one_blas_thread: bool) -> None:
    """Score as the paper's code does, one file and one pair at a time; rows and times of the steps go to `output`."""
    import distances
    import torch

    from mertric_export.checkpoint import read_checkpoint
    from mertric_export.hubert import hubert_model

    distance = distances.one_thread if one_blas_thread else distances.reference
    times = dict.fromkeys(("start", "resample", "embed", "compare"), 0.0)
    start = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = hubert_model(read_checkpoint(checkpoint)).to(device)
    times["start"] = time.perf_counter() - start
    target, *models = (Path(folder) for folder in folders)
    with tempfile.TemporaryDirectory() as cache:
        kept: dict[Path, Path] = {}
        for folder in (target, *models):
            for path in sorted(folder.glob("*.wav")):
                start = time.perf_counter()
                converted = Path(cache) / f"{folder.name}_{path.stem}.wav"
                convert(path, converted)
                times["resample"] += time.perf_counter() - start
                start = time.perf_counter()
                kept[path] = converted.with_suffix(".npy")
                with torch.inference_mode():
                    states = network(normalized(converted).to(device), output_hidden_states=True).hidden_states
                np.save(kept[path], states[-1][0].cpu().numpy().astype(np.float16))
                times["embed"] += time.perf_counter() - start
        rows = []
        start = time.perf_counter()
        for model in models:
            for estimate, original in zip(_files(model), _files(target), strict=True):
                x, y = (np.load(kept[path]).astype(np.float64) for path in (original, estimate))
                rows.append([model.name, original.name, float(np.square(x - y).mean()), distance(x, y)])
        times["compare"] = time.perf_counter() - start
    Path(output).write_text(json.dumps({"rows": rows, "times": times}))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wav"))


def convert(path: Path, converted: Path) -> None:
    """Average the channels, resample to 24 kHz and write 16-bit PCM."""
    import torch

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    resampled = kaiser_resample(torch.from_numpy(samples.mean(axis=1)), rate, 24_000)
    steps = (resampled * 32768).round().clamp(-32768, 32767).to(torch.int16)
    soundfile.write(converted, steps.numpy(), 24_000, subtype="PCM_16")


def kaiser_resample(samples: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """`torchaudio.functional.resample` with `sinc_interp_kaiser` and the paper's constants, by its formula."""
    import torch

    width_in_zeros, rolloff, beta = 64, 0.9475937167399596, torch.tensor(14.769656459379492, dtype=torch.float64)
    divisor = math.gcd(source, target)
    step, phases = source // divisor, target // divisor
    base = min(step, phases) * rolloff
    width = math.ceil(width_in_zeros * step / base)
    offsets = torch.arange(-width, width + step, dtype=torch.float64)[None] / step
    times = (torch.arange(0, -phases, -1, dtype=torch.float64)[:, None] / phases + offsets) * base
    times = times.clamp(-width_in_zeros, width_in_zeros)
    window = torch.i0(beta * torch.sqrt(1 - (times / width_in_zeros) ** 2)) / torch.i0(beta)
    kernel = (torch.sinc(times) * window * base / step).float()
    padded = torch.nn.functional.pad(samples[None, None], (width, width + step))
    blocks = torch.nn.functional.conv1d(padded, kernel[:, None], stride=step)
    return blocks[0].T.reshape(-1)[: math.ceil(phases * len(samples) / step)]


def normalized(path: Path) -> torch.Tensor:
    """A converted file at zero mean and unit variance, as `Wav2Vec2FeatureExtractor` gives it: [1, samples]."""
    import torch

    samples, _ = soundfile.read(path, dtype="float32")
    return torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]


class Job:
    """A folder to score, by either side."""

    def __init__(self, folder: Path, model: Any, **sizes: Any) -> None:
        self.output = folder / "result.json"
        self.model = model
        self.folders = [str(path) for path in write_folder(folder / "audio", **sizes)]

    def theirs(self, *, one_blas_thread: bool) -> tuple[float, float, dict[str, Any]]:
        """Seconds, peak memory in MiB, and what `reference_job` writes."""
        arguments = {
            "folders": self.folders,
            "checkpoint": str(self.model.checkpoint),
            "output": str(self.output),
            "one_blas_thread": one_blas_thread,
        }
        return *self._run(THEIRS.format(arguments=arguments)), json.loads(self.output.read_text())

    def ours(self, provider: str, precision: str) -> tuple[float, float, dict[tuple[str, str], dict[str, float]]]:
        """Seconds, peak memory in MiB, and the row of each model and reference."""
        arguments = ["score", *self.folders, "--model", str(self.model.bundle), "--json", str(self.output)]
        arguments += ["--provider", provider, "--precision", precision]
        seconds, peak = self._run(OURS.format(arguments=arguments))
        rows = json.loads(self.output.read_text())
        return seconds, peak, {(row["model"], Path(row["reference"]).name): row for row in rows}

    def _run(self, program: str) -> tuple[float, float]:
        self.output.unlink(missing_ok=True)
        start = time.perf_counter()
        peak = peak_memory(program)
        return time.perf_counter() - start, peak


def changes(theirs: list[list[Any]], ours: dict[tuple[str, str], dict[str, float]]) -> dict[str, float]:
    """Largest change of each metric over all pairs, see `relative_changes`; every pair must be on both sides."""
    expected = {(model, name): dict(zip(METRICS, values, strict=True)) for model, name, *values in theirs}
    if expected.keys() != ours.keys():
        raise SystemExit(f"the two sides scored different pairs: {expected.keys() ^ ours.keys()}")
    return {
        metric: float(
            relative_changes(
                np.array([values[metric] for values in expected.values()]),
                np.array([ours[key][metric] for key in expected], np.float64),
            ).max()
        )
        for metric in METRICS
    }


def measure(job: Job, small: Job, sides: list[str], runs: int) -> list[dict[str, Any]]:
    """Tables: a row for each side, the time of each step of the reference, and the sides that do not work here."""
    why: dict[str, str] = {}
    compare = {single: small.theirs(one_blas_thread=single)[2]["times"]["compare"] for single in (False, True)}
    single = compare[True] < compare[False]
    for side in sides:
        try:
            small.ours(*side.split(":"))
        except RuntimeError as error:
            why[side] = str(error).strip().splitlines()[-1]
    names = [REFERENCE, *(side for side in sides if side not in why)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float] = {}
    parity: dict[str, dict[str, float]] = {REFERENCE: {}}
    for _ in range(runs):
        taken, peaks[REFERENCE], result = job.theirs(one_blas_thread=single)
        seconds[REFERENCE].append(taken)
        for side in names[1:]:
            taken, peaks[side], rows = job.ours(*side.split(":"))
            seconds[side].append(taken)
            parity[side] = changes(result["rows"], rows)
    slowest = median(seconds[REFERENCE])
    table = [
        {
            "side": name if name == REFERENCE else f"mertric {name.replace(':', ' ')}",
            "median_s": median(seconds[name]),
            "min_s": min(seconds[name]),
            "runs": runs,
            "times": slowest / median(seconds[name]),
            "peak": peaks[name],
            **parity[name],
        }
        for name in names
    ]
    steps = [{"step": step, "seconds": value} for step, value in result["times"].items()]
    not_run = [{"side": f"mertric {side.replace(':', ' ')}", "why": text} for side, text in why.items()]
    return [
        {"title": "Whole jobs", "columns": COLUMNS, "rows": table},
        {
            "title": f"In the last run, BLAS {'on one thread' if single else 'as it comes'}",
            "columns": STEPS,
            "rows": steps,
        },
        {"title": "Not run", "columns": NOT_RUN, "rows": not_run},
    ]


def main() -> None:
    """Measure, print Markdown and write JSON."""
    from material import SIZES, prepare

    from mertric.providers import PROVIDERS

    present = [f"{provider.name}:{precision}" for provider in PROVIDERS.values() for precision in provider.precisions]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--size", choices=list(SIZES), default="95M")
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--excerpts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=1, help="whole jobs of each side")
    parser.add_argument("--sides", nargs="+", default=present, metavar="PROVIDER:PRECISION")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's directory; by default a seeded one is made")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where models are made")
    options = parser.parse_args()
    wanted = [tuple(side.split(":")) for side in options.sides]
    model = prepare(options.size, options.cache, checkpoint=options.checkpoint, trace=False, sides=wanted)
    sizes = {"models": options.models, "excerpts": options.excerpts, "seconds": options.seconds}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder) / "job", model, **sizes)
        small = Job(Path(folder) / "small", model, models=1, excerpts=1, seconds=options.seconds)
        tables = measure(job, small, options.sides, options.runs)
    tables[0]["title"] = f"MERT {options.size}, {options.models} models x {options.excerpts} of {options.seconds:g} s"
    where = environment()
    where["versions"]["transformers"] = importlib.metadata.version("transformers")
    result = {"title": "Scoring a folder", "environment": where, "tables": tables}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
