from __future__ import annotations

import dataclasses
import gc
import io
import os
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mertric.audio_file import read_audio
from mertric.bundle import Bundle
from mertric.encoder import Encoder
from mertric.errors import AudioError, InputError, ProviderError
from mertric.protocol import PROTOCOLS, get_protocol
from mertric.providers import PROVIDERS, FixedShapes
from mertric.scheduler import Scheduler
from mertric.session import Session
from mertric_export.checkpoint import read_checkpoint
from mertric_export.reference import hidden_states

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]


def rms(x: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def off(got: NDArray[np.float32], expected: NDArray[Any]) -> float:
    """Largest difference of any state, in units of that state's root mean square."""
    assert got.shape == expected.shape
    return max(float(np.abs(a - b).max()) / rms(b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("attention", ["fused", "portable", "pointwise"])
@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_hidden_states_are_those_of_the_checkpoint(model: Any, sound: Sound, attention: str, offset: float) -> None:
    samples = sound(7777) + np.float32(offset)
    expected = np.array(hidden_states(read_checkpoint(model.checkpoint), samples))
    got = Encoder(model.bundle, attention=attention, chunk=10).embed_samples(samples, layers="all")
    assert off(got.hidden, expected) < 2e-5
    assert got.layers == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("samples", [24000, 23987])
def test_any_chunk_gives_the_same(model: Any, sound: Sound, samples: int) -> None:
    clip = sound(samples)
    whole = Encoder(model.bundle, chunk=10**9).embed_samples(clip, layers="all").hidden
    assert whole.shape == (5, 74, 64)
    for chunk in (1, 2, 3, 7, 36, 37, 73, 74, 75, 128):
        assert off(Encoder(model.bundle, chunk=chunk).embed_samples(clip, layers="all").hidden, whole) < 1e-5, chunk


def test_the_provider_says_how_many_frames_run_at_once(
    bundle: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], chunk=30))
    rows: list[int] = []
    run = Session.run

    def spy(self: Session, inputs: Any) -> Any:
        rows.extend(array.shape[1] for name, array in inputs.items() if name == "windows")
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", spy)
    for chunk, expected in ((None, [25, 24, 25]), (50, [37, 37])):
        rows.clear()
        Encoder(bundle, provider="cpu", chunk=chunk).embed_samples(sound(24000))
        assert rows == [64 * (frames + 1) for frames in expected]


def test_the_front_end_of_a_provider_that_rounds_and_gains_from_fixed_shapes(
    model: Any, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Factors of the first convolution come in parts; a warmed-up clip's positional convolution runs in one piece."""
    expected = Encoder(model.bundle, provider="cpu").embed_samples(sound(24000), layers=[0]).hidden
    fixed = FixedShapes(attention={"bf16": "portable"})
    rounding = replace(
        PROVIDERS["cpu"], precisions={"bf16": "fp32"}, multiples={"bf16": 32}, fixed=fixed, attention="portable"
    )
    monkeypatch.setitem(PROVIDERS, "cpu", rounding)
    monkeypatch.setattr(Bundle, "require", lambda *_: None)
    encoder = Encoder(model.bundle, provider="cpu", precision="bf16", chunk=30)
    ran: list[tuple[Session, str, tuple[int, ...]]] = []
    run = Session.run

    def spy(self: Session, inputs: Any) -> Any:
        ran.extend((self, name, array.shape) for name, array in inputs.items() if name in ("windows", "features"))
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", spy)
    first = encoder.embed_samples(sound(24000), layers=[0]).hidden
    free, taps = ran.copy(), encoder.bundle.position_taps
    assert [shape for _, _, shape in free] == [(1, 64 * 33, 32)] * 3 + [(1, 32 + taps - 1, 64)] * 3
    encoder.warm_up([1.0])
    ran.clear()
    again = encoder.embed_samples(sound(24000), layers=[0]).hidden
    assert [shape for _, _, shape in ran] == [(1, 64 * 33, 32)] * 3 + [(1, 96 + taps - 1, 64)]
    assert not {session for session, _, _ in ran} & {session for session, _, _ in free}
    for states in (first, again):
        np.testing.assert_allclose(states, expected, atol=1e-4)


def test_warm_up_meets_every_shape_that_chunks_of_other_lengths_have(
    bundle: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = FixedShapes(attention={"fp32": "portable"})
    few = replace(PROVIDERS["cpu"], multiples={"fp32": 32}, fixed=fixed, attention="portable")
    monkeypatch.setitem(PROVIDERS, "cpu", few)
    encoder = Encoder(bundle, provider="cpu", chunk=90)
    met: set[tuple[Session, str, tuple[int, ...]]] = set()
    run = Session.run

    def spy(self: Session, inputs: Any) -> Any:
        met.update((self, name, array.shape) for name, array in inputs.items() if name in ("windows", "features"))
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", spy)
    encoder.warm_up([1.0])
    known = set(met)
    for frames in (1, 31, 60, 90, 120, 200):
        encoder.embed_samples(sound(400 + 320 * (frames - 1)), layers=[0])
    assert met == known


def test_the_positional_convolution_of_a_long_clip_stays_in_pieces(
    bundle: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mertric.frontend._LONGEST", 70)
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], fixed=FixedShapes(attention={"fp32": "fused"})))
    encoder = Encoder(bundle, provider="cpu", chunk=30)
    encoder.warm_up([1.0])
    rows: list[int] = []
    run = Session.run

    def spy(self: Session, inputs: Any) -> Any:
        rows.extend(array.shape[1] for name, array in inputs.items() if name == "features")
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", spy)
    encoder.embed_samples(sound(24000), layers=[0])
    assert rows == [frames + encoder.bundle.position_taps - 1 for frames in (25, 24, 25)]


@given(st.integers(400, 6000), st.integers(1, 20))
@settings(max_examples=10, deadline=None)
def test_any_length_in_any_chunk(encoder: Encoder, bundle: Path, sound: Sound, samples: int, chunk: int) -> None:
    clip = sound(samples)
    whole = encoder.embed_samples(clip, layers=[0, 4]).hidden
    assert off(Encoder(bundle, chunk=chunk).embed_samples(clip, layers=[0, 4]).hidden, whole) < 1e-5
    assert whole.shape == (2, (samples - 400) // 320 + 1, 64)


@pytest.mark.parametrize("attention", ["fused", "portable", "pointwise"])
@pytest.mark.parametrize("layers", [(0,), (2,), (4,), (0, 4), (3, 1), (4, 0, 2), (0, 1, 2, 3, 4)])
def test_layers_alone_equal_the_full_run(model: Any, sound: Sound, layers: tuple[int, ...], attention: str) -> None:
    encoder = Encoder(model.bundle, attention=attention)
    every = encoder.embed_samples(sound(), layers="all").hidden
    some = encoder.embed_samples(sound(), layers=layers)
    assert some.layers == layers
    np.testing.assert_allclose(some.hidden, every[list(layers)], atol=1e-6)


def test_by_default_the_last_layer(encoder: Encoder, sound: Sound) -> None:
    clip = sound()
    last = encoder.embed_samples(clip)
    assert encoder.layers == 4
    assert last.layers == (4,)
    np.testing.assert_array_equal(last.hidden, encoder.embed_samples(clip, layers=[4]).hidden)
    assert last.hidden.dtype == np.float32


def test_times_are_the_middles_of_the_windows(encoder: Encoder, sound: Sound) -> None:
    times = encoder.embed_samples(sound(12000)).times
    assert times.shape == (37,)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times[:2], [200 / 24000, 520 / 24000])
    np.testing.assert_allclose(np.diff(times), 1 / 75)


def test_an_impulse_shows_at_its_time(model: Any) -> None:
    """What frame t sees lies around times[t]: the frame whose middle is nearest to a change moves most."""
    encoder = Encoder(model.bundle)
    noise = np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    first = encoder.embed_samples(noise, layers=[0])
    changed = noise.copy()
    changed[12000:12010] *= -3
    moved = np.abs(encoder.embed_samples(changed, layers=[0]).hidden[0] - first.hidden[0]).max(axis=1)
    assert abs(first.times[int(moved.argmax())] - 12005 / 24000) < 1 / 75


def test_gain_and_offset_of_a_float_clip_change_nothing(encoder: Encoder, sound: Sound) -> None:
    samples = sound().astype(np.float64)
    one = encoder.embed(samples, sample_rate=24000, protocol="float").hidden
    other = encoder.embed(20 * samples - 3, sample_rate=24000, protocol="float").hidden
    assert off(other, one) < 1e-4


@pytest.mark.parametrize("level", [0.0, 0.25, 1e-4])
@pytest.mark.parametrize("protocol", ["paper", "float"])
def test_silence_and_direct_current(model: Any, level: float, protocol: str) -> None:
    encoder = Encoder(model.bundle)
    samples = np.full(4000, level, np.float32)
    got = encoder.embed(samples, sample_rate=24000, layers="all", protocol=protocol).hidden
    expected = np.array(hidden_states(read_checkpoint(model.checkpoint), np.zeros(4000)))
    assert off(got, expected) < 2e-5


def test_a_quiet_clip(model: Any, sound: Sound) -> None:
    samples = 1e-5 * sound(6000)
    expected = np.array(hidden_states(read_checkpoint(model.checkpoint), samples))
    assert off(Encoder(model.bundle).embed_samples(samples, layers="all").hidden, expected) < 2e-5


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 192000])
def test_any_rate_gives_the_same_clip(encoder: Encoder, rate: int) -> None:
    def tone(at: int) -> NDArray[np.float64]:
        time = np.arange(at) / at
        return np.asarray(0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1500 * time + 1))

    expected = encoder.embed(tone(24000), sample_rate=24000, protocol="float").hidden
    got = encoder.embed(tone(rate), sample_rate=rate, protocol="float").hidden
    assert got.shape == expected.shape
    assert rms(got - expected) < 0.15 * rms(expected)


