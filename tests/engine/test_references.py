from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mertric
from mertric.encoder import Encoder
from mertric.errors import AudioError, InputError
from mertric.protocol import get_protocol
from mertric.references import References

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]

RATE = 24000


@pytest.fixture
def embedded(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the clips that the encoder embeds during the test."""
    sizes: list[int] = []
    embed_samples = encoder.embed_samples

    def count(samples: NDArray[np.float32], **options: Any) -> Any:
        sizes.append(samples.size)
        return embed_samples(samples, **options)

    monkeypatch.setattr(encoder, "embed_samples", count)
    return sizes


@pytest.mark.parametrize("protocol", ["paper", "float"])
@pytest.mark.parametrize("layer", [None, 2])
def test_a_score_is_the_same_to_the_bit(encoder: Encoder, sound: Sound, protocol: str, layer: int | None) -> None:
    reference, estimate = sound(seed=1), sound(seed=2)
    layers = None if layer is None else (layer,)
    x, y = (
        encoder.embed(clip, sample_rate=RATE, layers=layers, protocol=protocol).hidden[0]
        for clip in (reference, estimate)
    )
    if protocol == "paper":
        x, y = x.astype(np.float16), y.astype(np.float16)
    references = References(encoder)
    options: dict[str, Any] = {"sample_rate": RATE, "layer": layer, "protocol": protocol}
    for _ in range(2):
        kept = mertric.score(reference, estimate, references=references, **options)
        assert kept.mse == mertric.embedding_mse(x, y)
        assert kept.fad == mertric.frechet_distance(x, y)
        assert kept == mertric.score(reference, estimate, encoder=encoder, **options)


def test_a_reference_is_embedded_once(encoder: Encoder, sound: Sound, embedded: list[int]) -> None:
    references = mertric.References(encoder)
    for seed in range(3):
        mertric.score(sound(9000), sound(9000, seed), references=references, encoder=encoder, sample_rate=RATE)
    assert len(embedded) == 4


def test_content_tells_references_apart(
    encoder: Encoder, sound: Sound, write_wav: Callable[..., Path], embedded: list[int]
) -> None:
    references = References(encoder)
    clip = get_protocol("paper").prepare(sound())
    first = references.get(write_wav("a.wav", clip))
    assert references.get(write_wav("b.wav", clip)) is first
    assert references.get(clip, sample_rate=RATE) is first
    assert references.get(clip, sample_rate=RATE, layer=4) is first
    assert len(embedded) == 1
    others = [
        references.get(write_wav("a.wav", sound(seed=1))),
        references.get(clip, sample_rate=RATE, layer=3),
        references.get(clip, sample_rate=RATE, protocol="float"),
        references.get(clip, sample_rate=44100),
    ]
    assert len({id(other) for other in (first, *others)}) == len(embedded) == 5


def test_what_tells_a_reference_apart_is_what_is_embedded(
    encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may write over it meanwhile."""
    expected = References(encoder).get(sound(), sample_rate=RATE, protocol="float")
    clip, embed_samples = sound(), encoder.embed_samples

    def late(samples: NDArray[np.float32], **options: Any) -> Any:
        clip[:] = 0
        return embed_samples(samples, **options)

    monkeypatch.setattr(encoder, "embed_samples", late)
    got = References(encoder).get(clip, sample_rate=RATE, protocol="float")
    np.testing.assert_array_equal(got.states, expected.states)
    assert not got.silent


@pytest.mark.parametrize("protocol", ["paper", "float"])
def test_a_column_of_samples(encoder: Encoder, sound: Sound, protocol: str) -> None:
    """Of mono audio that lies between other channels, and is written over once it was read."""
    references, columns = References(encoder), np.stack([sound(), sound(seed=1)], axis=1)
    first = references.get(columns[:, 0], sample_rate=RATE, protocol=protocol)
    assert references.get(sound(), sample_rate=RATE, protocol=protocol) is first
    score = mertric.score(columns[:, 0], columns[:, 1], encoder=encoder, sample_rate=RATE, protocol=protocol)
    assert score == mertric.score(sound(), sound(seed=1), encoder=encoder, sample_rate=RATE, protocol=protocol)


def test_the_longest_not_asked_for_goes_first(encoder: Encoder, sound: Sound, embedded: list[int]) -> None:
    one = References(encoder).get(sound(), sample_rate=RATE)
    assert one.nbytes == 37 * 64 * 2 + 37 * 64 * 8 + 2 * 64 * 8
    references = References(encoder, capacity_bytes=2 * one.nbytes)
    embedded.clear()
    for seed, computed in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4), (0, 4), (2, 5)):
        references.get(sound(seed=seed), sample_rate=RATE)
        assert len(embedded) == computed, seed


