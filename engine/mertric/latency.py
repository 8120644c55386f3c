"""What `mertric bench` measures: how long embedding takes here, warm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mertric.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mertric.encoder import Encoder

SEED = 0


def measure_latency(
    encoder: Encoder,
    *,
    seconds: Sequence[float],
    batch: int,
    runs: int,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, object]]:
    """Embed noise of given lengths again and again.

    Parameters
    ----------
    seconds
        Lengths of a clip.
    batch
        Clips at once.
    runs
        Timed runs of each length, after the encoder was warmed up for it.

    Returns
    -------
    list of dict
        For each length: ``seconds``, ``batch``, ``runs``, the ``median_ms``, ``p99_ms`` and ``min_ms`` of a run, and
        ``real_time_factor``, the median over the audio's duration.

    Raises
    ------
    InputError
        A length is not above 0 and finite, or `batch` or `runs` below 1.
    AudioError
        A length is below the model's receptive field.
    ProviderError
        The provider failed.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}; expected at least 1.")
    rng = np.random.default_rng(SEED)
    rows: list[dict[str, object]] = []
    for length in seconds:
        encoder.warm_up([length], batch=batch)
        count = round(length * encoder.bundle.sample_rate)
        clips = [0.1 * rng.standard_normal(count).astype(np.float32) for _ in range(batch)]
        rate = encoder.bundle.sample_rate
        encoder.embed_batch(clips, sample_rate=rate, protocol="float")  # which cuts nothing
        times = np.empty(runs)
        for run in range(runs):
            started = time.perf_counter()
            encoder.embed_batch(clips, sample_rate=rate, protocol="float")
            times[run] = time.perf_counter() - started
            advance()
        rows.append(
            {
                "seconds": length,
                "batch": batch,
                "runs": runs,
                "median_ms": float(np.median(times)) * 1000,
                "p99_ms": float(np.quantile(times, 0.99)) * 1000,
                "min_ms": float(times.min()) * 1000,
                "real_time_factor": float(np.median(times)) / (length * batch),
            }
        )
    return rows