def test_files_and_arrays_are_one(encoder: Encoder, write_wav: Callable[..., Path], sound: Sound) -> None:
    stereo = np.stack([sound(9000, 1), sound(9000, 2)])
    path = write_wav("a.wav", stereo, 44100)
    expected = encoder.embed(stereo, sample_rate=44100)
    (entry,) = os.scandir(path.parent)
    for one in (encoder.embed(path), encoder.embed(str(path)), encoder.embed(entry), *encoder.embed_batch([entry])):
        np.testing.assert_array_equal(one.hidden, expected.hidden)
    mono = encoder.embed(stereo.mean(axis=0), sample_rate=44100)
    np.testing.assert_array_equal(mono.hidden, expected.hidden)
    in_double = encoder.embed(stereo.astype(np.float64), sample_rate=44100)
    np.testing.assert_array_equal(in_double.hidden, expected.hidden)


def test_integers_are_what_their_file_would_be(encoder: Encoder, write_wav: Callable[..., Path], sound: Sound) -> None:
    integers = np.rint(sound(5000) * 30000).astype(np.int16)
    path = write_wav("a.wav", integers, subtype="PCM_16")
    np.testing.assert_array_equal(encoder.embed(integers, sample_rate=24000).hidden, encoder.embed(path).hidden)