def test_one_too_large_is_not_kept_and_sends_none_away(encoder: Encoder, sound: Sound, embedded: list[int]) -> None:
    references = References(encoder, capacity_bytes=50000)
    for clip in (sound(), sound(48000), sound(), sound(48000), sound()):
        references.get(clip, sample_rate=RATE)
    assert embedded == [12000, 48000, 48000]


def test_no_capacity_keeps_nothing(encoder: Encoder, sound: Sound, embedded: list[int]) -> None:
    references = References(encoder, capacity_bytes=0)
    for _ in range(2):
        references.get(sound(), sample_rate=RATE)
    assert len(embedded) == 2


def ask_at_once(references: References, clip: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Ask for one reference in 8 threads that have all read it before the first goes on to look for it."""
    barrier = threading.Barrier(8)
    read = references.encoder.read

    def read_together(*arguments: Any) -> NDArray[np.float32]:
        samples = read(*arguments)
        barrier.wait(60)
        return samples

    monkeypatch.setattr(references.encoder, "read", read_together)
    with ThreadPoolExecutor(8) as pool:
        return [pool.submit(references.get, clip, sample_rate=RATE) for _ in range(8)]


def test_threads_that_ask_at_once_share_one_computation(
    encoder: Encoder, sound: Sound, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask_at_once(References(encoder), sound(30000), monkeypatch)
    assert len({id(one.result()) for one in asked}) == 1
    assert len(embedded) == 1


def test_threads_that_ask_at_once_share_an_error(
    encoder: Encoder, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    references = References(encoder)
    with monkeypatch.context() as patch:
        asked = ask_at_once(references, np.zeros(500, np.float32), patch)
    for one in asked:
        with pytest.raises(InputError, match="the reference has 1 frame"):
            one.result()
    before = len(embedded)
    with pytest.raises(InputError, match="the reference has 1 frame"):
        references.get(np.zeros(500), sample_rate=RATE)
    assert len(embedded) == before + 1  # an error is not kept


def test_one_that_is_interrupted_is_computed_by_whoever_asks_next(
    encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    references = References(encoder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoder, "embed_samples", interrupt)
        references.get(sound(), sample_rate=RATE)
    assert not references._known
    assert references.get(sound(), sample_rate=RATE).states.shape == (37, 64)


def test_one_that_takes_long_holds_no_other_up(encoder: Encoder, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    references, begun, go_on = References(encoder), threading.Event(), threading.Event()
    embed_samples = encoder.embed_samples

    def wait(samples: NDArray[np.float32], **options: Any) -> Any:
        if samples.size == 20000:
            begun.set()
            go_on.wait(60)
        return embed_samples(samples, **options)

    monkeypatch.setattr(encoder, "embed_samples", wait)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(references.get, sound(20000), sample_rate=RATE)
        begun.wait(60)
        try:
            assert pool.submit(references.get, sound(), sample_rate=RATE).result(20).states.shape == (37, 64)
            assert not slow.done()
        finally:
            go_on.set()


def test_many_references_in_many_threads(encoder: Encoder, sound: Sound) -> None:
    one = References(encoder).get(sound(), sample_rate=RATE)
    references = References(encoder, capacity_bytes=2 * one.nbytes)
    expected = [References(encoder).get(sound(seed=seed), sample_rate=RATE).states for seed in range(4)]
    order = np.random.default_rng(0).integers(0, 4, 60).tolist()
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda seed: references.get(sound(seed=seed), sample_rate=RATE), order)
        for seed, got in zip(order, found, strict=True):
            np.testing.assert_array_equal(got.states, expected[seed])


def test_what_cannot_be_kept(encoder: Encoder, bundle: Path, sound: Sound) -> None:
    for capacity in (-1, float("nan"), None, "1"):
        with pytest.raises(InputError, match=f"capacity_bytes is {capacity!r}; expected 0 or more"):
            References(encoder, capacity_bytes=capacity)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"gone\.wav does not exist"):
        References(encoder).get("gone.wav")
    with pytest.raises(InputError, match=r"layer.* \(5,\)"):
        References(encoder).get(sound(), sample_rate=RATE, layer=5)
    with pytest.raises(InputError, match="encoder is not the one that references were made with"):
        mertric.score(sound(), sound(), encoder=Encoder(bundle), references=References(encoder), sample_rate=RATE)
