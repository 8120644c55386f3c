"""Real singing voice, where the public GenSVS excerpts lie beside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "gensvs"
MODELS = ("sgmsvs", "melroformer_small", "melroformer_bigvgan")
EXCERPTS = (1, 12)


def read(name: str) -> np.ndarray:
    """A file as float64 [channels, samples]; skips the test where it is absent."""
    soundfile = pytest.importorskip("soundfile")
    path = FOLDER / name
    if not path.exists():
        pytest.skip("the GenSVS excerpts are not here")
    return soundfile.read(path, always_2d=True)[0].T


def pair(model: str, excerpt: int) -> tuple[np.ndarray, np.ndarray]:
    """Reference and estimated vocals, mono [samples]."""
    reference = read(f"target/target_fileid_{excerpt}.wav")
    estimate = read(f"separated/{model}/separated_vocals_mixture_fileid_{excerpt}.wav")
    return reference.mean(axis=0), estimate.mean(axis=0)


def track(model: str, excerpt: int) -> tuple[np.ndarray, np.ndarray]:
    """Vocals and accompaniment, references and estimates, stereo [sources, channels, samples]."""
    mixture = read(f"mixture/mixture_fileid_{excerpt}.wav")
    vocals, estimate = (waveform + 0 * mixture for waveform in pair(model, excerpt))
    return np.stack([vocals, mixture - vocals]), np.stack([estimate, mixture - estimate])
