"""The model on our own kernels; without AMX or AVX-512 the same in plain loops."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric import choice
from mertric.bundle import read_bundle
from mertric.encoder import Encoder
from mertric.errors import BundleError, DependencyError, ProviderError
from mertric.initializers import Initializers
from mertric.kernels import lines, processor
from mertric.kernels.attention import SPAN
from mertric.kernels.sizes import BLOCK
from mertric.native import trial
from mertric.native.suited import unsuited
from mertric.native.team import Team
from mertric.native.transformer import Transformer
from mertric.providers import PROVIDERS
from mertric.scheduler import Scheduler
from mertric.windows import Windows
from mertric_export import export
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.synthetic import TINY, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]

SUITED = dataclasses.replace(TINY, num_attention_heads=2, num_conv_pos_embedding_groups=4)
KINDS: dict[str, dict[str, Any]] = {
    "95m": {},
    "330m": {"do_stable_layer_norm": True},
    "other": {
        "conv_bias": True,
        "feat_proj_layer_norm": False,
        "num_conv_pos_embeddings": 9,
        "conv_dim": (128, 32, 96),
        "conv_kernel": (20, 3, 2),
        "conv_stride": (80, 2, 2),
    },
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "compare_precisions", lambda *_, **__: [])
        for kind, changes in KINDS.items():
            home = tmp_path_factory.mktemp(kind)
            checkpoint = write_checkpoint(home / "checkpoint", dataclasses.replace(SUITED, **changes), seed=3)
            provenance = Provenance(model=kind, trained=False)
            precisions = ["bf16", "bf16x3", "int16"]
            export_checkpoint(checkpoint, home / "bundle", provenance=provenance, precisions=precisions)
            made[kind] = home / "bundle"
    return made


@pytest.fixture(params=list(KINDS))
def suited(request: pytest.FixtureRequest, bundles: dict[str, Path]) -> Path:
    """A bundle of each kind in turn."""
    return bundles[request.param]


@pytest.fixture(autouse=True)
def _works(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the providers be chosen on any processor; where there are tiles, they have to be asked for."""
    processor.request_tiles()
    real = choice.probe
    monkeypatch.setattr(choice, "probe", lambda one: None if one.native else real(one))
    yield


CLOSE = {
    "amx:bf16": (2e-4, 2e-2),
    "amx:bf16x3": (2e-6, 4e-5),
    "amx:fp32": (0, 4e-6),
    "avx512:int16": (2e-5, 1e-3),
    "avx512:fp32": (0, 4e-6),
}
"""Between what the relative error of hidden states lies; measured 0.014, 2.9e-5 and 2e-6 for one frame on tiles."""


def natively(bundle: Path, side: str = "amx:bf16", **options: Any) -> Encoder:
    provider, precision = side.split(":")
    return Encoder(bundle, provider=provider, precision=precision, **options)