def test_the_paper_rounds_and_float_does_not(encoder: Encoder, sound: Sound) -> None:
    samples = sound(5000)
    rounded = (np.rint(samples * 32768) / 32768).astype(np.float32)
    paper = encoder.embed(samples, sample_rate=24000).hidden
    np.testing.assert_array_equal(paper, encoder.embed_samples(rounded).hidden)
    exact = encoder.embed(samples, sample_rate=24000, protocol="float").hidden
    np.testing.assert_array_equal(exact, encoder.embed_samples(samples).hidden)
    assert np.abs(paper - exact).max() > 1e-6


@pytest.mark.parametrize(("protocol", "seconds"), [("paper", 360), ("float", 362)])
def test_the_paper_cuts_at_six_minutes(
    encoder: Encoder, write_wav: Callable[..., Path], protocol: str, seconds: int
) -> None:
    rules = get_protocol(protocol)
    audio = read_audio(write_wav("long.wav", np.ones(362 * 100), 100), max_seconds=rules.max_seconds)
    assert encoder.prepare(audio, rules).size == seconds * 24000


def test_embed_cuts_files_and_arrays(
    encoder: Encoder, write_wav: Callable[..., Path], sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = dataclasses.replace(PROTOCOLS["paper"], max_seconds=0.25)
    monkeypatch.setitem(PROTOCOLS, "paper", paper)
    samples = sound(12000)
    expected = encoder.embed(samples[:6000], sample_rate=24000)
    for cut in (encoder.embed(samples, sample_rate=24000), encoder.embed(write_wav("a.wav", samples))):
        np.testing.assert_array_equal(cut.hidden, expected.hidden)
    assert len(encoder.embed(samples, sample_rate=24000, protocol="float").times) == 37


def test_several_threads_share_an_encoder(bundle: Path, sound: Sound) -> None:
    shared = Encoder(bundle, threads=1)
    clips = [sound(2000 + 500 * index, index) for index in range(6)]
    layers = [(index % 5,) for index in range(6)]
    expected = [
        Encoder(bundle, threads=1).embed_samples(clip, layers=layer).hidden
        for clip, layer in zip(clips, layers, strict=True)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda job: shared.embed_samples(job[0], layers=job[1]).hidden, zip(clips, layers, strict=True)
        )
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(("samples", "rate"), [(399, 24000), (1, 24000), (733, 44100), (133, 8000)])
def test_a_clip_shorter_than_a_frame(encoder: Encoder, samples: int, rate: int) -> None:
    resampled = -(-samples * 24000 // rate)
    with pytest.raises(
        AudioError,
        match=rf"array is too short: {samples / rate * 1000:.1f} ms, {resampled} samples at 24000 Hz; "
        "the first frame needs 400",
    ):
        encoder.embed(np.zeros(samples), sample_rate=rate)


@pytest.mark.parametrize(("samples", "rate"), [(400, 24000), (734, 44100), (134, 8000)])
def test_a_clip_of_one_frame(encoder: Encoder, samples: int, rate: int) -> None:
    assert encoder.embed(np.zeros(samples), sample_rate=rate).hidden.shape == (1, 1, 64)


def test_a_clip_shorter_than_the_first_convolution(encoder: Encoder) -> None:
    with pytest.raises(AudioError, match=r"too short: 0\.2 ms, 5 samples"):
        encoder.embed(np.ones(5), sample_rate=24000)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((5,), r"layers is \(5,\); expected different numbers from 0 to 4, the hidden states of tiny-95m"),
        ((-1,), r"layers is \(-1,\)"),
        ((1, 1), "expected different numbers"),
        ((), r"layers is \(\)"),
        ("last", "layers is 'last'; expected 'all' or a sequence of numbers"),
    ],
)
def test_layers_that_are_not_there(encoder: Encoder, sound: Sound, layers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.embed(sound(), sample_rate=24000, layers=layers)


def test_an_unknown_protocol(encoder: Encoder, sound: Sound) -> None:
    with pytest.raises(InputError, match="protocol 'loose' is not known; expected one of paper, float"):
        encoder.embed(sound(), sample_rate=24000, protocol="loose")


def test_what_an_encoder_cannot_be(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"chunk is 1\.5; expected at least 1 frame"):
        Encoder(bundle, chunk=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="chunk is 0; expected at least 1 frame"):
        Encoder(bundle, chunk=0)
    for threads in (0, -1, 1 << 20):
        with pytest.raises(InputError, match=rf"threads is {threads}; expected 1 to {os.cpu_count()}, as many"):
            Encoder(bundle, threads=threads)
    with pytest.raises(ProviderError, match="int4"):
        Encoder(bundle, precision="int4")
    with pytest.raises(ProviderError, match="provider 'abacus' is not known"):
        Encoder(bundle, provider="abacus")
    with pytest.raises(InputError, match="attention is 'flash'; expected 'fused', 'portable' or 'pointwise'"):
        Encoder(bundle, attention="flash")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_an_error(
    bundle: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """As of values that float16 does not hold; a clip beside it in a batch is none, nor one whose squares overflow."""
    encoder = Encoder(bundle, provider="cpu")
    states = encoder._network.embed

    def overflow(clips: Any, layers: Any) -> Any:
        found = states(clips, layers)
        for clip, hidden in zip(clips, found, strict=True):
            if clip.size > 5000:
                hidden[1, 3, 5] = value
            else:
                hidden[1, 3, 5] = 1e30
        return found

    monkeypatch.setattr(encoder._network, "embed", overflow)
    with pytest.raises(ProviderError, match=r"hidden state 2 came out infinite or not a number in fp32 on cpu"):
        encoder.embed_samples(sound(6000), layers=[0, 2])
    reads = [lambda: sound(6000), lambda: sound(4000)]
    bad, good = Scheduler(encoder, layers=[0, 2]).embed(reads)
    assert "hidden state 2 came out infinite" in bad.problem
    assert good.embeddings is not None


def test_an_encoder_is_gone_when_it_is_let_go(bundle: Path, sound: Sound) -> None:
    """With its sessions, without waiting for the garbage collector: on Windows, open files cannot be replaced."""
    gc.collect()
    gc.disable()
    try:
        encoder = Encoder(bundle, provider="cpu")
        encoder.embed_samples(sound())
        parts = [weakref.ref(part) for part in (encoder, encoder._network, encoder._network._transformer)]
        del encoder
        assert [part() for part in parts] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("seconds", [5.0, "x", None])
def test_lengths_to_warm_up_for_are_a_sequence(encoder: Encoder, seconds: Any) -> None:
    with pytest.raises(InputError, match=r"expected a sequence of lengths, such as \[5\.0\]"):
        encoder.warm_up(seconds)


@pytest.mark.parametrize("threads", [1.5, "2"])
def test_threads_are_a_whole_number(bundle: Path, threads: Any) -> None:
    assert Encoder(bundle, provider="cpu", threads=np.int64(1))._device.threads == 1  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"threads is {threads!r}; expected 1 to"):
        Encoder(bundle, threads=threads)


@pytest.mark.parametrize("kind", [bytes, io.BytesIO, bytearray])
def test_audio_that_is_not_decoded(encoder: Encoder, kind: Callable[[bytes], Any]) -> None:
    with pytest.raises(AudioError, match=rf"array is of type {kind.__name__}; expected a path or samples\. Decode it"):
        encoder.embed(kind(b"RIFF"), sample_rate=24000)


def test_an_encoder_stays_in_its_process(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match=r"not sent to another: call mertric\.load there"):
        pickle.dumps(encoder)


def test_windows_are_windows(encoder: Encoder, sound: Sound) -> None:
    with pytest.raises(InputError, match=r"windows is 5; expected mertric\.Windows\(seconds=\.\.\.\), or None"):
        encoder.embed(sound(), sample_rate=24000, windows=5)  # type: ignore[arg-type]


def test_a_file_is_no_batch(encoder: Encoder) -> None:
    with pytest.raises(InputError, match=r"audios is 'a\.wav'; expected a sequence of clips, such as \['a\.wav'\]"):
        encoder.embed_batch("a.wav")
