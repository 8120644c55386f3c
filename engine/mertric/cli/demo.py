"""`mertric demo`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mertric.cli.messages import say
from mertric.cli.options import table_options
from mertric.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from mertric.encoder import Encoder

_CLOSING = """\
These weights are untrained, so the figures show that the tool works and say nothing about quality.
With the real weights (CC-BY-NC-4.0, 378 MB, fetched and converted at the first use):

    mertric score REFERENCE ESTIMATE...        files or folders"""


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights and the music.")
@table_options
def command(seed: int, csv_path: Path | None, json_path: Path | None) -> None:
    """Make a short piece of music, degrade its lead voice in graded ways and score the results, offline.

    The model has the size of MERT-v1-95M and seeded, untrained weights; they and the audio are kept in the
    user's cache, about 400 MB.
    """
    from mertric.cache import cache_directory
    from mertric.music import SECONDS
    from mertric.pairing import pair
    from mertric.report import report
    from mertric.scoring import score_pairs

    home = cache_directory() / "demo" / f"seed-{seed}"
    encoder = _untrained(home, seed)
    reference, estimates = write_demo(home / "audio", seed=seed)
    pairs = pair(reference, estimates)
    score_pairs(pairs[:1], encoder)  # for the first time, which may compile kernels
    started = time.perf_counter()
    with progress("scoring", len(pairs)) as advance:
        rows = score_pairs(pairs, encoder, advance=advance)
    elapsed = time.perf_counter() - started
    graded = [
        {
            "degradation": path.stem.rpartition("_")[0].replace("_", " "),
            "strength": path.stem.rpartition("_")[2],
            **row,
        }
        for path, row in zip(estimates, rows, strict=True)
    ]
    title = f"{reference} against degraded copies beside it"
    columns = ["degradation", "strength", "mert_mse", "mert_fad", "status"]
    report(graded, columns, csv_path=csv_path, json_path=json_path, title=title)
    audio = SECONDS * (1 + len(estimates))
    click.echo(
        f"{audio} s of audio scored in {elapsed:.1f} s on {encoder.provider}: real-time factor {elapsed / audio:.3f}.\n"
    )
    click.echo(_CLOSING)


def write_demo(directory: Path, *, seed: int) -> tuple[Path, list[Path]]:
    """Write the reference and its degradations as 16-bit WAV files.

    Returns
    -------
    reference : Path
        The lead voice alone.
    estimates : list of Path
        Each degradation at each strength, in the order of `mertric.music.GRADES`.
    """
    import numpy as np
    import soundfile

    from mertric.music import GRADES, SAMPLE_RATE, compose, degrade
    from mertric.output import replacing

    directory.mkdir(parents=True, exist_ok=True)
    lead, others = compose(seed)
    sounds = {"reference": lead}
    for kind, strengths in GRADES.items():
        for grade, strength in enumerate(strengths, 1):
            sounds[f"{kind}_{grade}"] = degrade(lead, others, kind, strength, np.random.default_rng([seed, grade]))
    paths = {name: directory / f"{name}.wav" for name in sounds}
    for name, sound in sounds.items():
        with replacing(paths[name]) as partial:
            soundfile.write(partial, np.clip(sound, -1, 1), SAMPLE_RATE, subtype="PCM_16")
    reference = paths.pop("reference")
    return reference, list(paths.values())


def _untrained(home: Path, seed: int) -> Encoder:
    """Load the bundle of the made-up checkpoint, which is made first if it is not there or damaged."""
    import shutil
    from contextlib import suppress
    from tempfile import TemporaryDirectory

    from mertric.encoder import Encoder
    from mertric.errors import BundleError, DependencyError

    bundle = home / "bundle"
    with suppress(BundleError):
        return Encoder(bundle)
    try:
        from mertric_export.export import Provenance, export_checkpoint
        from mertric_export.output import only_writer
        from mertric_export.synthetic import PRESETS, write_checkpoint
    except ImportError as error:
        raise DependencyError(
            f"the demo makes a model and converts it, for which {error.name} is missing. "
            'Run: pip install "mertric[export]"'
        ) from error
    with only_writer(bundle, notify=say), TemporaryDirectory(dir=home) as checkpoint:
        with suppress(BundleError):
            return Encoder(bundle)  # another demo has made it meanwhile
        say("Making an untrained model of MERT-v1-95M's size (once):")
        write_checkpoint(checkpoint, PRESETS["m-a-p/MERT-v1-95M"], seed=seed)
        shutil.rmtree(bundle, ignore_errors=True)
        provenance = Provenance(model=f"untrained MERT-v1-95M, seed {seed}", license="none", trained=False)
        export_checkpoint(checkpoint, bundle, provenance=provenance, force=True, notify=lambda step: say(f"  {step}"))
    return Encoder(bundle)
