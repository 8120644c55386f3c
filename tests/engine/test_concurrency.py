"""What a service with threads or asyncio relies on."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.encoder import Encoder
from mertric.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]

RATE = 24000


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, provider="cpu", threads=1)


@pytest.fixture
def no_forced_switches() -> Iterator[None]:
    """Let another thread run only where the one that runs gives way."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(600)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("no_forced_switches")
def test_a_run_releases_the_gil(encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, stop, advances = [0], threading.Event(), []
    run = Session.run

    def watched(session: Session, inputs: Any) -> Any:
        before = steps[0]
        results = run(session, inputs)
        advances.append(steps[0] - before)
        return results

    def step() -> None:
        while not stop.is_set():
            steps[0] += 1
            time.sleep(0)

    monkeypatch.setattr(Session, "run", watched)
    counter = threading.Thread(target=step)
    counter.start()
    try:
        encoder.embed(sound(60 * RATE), sample_rate=RATE)
    finally:
        stop.set()
        counter.join()
    assert advances[-1] > 0  # the encoder's run, the longest


def test_concurrent_embeds_give_what_they_give_alone(encoder: Encoder, sound: Sound) -> None:
    clips = [sound(40000, 1), sound(56000, 2)]
    alone = [encoder.embed(clip, sample_rate=RATE, layers="all").hidden for clip in clips]
    barrier = threading.Barrier(2)

    def embed(clip: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        barrier.wait(60)
        return [encoder.embed(clip, sample_rate=RATE, layers="all").hidden for _ in range(4)]

    with ThreadPoolExecutor(2) as pool:
        for together, expected in zip(pool.map(embed, clips), alone, strict=True):
            for hidden in together:
                np.testing.assert_array_equal(hidden, expected)


def test_embeds_in_asyncio(encoder: Encoder, sound: Sound) -> None:
    clips = [sound(20000, 1), sound(30000, 2)]

    async def embed_both() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(encoder.embed, clip, sample_rate=RATE) for clip in clips))

    for got, clip in zip(asyncio.run(embed_both()), clips, strict=True):
        np.testing.assert_array_equal(got.hidden, encoder.embed(clip, sample_rate=RATE).hidden)