def relative(got: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Norm of the error of each hidden state over that state's norm."""
    axes = (1, 2)
    return np.asarray(np.sqrt(np.square(got - expected).sum(axes) / np.square(expected).sum(axes)))


@pytest.mark.parametrize("side", CLOSE)
@pytest.mark.parametrize("samples", [400, 12000, 32 * 320 + 80, 33 * 320 + 80, 50001])
def test_hidden_states_are_close_to_fp32(suited: Path, sound: Sound, samples: int, side: str) -> None:
    clip = sound(samples)
    expected = Encoder(suited, provider="cpu").embed_samples(clip, layers="all").hidden
    got = natively(suited, side).embed_samples(clip, layers="all").hidden
    errors, (least, most) = relative(got, expected), CLOSE[side]
    assert (errors < most).all()
    assert (errors >= least).all(), "it is another precision"
    if side.endswith("fp32"):
        rms = np.sqrt(np.square(expected).mean(axis=(1, 2), keepdims=True))
        assert np.abs((got - expected) / rms).max() < 3e-5


@pytest.mark.parametrize("side", CLOSE)
def test_a_batch_of_unequal_clips_is_each_alone_to_the_bit(suited: Path, sound: Sound, side: str) -> None:
    encoder = natively(suited, side)
    clips = [sound(9000, 1), 5 * sound(400, 2), sound(50001, 3), sound(2000, 4), sound(9000, 5)]
    batch = encoder.embed_samples_batch(clips, layers="all")
    for clip, got in zip(clips, batch, strict=True):
        np.testing.assert_array_equal(got.hidden, encoder.embed_samples(clip, layers="all").hidden)


@pytest.mark.parametrize("side", CLOSE)
def test_one_place_for_keys_and_values_changes_no_bit(
    suited: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    encoder, clips = natively(suited, side), [sound(9000, 1), sound(400, 2), sound(90001, 3)]
    expected, memory = encoder.embed_samples_batch(clips, layers="all"), encoder.memory(3, 90001)
    monkeypatch.setattr("mertric.native.transformer._LONG", 0)
    for two, one in zip(expected, encoder.embed_samples_batch(clips, layers="all"), strict=True):
        np.testing.assert_array_equal(one.hidden, two.hidden)
    assert encoder.memory(3, 90001) < memory


@pytest.mark.parametrize("side", ["avx512:int16", "avx512:fp32"])
def test_threads_that_share_each_step_change_no_bit(
    suited: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    encoder, clips = natively(suited, side, threads=2), [sound(25000, 1), sound(400, 2), sound(9000, 3)]
    took = []
    real = Transformer._share
    monkeypatch.setattr(Transformer, "_share", lambda self, *given: took.append(True) or real(self, *given))
    expected = encoder.embed_samples_batch(clips, layers="all")
    assert took
    with monkeypatch.context() as patch:
        patch.setattr("mertric.native.transformer._LONG", 0)
        for two, one in zip(expected, encoder.embed_samples_batch(clips, layers="all"), strict=True):
            np.testing.assert_array_equal(one.hidden, two.hidden)
    monkeypatch.setattr("mertric.native.transformer._FEW", 0)
    took.clear()
    for shared, apart in zip(expected, encoder.embed_samples_batch(clips, layers="all"), strict=True):
        np.testing.assert_array_equal(apart.hidden, shared.hidden)
    assert not took


@pytest.mark.parametrize(
    ("threads", "blocks", "shared"),
    [
        (2, 3, True),
        (2, 7, True),
        (2, 6, False),
        (2, 9, False),
        (1, 3, False),
        (4, 5, True),
        (64, 5, True),
        (64, 94, False),
    ],
)
def test_when_threads_share_each_step(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, threads: int, blocks: int, shared: bool
) -> None:
    """Where rows would part less evenly than the two columns of blocks; never on tiles."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for side in ("avx512:fp32", "amx:fp32"):
        transformer = natively(bundles["95m"], side, threads=threads)._network._transformer
        transformer._bundle = dataclasses.replace(transformer._bundle, dim=768)
        assert transformer._shared(blocks) == (shared and side.startswith("avx512"))


@pytest.mark.parametrize("side", CLOSE)
def test_nothing_that_was_not_written_counts(
    suited: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """Neither the clip's nor another one's, whatever stands in memory."""
    clips = [sound(25000, 1), sound(400, 2), sound(60000, 3)]
    expected = natively(suited, side).embed_samples_batch(clips, layers="all")
    real = lines.empty

    def spoilt(*given: Any) -> Any:
        array = real(*given)
        array.view(np.uint8).fill(0xFF)  # no number, in any type
        return array

    monkeypatch.setattr("mertric.kernels.factors.empty", spoilt)
    for one, two in zip(natively(suited, side).embed_samples_batch(clips, layers="all"), expected, strict=True):
        np.testing.assert_array_equal(one.hidden, two.hidden)


@pytest.mark.parametrize("side", ["amx:bf16", "amx:fp32", "avx512:int16", "avx512:fp32"])
def test_clips_whose_keys_are_taken_in_spans(bundles: dict[str, Path], sound: Sound, side: str) -> None:
    encoder = natively(bundles["95m"], side)
    clips = [sound(SPAN * BLOCK * 320 + 20000, 1), sound(400, 2), 3 * sound(SPAN * BLOCK * 320 + 500, 3)]
    batch = encoder.embed_samples_batch(clips)
    for clip, got in zip(clips, batch, strict=True):
        np.testing.assert_array_equal(got.hidden, encoder.embed_samples(clip).hidden)
    expected = Encoder(bundles["95m"], provider="cpu").embed_samples(clips[0]).hidden
    assert relative(batch[0].hidden, expected)[0] < CLOSE[side][1]


@pytest.mark.parametrize("side", CLOSE)
@pytest.mark.parametrize("options", [{"threads": 1}, {"chunk": 1}, {"chunk": 7}, {"chunk": 1000}])
def test_neither_threads_nor_chunks_change_a_bit(
    suited: Path, sound: Sound, options: dict[str, Any], side: str
) -> None:
    clip = sound(30000)
    expected = natively(suited, side).embed_samples(clip, layers="all").hidden
    got = natively(suited, side, **options).embed_samples(clip, layers="all").hidden
    np.testing.assert_array_equal(got, expected)


def test_more_threads_than_processors(bundles: dict[str, Path], sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = sound(60000)
    expected = natively(bundles["95m"]).embed_samples(clip).hidden
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    np.testing.assert_array_equal(natively(bundles["95m"], threads=7).embed_samples(clip).hidden, expected)


def test_layers_in_any_order(suited: Path, sound: Sound) -> None:
    encoder, clip = natively(suited), sound(9000)
    every = encoder.embed_samples(clip, layers="all").hidden
    np.testing.assert_array_equal(encoder.embed_samples(clip, layers=[3, 0]).hidden, every[[3, 0]])
    np.testing.assert_array_equal(encoder.embed_samples(clip, layers=[0]).hidden, every[[0]])
    np.testing.assert_array_equal(encoder.embed_samples(clip).hidden, every[-1:])


def test_windows_streams_and_batches_of_a_scheduler(bundles: dict[str, Path], sound: Sound) -> None:
    encoder, clip = natively(bundles["95m"]), sound(40000)
    windows = Windows(seconds=0.5)
    near = encoder.embed_samples(clip, windows=windows).hidden
    assert near.shape == encoder.embed_samples(clip).hidden.shape
    stream = encoder.stream(sample_rate=24000, seconds=0.5)
    pushed = [stream.push(clip[:11111]), stream.push(clip[11111:]), stream.finish()]
    assert sum(part.hidden.shape[1] for part in pushed) == near.shape[1]
    clips = [sound(samples, seed) for seed, samples in enumerate((9000, 400, 20000, 3000))]
    scheduler = Scheduler(encoder, layers=[4], memory=1 << 30)
    for one, done in zip(clips, scheduler.embed([lambda one=one: one for one in clips]), strict=True):
        assert done.embeddings is not None
        np.testing.assert_array_equal(done.embeddings.hidden, encoder.embed_samples(one).hidden)


def test_clips_of_any_lengths_share_a_batch(bundles: dict[str, Path]) -> None:
    encoder = natively(bundles["95m"])
    assert encoder.batch == 8
    assert encoder.alike([400, 24000, 1000000])
    assert encoder.memory(1, 24000) < encoder.memory(2, 24000) < encoder.memory(2, 48000)


def test_threads_at_once_get_what_each_gets_alone(bundles: dict[str, Path], sound: Sound) -> None:
    encoder = natively(bundles["95m"])
    encoder.warm_up([0.5])
    clips = [sound(6000 + 1000 * seed, seed) for seed in range(6)]
    expected = [encoder.embed_samples(clip).hidden for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        for got, one in zip(pool.map(encoder.embed_samples, clips * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(got.hidden, one)


def test_silence(suited: Path) -> None:
    hidden = natively(suited).embed_samples(np.zeros(9000, np.float32), layers="all").hidden
    assert np.isfinite(hidden).all()


def test_no_encoder_graphs_to_choose(bundles: dict[str, Path]) -> None:
    with pytest.raises(ProviderError, match=r"amx and avx512 run no encoder graphs, so attention cannot be 'fused'\."):
        natively(bundles["95m"], attention="fused")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"heads": 4}, "16 channels of a head, and amx and avx512 compute multiples of 32"),
        ({"dim": 80}, "80 dimensions, and amx and avx512 compute multiples of 32"),
        (
            {"inner_dim": 37},
            "37 inner dimensions of the feed-forward, and amx and avx512 compute multiples of 32",
        ),
        ({"channels": (32, 40)}, "40 channels of a convolution, and amx and avx512 compute multiples of 32"),
        ({"channels": (32,)}, "a single convolution, and amx and avx512 compute two and more"),
        (
            {"position_groups": 16},
            "4 channels of a group of the positional convolution, and amx and avx512 compute multiples of 16",
        ),
        (
            {"convolution_norms": True},
            "a LayerNorm after each convolution, which amx and avx512 do not compute",
        ),
    ],
)
def test_models_that_are_not_for_our_kernels(bundles: dict[str, Path], changes: dict[str, Any], problem: str) -> None:
    bundle = dataclasses.replace(read_bundle(bundles["95m"]), model="small")
    assert unsuited(bundle) is None
    assert unsuited(dataclasses.replace(bundle, **changes)) == f"small has {problem}"


def test_auto_passes_over_tiles_for_such_a_model(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, sound: Sound
) -> None:
    monkeypatch.setattr(choice, "probe", lambda one: None if one.name in ("amx", "cpu") else "it is not here")
    rounding = dataclasses.replace(PROVIDERS["cpu"], precisions={"fp32": "fp32", "bf16": "fp32"})
    monkeypatch.setitem(PROVIDERS, "cpu", rounding)
    assert Encoder(bundles["95m"], precision="bf16").provider == "amx"
    monkeypatch.setattr("mertric.encoder.unsuited", lambda _: "it is too small")
    assert Encoder(bundles["95m"], precision="bf16").provider == "cpu"
    with pytest.raises(ProviderError, match=r"it is too small\. Choose another provider\."):
        natively(bundles["95m"])


def test_auto_passes_over_tiles_where_graphs_are_asked_for(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "probe", lambda one: None if one.name in ("amx", "cpu") else "it is not here")
    assert Encoder(bundles["95m"]).provider == "amx"
    assert Encoder(bundles["95m"], attention="fused").provider == "cpu"


def test_each_precision_is_in_its_own_pieces(bundles: dict[str, Path]) -> None:
    assert Encoder(bundles["95m"], provider="amx").precision == "fp32"
    assert Encoder(bundles["95m"], precision="bf16x3").provider == "amx"
    memory = [natively(bundles["95m"], side).memory(1, 100000) for side in ("amx:bf16", "amx:bf16x3", "amx:fp32")]
    assert memory == sorted(set(memory))
    with pytest.raises(ProviderError, match="'int8' was asked for on amx, which computes in bf16, bf16x3, fp32"):
        natively(bundles["95m"], "amx:int8")


@pytest.mark.parametrize("damaged", ["encoder.portable.onnx", "weights.bin"])
def test_a_damaged_bundle(bundles: dict[str, Path], tmp_path: Path, damaged: str) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundles["95m"], copy)
    with (copy / "fp32" / damaged).open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\xff\xff\xff")
    with pytest.raises(BundleError, match=rf"{damaged} is damaged"):
        natively(copy)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_too(bundles: dict[str, Path], sound: Sound) -> None:
    encoder, clip = natively(bundles["95m"]), sound(30000)
    expected = encoder.embed_samples(clip).hidden
    child = os.fork()
    if not child:
        same = False
        try:
            same = np.array_equal(encoder.embed_samples(clip).hidden, expected)
        finally:
            os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_bundle_without_a_weight(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = Initializers.__getitem__

    def missing(self: Initializers, name: str) -> Any:
        return real(self, name.replace("q_proj", "other"))

    monkeypatch.setattr(Initializers, "__getitem__", missing)
    with pytest.raises(BundleError, match=r"has no weight '.*other\.weight' in fp32\. Export the bundle again"):
        natively(bundles["95m"])


def test_auto_needs_no_onnx_runtime_where_our_kernels_work(
    bundles: dict[str, Path], sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for precision, provider in {"bf16": "amx", "bf16x3": "amx", "fp32": "amx", "int16": "avx512"}.items():
        encoder = Encoder(bundles["95m"], precision=precision)
        assert encoder.provider == provider
        assert encoder.embed_samples(sound()).hidden.size
    with pytest.raises(DependencyError, match="ONNX Runtime is not installed"):
        Encoder(bundles["95m"], provider="cpu")


def test_a_team_waits_for_all_its_threads() -> None:
    team, begun, finished, caller = Team(2), threading.Event(), [], threading.current_thread()

    def work(part: int) -> None:
        if threading.current_thread() is caller:
            assert begun.wait(10)
            raise ValueError("the caller's")
        begun.set()
        time.sleep(0.3)
        finished.append(part)

    with pytest.raises(ValueError, match="the caller's"):
        team.each(work, range(2))
    assert len(finished) == 1


def test_a_team_does_every_part_once_and_stops_at_an_error() -> None:
    team, done, lock = Team(3), [], threading.Lock()

    def work(part: int) -> None:
        with lock:
            done.append(part)
        if part == 5:
            raise ValueError(part)

    team.each(work, range(5))
    assert sorted(done) == list(range(5))
    with pytest.raises(ValueError, match="5"):
        team.each(work, [5] * 1000)
    assert len(done) < 100
    team.each(work, [])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sys.platform": "darwin"}, "tiles are for Linux on x86_64, and this is"),
        ({"platform.machine": lambda: "aarch64"}, "tiles are for Linux on x86_64, and this is .* on aarch64"),
        ({"features": {}}, "this processor has no amx-tile, amx-bf16, avx512f, avx512bw"),
        ({"CPU_NAME": "generic"}, "NUMBA_CPU_NAME, NUMBA_CPU_FEATURES or NUMBA_ENABLE_AVX is set"),
        ({"ENABLE_AVX": 0}, "NUMBA_CPU_NAME, NUMBA_CPU_FEATURES or NUMBA_ENABLE_AVX is set"),
    ],
)
def test_why_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], problem: str) -> None:
    settings = {"sys.platform": "linux", "platform.machine": lambda: "x86_64", **changes}
    features = settings.pop("features", dict.fromkeys(processor._TILES, True))
    numba = {"CPU_NAME": None, "CPU_FEATURES": None, "ENABLE_AVX": 1}
    numba |= {name: settings.pop(name) for name in numba.keys() & settings.keys()}
    for what, value in settings.items():
        monkeypatch.setattr(what, value)
    monkeypatch.setattr(processor, "get_host_cpu_features", lambda: features)
    for name, value in numba.items():
        monkeypatch.setattr(processor.config, name, value)
    assert re.match(problem, processor.why_no_tiles.__wrapped__() or "nothing")


def test_without_tiles_the_provider_says_what_it_needs(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(trial.PROBLEMS, "amx", lambda: "this processor has no amx-tile")
    message = r"amx does not work here: this processor has no amx-tile\. It needs Linux and an x86-64 processor"
    with pytest.raises(ProviderError, match=message):
        natively(bundles["95m"])


def test_why_there_are_no_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "get_host_cpu_features", lambda: {"avx512f": True})
    assert processor.why_no_vectors.__wrapped__() == "this processor has no avx512bw, avx512dq, avx512vl"
    monkeypatch.setattr(processor, "get_host_cpu_features", lambda: dict.fromkeys(processor._VECTORS, True))
    monkeypatch.setattr(processor.config, "CPU_NAME", None)
    assert processor.why_no_vectors.__wrapped__() is None
    monkeypatch.setattr(processor.config, "CPU_NAME", "generic")
    assert "NUMBA_CPU_NAME" in processor.why_no_vectors.__wrapped__()


def test_positions_of_a_single_group(tmp_path: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    """All columns are the group's, and more blocks than are computed at once add to what the next ones read."""
    monkeypatch.setattr(export, "compare_precisions", lambda *_, **__: [])
    config = dataclasses.replace(SUITED, num_conv_pos_embedding_groups=1, num_conv_pos_embeddings=16)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", config, seed=3)
    export_checkpoint(checkpoint, tmp_path / "bundle", provenance=Provenance(model="one", trained=False), precisions=[])
    clip = sound(1200 * 320)
    expected = Encoder(tmp_path / "bundle", provider="cpu").embed_samples(clip, layers=[0]).hidden
    got = natively(tmp_path / "bundle", "avx512:fp32").embed_samples(clip, layers=[0]).hidden
    assert relative(got, expected).max() < 4e-6
