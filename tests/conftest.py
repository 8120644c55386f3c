"""What tests of several packages share: tiny bundles of both families, sounds and a cache of their own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from mertric.encoder import Encoder

    WriteWav = Callable[..., Path]

RATE = 24000


@dataclass(frozen=True)
class Model:
    """A tiny checkpoint and the bundle made of it."""

    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of every test, and the Hub too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERTRIC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A model of each family, by the name of the one it has the layout of: ``95m`` and ``330m``."""
    from mertric_export.export import Provenance, export_checkpoint
    from mertric_export.synthetic import TINY, write_checkpoint

    made = {}
    for family, stable in (("95m", False), ("330m", True)):
        home = tmp_path_factory.mktemp(family)
        config = dataclasses.replace(TINY, do_stable_layer_norm=stable)
        checkpoint = write_checkpoint(home / "checkpoint", config, seed=7)
        provenance = Provenance(model=f"tiny-{family}", license="none", trained=False)
        export_checkpoint(checkpoint, home / "bundle", provenance=provenance)
        made[family] = Model(checkpoint, home / "bundle")
    return made


@pytest.fixture(params=["95m", "330m"])
def model(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    """Each family's model in turn."""
    return models[request.param]


@pytest.fixture(scope="session")
def bundle(models: dict[str, Model]) -> Path:
    """The bundle of one family, where the family does not matter. Not to be written to."""
    return models["95m"].bundle


@pytest.fixture(scope="session")
def encoder(bundle: Path) -> Encoder:
    """An encoder of that bundle."""
    from mertric.encoder import Encoder

    return Encoder(bundle)


@pytest.fixture(scope="session")
def sound() -> Callable[..., NDArray[np.float32]]:
    """Make a clip with a glide, an onset and noise: float32 [samples] at 24 kHz, seeded."""

    def make(samples: int = 12000, seed: int = 0) -> NDArray[np.float32]:
        time = np.arange(samples) / RATE
        glide = np.sin(2 * np.pi * (200 + 37 * seed + 900 * time) * time)
        noise = np.random.default_rng(seed).standard_normal(samples)
        return (0.3 * glide * np.exp(-3 * (time % 0.25)) + 0.02 * noise).astype(np.float32)

    return make


@pytest.fixture
def write_wav(tmp_path: Path) -> WriteWav:
    """Write [samples] or [channels, samples] below the test's folder; the ending says the format."""
    import soundfile

    def write(name: str, samples: ArrayLike, rate: int = RATE, subtype: str | None = "FLOAT") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.asarray(samples).T, rate, subtype=subtype)
        return path

    return write
