"""Holds a bundle against an independent forward pass of its checkpoint."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.bundle import read_bundle
from mertric.encoder import Encoder
from mertric.errors import ExportError, ProviderError
from mertric_export.emulation import runnable
from mertric_export.precisions import PRECISIONS
from mertric_export.reference import hidden_states
from mertric_export.whole import whole_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mertric_export.checkpoint import Checkpoint

TOLERANCE = 1e-4
"""Largest difference of a hidden state from float64, in units of that state's root mean square, in fp32."""
ROOM = 3
"""Where weights are so ill-conditioned that plain float32 loses more than that: so many times its loss is allowed."""
COARSE_TOLERANCE = 0.2
"""The same in a lower precision: it finds graphs that are wrong, `gate` what is lost to rounding."""
SECONDS = 0.4


def verify(checkpoint: Checkpoint, bundle: Path, precisions: Sequence[str] = ("fp32",)) -> dict[str, Any]:
    """Compare every hidden state of a bundle's graphs in some precisions with `reference.hidden_states`, in float64.

    Returns
    -------
    dict
        What the manifest keeps as ``parity``: ``seconds`` of the clip and, per graph in fp32, the largest difference
        over all states, in units of each state's root mean square.

    Raises
    ------
    ExportError
        A difference is above `TOLERANCE`, or `COARSE_TOLERANCE` in another precision than fp32, and above `ROOM`
        times what float32 loses.
    """
    samples = check_clip(checkpoint.config.sample_rate, least=4 * checkpoint.config.receptive_field)
    clips = [samples, samples[: samples.size // 2], np.ascontiguousarray(samples[::-1])]
    expected = [np.stack(hidden_states(checkpoint, clip)) for clip in clips]

    @cache
    def lost() -> NDArray[np.float64]:
        plain = [hidden_states(checkpoint, clip, dtype=np.float32) for clip in clips]
        each = [_differences(np.stack(got), exact) for got, exact in zip(plain, expected, strict=True)]
        return np.asarray(np.max(each, axis=0))

    figures = {precision: _compare(bundle, precision, clips, expected, lost) for precision in precisions}
    seconds = samples.size / checkpoint.config.sample_rate
    return {"reference": "NumPy float64", "seconds": seconds, "max_error_over_rms": figures["fp32"]}


def _compare(
    bundle: Path,
    precision: str,
    clips: Sequence[NDArray[np.float32]],
    expected: Sequence[NDArray[Any]],
    lost: Callable[[], NDArray[np.float64]],
) -> dict[str, float]:
    """Return the largest difference of each graph of a precision; ExportError where it is too large.

    Where it is, what a plain forward pass in float32 loses is asked for.
    """
    tolerance = TOLERANCE if precision == "fp32" else COARSE_TOLERANCE
    figures: dict[str, float] = {}
    with runnable(bundle, provider="cpu", precision=precision) as (directory, run_as), _refusing(precision):
        for graph, states in _runs(directory, precision, run_as, clips):
            each = [_differences(got, expected[index]) for index, got in states.items()]
            differences = np.max(each, axis=0)
            worst = int(np.argmax(differences))
            if not differences[worst] <= tolerance and not (differences <= np.maximum(tolerance, ROOM * lost())).all():
                raise ExportError(
                    f"the exported {precision} {graph} graph differs from its checkpoint: hidden state {worst} by "
                    f"{differences[worst]:.1e} of its root mean square, expected at most {tolerance:.0e}. "
                    "Nothing was written. Check that the checkpoint is a MERT model, and report it if it is."
                )
            figures[graph] = float(differences[worst])
    return figures


@contextmanager
def _refusing(precision: str) -> Iterator[None]:
    """Turn what keeps graphs from running into an ExportError."""
    try:
        yield
    except ProviderError as error:
        raise ExportError(f"the exported {precision} graphs do not work ({error}) Nothing was written.") from error


def _runs(
    directory: Path, precision: str, run_as: str, clips: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[str, dict[int, NDArray[np.float32]]]]:
    """Run every graph of a precision on the CPU: its name, and by their indices all hidden states of some clips.

    They are in one batch, of different lengths where the graph takes that; whole clips are of one.
    """
    for variant in PRECISIONS[precision].variants:
        encoder = Encoder(directory, provider="cpu", precision=run_as, attention=variant)
        some = [0] if variant == "fused" else [0, 1]
        batch = encoder.embed_samples_batch([clips[index] for index in some], layers="all")
        yield variant, {index: found.hidden for index, found in zip(some, batch, strict=True)}
    if PRECISIONS[precision].clips is None:
        return
    bundle = read_bundle(directory)
    layers, whole = tuple(range(bundle.layers + 1)), whole_clips(bundle, run_as)
    equal = {index: clips[index] for index in (0, 2)}
    yield "clips", dict(zip(equal, whole.states(list(equal.values()), layers), strict=True))
    if PRECISIONS[precision].fixed_clips is not None:
        whole.fix(2, bundle.frames(clips[0].size), layers)
        yield "clips.fixed", dict(zip(equal, whole.states(list(equal.values()), layers), strict=True))


def _differences(got: NDArray[Any], exact: NDArray[Any]) -> NDArray[np.float64]:
    """Return each hidden state's largest difference in units of its root mean square, for [layers, frames, dim]."""
    rms = np.sqrt(np.square(exact).mean(axis=(1, 2)))
    return np.asarray(np.abs(got - exact).max(axis=(1, 2)) / rms)


def check_clip(sample_rate: int, *, least: int = 0) -> NDArray[np.float32]:
    """A short clip of at least so many samples with tones, an onset and noise: float32 [samples]."""
    time = np.arange(max(round(SECONDS * sample_rate), least)) / sample_rate
    pitches = np.array([[220], [554], [1318], [3520]])
    tones = (np.sin(2 * np.pi * pitches * time + pitches) / [[1], [2], [3], [4]]).sum(axis=0)
    onset = np.exp(-8 * np.maximum(time - 0.1, 0)) * (time > 0.1)
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(time.size)
    clip: NDArray[np.float32] = (0.2 * tones * onset + 0.01 * noise).astype(np.float32)
    return clip
