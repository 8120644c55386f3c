from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.bound import BoundSession
from mertric.bundle import FRONTEND, encoder_graph
from mertric.choice import choose_device
from mertric.device import Device
from mertric.encoder import Encoder
from mertric.errors import DependencyError, ProviderError
from mertric.providers import PROVIDERS, FixedShapes
from mertric.session import Session

if TYPE_CHECKING:
    from pathlib import Path


def session(graph: Path, outputs: list[str], threads: int | None = 1) -> Session:
    return Session(graph, outputs, device=choose_device("cpu", "fp32", threads=threads))


def features(frames: int = 9, batch: int = 1) -> dict[str, Any]:
    return {"state_0": np.random.default_rng(1).standard_normal((batch, frames, 64)).astype(np.float32)}


def test_outputs_come_in_the_order_asked_for(bundle: Path) -> None:
    graph = bundle / "fp32" / encoder_graph("fused")
    names = ["state_3", "state_1", "state_4"]
    together = session(graph, names).run(features())
    for name, output in zip(names, together, strict=True):
        alone = session(graph, [name]).run(features())
        np.testing.assert_array_equal(output, alone[0])


def test_batch_and_time_are_free(bundle: Path) -> None:
    fused = session(bundle / "fp32" / encoder_graph("fused"), ["state_4"], None)
    for batch, frames in ((1, 1), (3, 2), (2, 150)):
        inputs = features(frames, batch)
        (together,) = fused.run(inputs)
        assert together.shape == (batch, frames, 64)
        for index in range(batch):
            (alone,) = fused.run({"state_0": inputs["state_0"][index : index + 1]})
            np.testing.assert_allclose(together[index], alone[0], atol=2e-6)


def test_threads_at_once(bundle: Path) -> None:
    frontend = session(bundle / "fp32" / FRONTEND, ["features"])
    rng = np.random.default_rng(2)
    inputs = [
        {
            "windows": rng.standard_normal((1, 64 * 5, 11)).astype(np.float32),
            "weights": rng.standard_normal((1, 11, 32)).astype(np.float32),
        }
        for _ in range(8)
    ]
    expected = [frontend.run(one)[0] for one in inputs]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(frontend.run, inputs), expected, strict=True):
            np.testing.assert_array_equal(got[0], want)


def test_a_graph_that_cannot_be_loaded(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / FRONTEND).write_bytes((bundle / "fp32" / FRONTEND).read_bytes())
    with pytest.raises(ProviderError, match=r"ONNX Runtime .* cannot load .*frontend\.onnx on cpu"):
        session(tmp_path / FRONTEND, ["features"])


def test_a_provider_by_name() -> None:
    device = choose_device("cpu", "fp32", threads=3)
    assert (device.provider.name, device.precision, device.threads) == ("cpu", "fp32", 3)
    with pytest.raises(ProviderError, match="provider 'abacus' is not known; expected auto, "):
        choose_device("abacus", "fp32")
    with pytest.raises(ProviderError, match="precision 'int4' was asked for on cpu, which computes in fp32"):
        choose_device("cpu", "int4")
    with pytest.raises(ProviderError, match="no provider computes in 'int4'"):
        choose_device("auto", "int4")


def test_onnx_runtime_is_missing(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match=r'ONNX Runtime is not installed: pip install "mertric\[cpu\]"'):
        Encoder(bundle)


def test_a_bound_session_gives_what_an_unbound_one_gives(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With places in memory that stay, several threads taking turns, and results that a later run leaves alone."""
    fixed = FixedShapes(attention={"fp32": "portable"}, captured=True)
    device = Device(provider=replace(PROVIDERS["cpu"], fixed=fixed), precision="fp32", threads=1)
    graph, names = bundle / "fp32" / encoder_graph("portable"), ["state_4", "state_2"]
    bound = Session(graph, names, device=device, sizes={"batch": 2, "frames": 9})
    inputs = [features(9, 2) | {"lengths": np.array(lengths, np.int32)} for lengths in ([9, 9], [5, 9], [9, 1])]
    inputs[1]["state_0"] = inputs[1]["state_0"][:, ::-1]
    expected = [session(graph, names).run(one) for one in inputs]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(bound.run, inputs * 4))
    for got, wanted in zip(results, expected * 4, strict=True):
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6)
    with pytest.raises(ProviderError, match=r"failed on state_0 \[2, 8, 64\]"):
        bound.run(features(8, 2) | {"lengths": inputs[0]["lengths"]})


def test_a_bound_session_runs_in_one_thread_whoever_asks(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first run, that records, is on zeros. A CUDA graph would be recorded for every other thread too."""
    fixed = FixedShapes(attention={"fp32": "fused"}, captured=True)
    device = Device(provider=replace(PROVIDERS["cpu"], fixed=fixed), precision="fp32", threads=1)
    threads, seen = [], []
    run = BoundSession._run

    def spy(self: BoundSession) -> None:
        threads.append(threading.get_ident())
        seen.append(bool(self._inputs["state_0"].numpy().any()))
        run(self)

    monkeypatch.setattr(BoundSession, "_run", spy)
    bound = Session(
        bundle / "fp32" / encoder_graph("fused"), ["state_1"], device=device, sizes={"batch": 1, "frames": 9}
    )
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(bound.run, [features(9, 1)] * 6))
    bound.run(features(9, 1))
    assert seen == [False] + [True] * 7
    assert len(set(threads)) == 1
    (thread,) = (one for one in threading.enumerate() if one.ident == threads[0])
    del bound
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_graph_that_a_precision_lacks(bundle: Path) -> None:
    with pytest.raises(ProviderError, match=r"no encoder.flash.onnx in fp32, which cpu was to run; there are clips"):
        session(bundle / "fp32" / "encoder.flash.onnx", ["state_1"])


def test_sizes_that_a_session_still_knows_by_name_are_those_given() -> None:
    """As of an output whose shape ONNX Runtime does not infer."""
    places: dict[str, list[int]] = {}

    class Value:
        def __init__(self, name: str, shape: list[Any]) -> None:
            self.name, self.shape, self.type = name, shape, "tensor(float)"

    class Opened:
        def get_inputs(self) -> list[Value]:
            return [Value("x", [2, "frames"])]

        def get_outputs(self) -> list[Value]:
            return [Value("y", ["batch", "frames", 64]), Value("unwanted", ["other"])]

        def io_binding(self) -> Any:
            def bind(name: str, value: list[int]) -> None:
                places[name] = value

            return SimpleNamespace(bind_ortvalue_input=bind, bind_ortvalue_output=bind)

    allocate = SimpleNamespace(ortvalue_from_shape_and_type=lambda shape, *_: shape)
    runtime = SimpleNamespace(OrtValue=allocate)
    BoundSession(runtime, Opened(), ["y"], device="cpu", sizes={"batch": 2, "frames": 9})
    assert places == {"x": [2, 9], "y": [2, 9, 64]}


@pytest.mark.parametrize("threads", [1, 3, None])
def test_a_session_has_the_threads_asked_for(bundle: Path, threads: int | None) -> None:
    """They rest after a run, and the memory of shapes that differ is not planned ahead."""
    options = session(bundle / "fp32" / FRONTEND, ["features"], threads)._session.get_session_options()
    assert options.intra_op_num_threads == (threads or 0)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert not options.enable_mem_pattern
