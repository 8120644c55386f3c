"""A short piece of music made with NumPy, and graded degradations of its lead voice.

The demo scores it. Exports measure means on it and hold precisions to it: to change a sound changes all bundles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import signal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Sound = NDArray[np.float64]

SAMPLE_RATE = 44100
SECONDS = 4
_BEAT = SAMPLE_RATE // 2
_MELODY = (64, 67, 71, 69, 67, 64, 62, 64)
_CHORDS = ((40, (52, 59, 64, 67)), (45, (57, 60, 64, 69)))
GRADES: Mapping[str, Sequence[float]] = {
    "leakage": (0.05, 0.2, 0.8),
    "lowpass": (9000.0, 4000.0, 1200.0),
    "clipping": (0.6, 0.3, 0.1),
    "noise": (0.003, 0.02, 0.1),
    "musical_noise": (0.15, 0.5, 0.9),
}
"""Each degradation's strengths, from mild to strong: gain, Hz, share of the peak, deviation, share of bins."""


def compose(seed: int) -> tuple[Sound, Sound]:
    """Return the lead voice and everything else (bass, chords, drums), each [samples] at `SAMPLE_RATE`."""
    rng = np.random.default_rng(seed)
    lead, others = np.zeros(SECONDS * SAMPLE_RATE), np.zeros(SECONDS * SAMPLE_RATE)
    for beat in range(len(lead) // _BEAT):
        span = slice(beat * _BEAT, (beat + 1) * _BEAT)
        lead[span] += _voice(_MELODY[(beat + seed) % len(_MELODY)], rng)
        bass, chord = _CHORDS[beat // 4 % len(_CHORDS)]
        others[span] += 0.3 * _string(bass - 12 * (beat % 2), 4)
        others[span] += 0.1 * sum((_string(note, 2) for note in chord), np.zeros(_BEAT))
        others[span] += _drum(rng, beat)
    return 0.5 * lead / np.abs(lead).max(), 0.5 * others / np.abs(others).max()


def degrade(lead: Sound, others: Sound, kind: str, strength: float, rng: np.random.Generator) -> Sound:
    """Return the lead voice degraded in one of the ways of `GRADES`, as separation models do."""
    ways: dict[str, Callable[[], Sound]] = {
        "leakage": lambda: lead + strength * others,
        "lowpass": lambda: signal.sosfilt(signal.butter(8, strength, fs=SAMPLE_RATE, output="sos"), lead),
        "clipping": lambda: np.clip(lead, -strength * np.abs(lead).max(), strength * np.abs(lead).max()),
        "noise": lambda: lead + strength * rng.standard_normal(lead.size),
        "musical_noise": lambda: _musical_noise(lead, strength, rng),
    }
    return np.asarray(ways[kind](), np.float64)


def _musical_noise(lead: Sound, share: float, rng: np.random.Generator) -> Sound:
    """Drop a share of the bins of the spectrogram, as a ragged mask does."""
    _, _, bins = signal.stft(lead, SAMPLE_RATE, nperseg=1024)
    _, sound = signal.istft(bins * (rng.random(bins.shape) >= share), SAMPLE_RATE, nperseg=1024)
    return np.asarray(sound[: lead.size])


def _voice(note: int, rng: np.random.Generator) -> Sound:
    """A sung vowel: a vibrato of harmonics under three formants, with breath."""
    time = np.arange(_BEAT) / SAMPLE_RATE
    pitch = _hertz(note) * (1 + 0.006 * np.sin(2 * np.pi * 5.5 * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    harmonics = np.arange(1, 30)
    formants = np.array([rng.uniform(400, 800), rng.uniform(1000, 1800), 2700])
    distance = (harmonics[:, None] * _hertz(note) - formants) / 150
    gains = (1 / (1 + distance**2)).sum(axis=1) / harmonics**0.3
    envelope = np.minimum(time / 0.05, 1) * np.minimum((time[-1] - time) / 0.08, 1)
    breath = 0.02 * rng.standard_normal(time.size)
    return np.asarray(envelope * (gains @ np.sin(np.outer(harmonics, phase)) + breath))


def _string(note: int, decay: float) -> Sound:
    """A plucked tone."""
    time = np.arange(_BEAT) / SAMPLE_RATE
    harmonics = np.arange(1, 9)
    tones = np.sin(2 * np.pi * _hertz(note) * np.outer(harmonics, time)) / harmonics[:, None]
    return np.asarray(np.exp(-decay * time) * tones.sum(axis=0))


def _drum(rng: np.random.Generator, beat: int) -> Sound:
    """A kick on even beats, a snare on odd ones, and a hi-hat on each."""
    time = np.arange(_BEAT) / SAMPLE_RATE
    kick = np.sin(2 * np.pi * (50 * time + 8 * (1 - np.exp(-30 * time)))) * np.exp(-9 * time)
    snare = rng.standard_normal(_BEAT) * np.exp(-18 * time)
    hat = np.diff(rng.standard_normal(_BEAT + 1)) * np.exp(-60 * time)
    return np.asarray((0.6 * snare if beat % 2 else kick) + 0.15 * hat)


def _hertz(note: int) -> float:
    """Frequency of a MIDI note."""
    return float(440 * 2 ** ((note - 69) / 12))
