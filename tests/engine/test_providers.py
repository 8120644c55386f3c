from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from mertric import choice, diagnosis, session
from mertric.choice import choose_device, probe
from mertric.cli import cli
from mertric.device import Device
from mertric.errors import DependencyError, ProviderError
from mertric.providers import PROVIDERS, Provider, get_provider, provider_options
from mertric.transformer import Transformer

SHAPES = ((1, 1, 8), (1, 374, 8), (4, 2249, 8))


def options(name: str, precision: str = "fp32", threads: int | None = None) -> dict[str, str]:
    return provider_options(
        PROVIDERS[name],
        precision=precision,
        threads=threads,
        profiles={"x": SHAPES, "n": ((1,), (1,), (4,))},
        engines=lambda: Path("c"),
    )


def test_the_fastest_come_first() -> None:
    assert list(PROVIDERS) == ["cuda", "tensorrt", "amx", "avx512", "openvino", "cpu"]


def test_openvino_is_always_told_its_precision() -> None:
    assert json.loads(options("openvino")["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}
    told = json.loads(options("openvino", "bf16", 3)["load_config"])
    assert told == {"CPU": {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 3}}


def test_cuda_keeps_float32_exact_and_does_not_search() -> None:
    assert options("cuda")["use_tf32"] == "0"
    assert options("cuda")["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options("cuda")["enable_cuda_graph"] == "0"
    captured = provider_options(
        PROVIDERS["cuda"], precision="fp32", threads=None, profiles={}, engines=lambda: Path("c"), captured=True
    )
    assert captured == options("cuda") | {"enable_cuda_graph": "1", "sdpa_kernel": "27"}


def test_cuda_lets_16_bits_use_tensor_cores_where_nothing_is_in_float32() -> None:
    told = provider_options(
        PROVIDERS["cuda"], precision="fp16", threads=None, profiles={}, engines=lambda: Path("c"), tensor_cores=True
    )
    assert told == options("cuda") | {"use_tf32": "1", "prefer_nhwc": "1"}


def test_attention_on_cuda_takes_no_kernels_of_tensorrt_and_is_ready_at_once() -> None:
    """Flash, memory-efficient and unfused attention; neither TensorRT's kernels nor cuDNN's."""
    assert options("cuda")["sdpa_kernel"] == str(1 | 2 | 16)


def test_tensorrt_has_a_profile_for_every_input_and_no_flag_for_fp16() -> None:
    told = options("tensorrt")
    assert told["trt_fp16_enable"] == "0"
    assert told["trt_profile_min_shapes"] == "x:1x1x8,n:1"
    assert told["trt_profile_opt_shapes"] == "x:1x374x8,n:1"
    assert told["trt_profile_max_shapes"] == "x:4x2249x8,n:4"
    assert told["trt_engine_cache_path"] == told["trt_timing_cache_path"] == "c"


def test_profiles_name_every_input_of_every_portable_graph(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    real = session.Session.__init__

    def spy(self: Any, graph: Path, outputs: Any, **rest: Any) -> None:
        asked[graph.name] = rest["profiles"]
        real(self, graph, outputs, **rest)

    monkeypatch.setattr(session.Session, "__init__", spy)
    from mertric.encoder import Encoder

    Encoder(bundle, attention="portable").warm_up()
    assert set(asked) == {"frontend.portable.onnx", "positions.onnx", "encoder.portable.onnx"}
    for name, profiles in asked.items():
        inputs = onnx.load(bundle / "fp32" / name, load_external_data=False).graph.input
        assert set(profiles) == {value.name for value in inputs}
        for value in inputs:
            dims = value.type.tensor_type.shape.dim
            for shape in profiles[value.name]:
                assert len(shape) == len(dims)
                assert all(dim.dim_value in (0, size) for dim, size in zip(dims, shape, strict=True))


@pytest.mark.parametrize(("chunk", "best"), [(1024, 374), (100, 100)])
def test_profiles_of_the_front_end_end_with_its_chunk(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, best: int
) -> None:
    from mertric import frontend
    from mertric.bundle import read_bundle

    asked: dict[str, Any] = {}
    monkeypatch.setattr(frontend, "Session", lambda graph, *_, profiles, **__: asked.update(profiles))
    device = Device(provider=PROVIDERS["tensorrt"], precision="fp32", threads=None)
    frontend.FrontEnd(read_bundle(bundle), device=device, chunk=chunk, attention="portable")
    assert asked["windows"] == tuple((1, 64 * (frames + 1), 11) for frames in (1, best, chunk))
    taps = asked["features"][0][1]
    assert asked["features"] == tuple((1, frames - 1 + taps, 64) for frames in (1, best, chunk))


def test_cuda_takes_what_tensorrt_has_no_engines_for(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the CPU stands in for CUDA. Hidden states are those of an encoder that runs on it alone."""
    from mertric.bundle import read_bundle

    monkeypatch.setitem(PROVIDERS, "cuda", PROVIDERS["cpu"])
    opened = []
    real = session.Session.__init__

    def spy(self: Any, graph: Path, outputs: Any, **rest: Any) -> None:
        opened.append(graph.name)
        real(self, graph, outputs, **rest)

    monkeypatch.setattr(session.Session, "__init__", spy)
    device = Device(provider=PROVIDERS["tensorrt"], precision="fp32", threads=None)
    transformer = Transformer(read_bundle(bundle), device=device, attention="portable")
    plain = Transformer(read_bundle(bundle), device=choose_device("cpu", "fp32"), attention="fused")
    rng = np.random.default_rng(0)
    for clips, frames in ((1, 2250), (9, 3)):
        entries = list(rng.standard_normal((clips, frames, 64)).astype(np.float32))
        for got, expected in zip(transformer.states(entries, (0, 1)), plain.states(entries, (0, 1)), strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)
    unequal = [rng.standard_normal((frames, 64)).astype(np.float32) for frames in (2250, 7)]
    for got, alone in zip(transformer.states(unequal, (1,)), unequal, strict=True):
        np.testing.assert_allclose(got, plain.states([alone], (1,))[0], atol=1e-5)
    assert set(opened) == {"encoder.fused.onnx"}, "no matrix of so many frames"
    with pytest.raises(ProviderError, match="TensorrtExecutionProvider"):
        transformer.states([rng.standard_normal((9, 64)).astype(np.float32)], (1,))


@pytest.mark.parametrize(
    ("provider", "precision", "message"),
    [
        ("gpu", "fp32", r"provider 'gpu' is not known; expected auto, cuda, tensorrt, amx, avx512, openvino, cpu"),
        ("cpu", "bf16", r"'bf16' was asked for on cpu, which computes in fp32, int8; bf16 is for cuda, amx, openvino"),
        ("cpu", "fp16", r"'fp16' was asked for on cpu, which computes in fp32, int8; fp16 is for cuda, tensorrt"),
        ("tensorrt", "bf16", r"'bf16' was asked for on tensorrt, which computes in fp32, fp16; bf16 is for cuda"),
        ("auto", "int4", r"no provider computes in 'int4'"),
    ],
)
def test_names_that_are_not_known(provider: str, precision: str, message: str) -> None:
    with pytest.raises(ProviderError, match=message):
        choose_device(provider, precision)


def test_a_provider_that_onnxruntime_lacks() -> None:
    if "CUDAExecutionProvider" in session._onnxruntime().get_available_providers():
        pytest.skip("CUDA is here")
    with pytest.raises(ProviderError, match=r"cuda does not work here: .*no CUDAExecutionProvider.*mertric\[gpu\]"):
        choose_device("cuda", "fp32")


@pytest.mark.parametrize(
    ("features", "able"),
    [({"avx512f": True}, False), ({"avx512bf16": True}, True), ({"amx-bf16": True, "avx512bf16": False}, True)],
)
def test_openvino_is_for_bfloat16_where_the_processor_is(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], able: bool
) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    monkeypatch.setattr(choice, "probe", lambda one: None if one.name == "openvino" else "it is not here")
    assert choose_device("openvino", "int8").precision == "int8"
    if able:
        assert choose_device("openvino", "bf16").precision == choose_device("auto", "bf16").precision == "bf16"
        return
    why = "this processor does not compute in bf16, and emulating it takes many times as long as fp32"
    with pytest.raises(ProviderError, match=f"provider openvino is not for bf16 here: {why}. Choose another"):
        choose_device("openvino", "bf16")
    with pytest.raises(ProviderError, match=f"openvino: {why}. See"):
        choose_device("auto", "bf16")
    monkeypatch.setattr(diagnosis, "probe", lambda _: None)
    details = {row["name"]: row["detail"] for row in diagnosis._providers()}
    assert details["openvino"] == "fp32 by name only, bf16 (not on this processor), int8"
    assert details["amx"] == "bf16, bf16x3, fp32"


def test_auto_takes_the_first_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    works = {"cuda", "openvino", "cpu"}
    monkeypatch.setattr(choice, "probe", lambda provider: None if provider.name in works else "broken")
    assert choose_device("auto", "fp32", threads=2).provider.name == "cuda"
    works.remove("cuda")
    assert choose_device("auto", "int8").provider.name == "openvino"
    assert choose_device("auto", "int8", refused={"openvino": "no good"}).provider.name == "cpu"
    with pytest.raises(ProviderError, match=r"openvino: no good; cpu: nor this\. See"):
        choose_device("auto", "int8", refused={"openvino": "no good", "cpu": "nor this"})
    works.remove("openvino")
    assert choose_device("auto", "int8").provider.name == "cpu"
    monkeypatch.setattr(choice, "probe", lambda provider: f"{provider.name} is broken")
    with pytest.raises(
        ProviderError,
        match="tensorrt is broken; amx: amx is broken; avx512: avx512 is broken; cpu: cpu is broken",
    ):
        choose_device("auto", "fp32")


def test_a_missing_runtime_is_said_where_nothing_works_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Provider) -> None:
        raise DependencyError("ONNX Runtime is not installed")

    monkeypatch.setattr(choice, "unable", lambda *_: None)
    monkeypatch.setattr(choice, "square_unit_matrix", missing)
    monkeypatch.setattr(choice, "_square_natively", lambda _: np.zeros((2, 2)))
    with pytest.raises(DependencyError, match="ONNX Runtime is not installed"):
        choose_device("auto", "fp32")
    monkeypatch.setattr(choice, "_square_natively", lambda _: np.eye(2))
    assert choose_device("auto", "fp32").provider.native


def test_auto_passes_over_what_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32 the CPU provider is as fast as OpenVINO, in less memory."""
    monkeypatch.setattr(choice, "probe", lambda provider: None if provider.name in ("openvino", "cpu") else "broken")
    assert choose_device("auto", "fp32").provider.name == "cpu"
    assert choose_device("openvino", "fp32").provider.name == "openvino"
    monkeypatch.setattr(choice, "probe", lambda _: None)
    assert choose_device("auto", "fp32", refused={"cuda": "no", "tensorrt": "no"}).provider.name == "amx"


def test_the_probe_is_a_model_and_the_cpu_runs_it() -> None:
    model = onnx.load_from_string(session._PROBE)
    onnx.checker.check_model(model, full_check=True)
    assert probe(PROVIDERS["cpu"]) is None


class FakeRuntime(SimpleNamespace):
    """As much of ONNX Runtime as opening a session takes."""

    def __init__(self, *, providers: list[str], result: Any = None, devices: Any = ()) -> None:
        self.opened: list[dict[str, Any]] = []
        self.registered: list[str] = []
        self.preloaded = 0
        self.OrtHardwareDeviceType = SimpleNamespace(CPU="cpu", GPU="gpu")
        super().__init__(__version__="0")
        self._providers, self._result, self._devices = providers, result, list(devices)

    def get_available_providers(self) -> list[str]:
        return self._providers

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def get_ep_devices(self) -> list[Any]:
        return self._devices if self.registered else []

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append(path)

    def SessionOptions(self) -> Any:  # noqa: N802
        entries: dict[str, str] = {}
        return SimpleNamespace(
            entries=entries,
            devices=[],
            add_session_config_entry=entries.__setitem__,
            add_provider_for_devices=lambda devices, options: self.opened.append(
                {"devices": devices, "options": options}
            ),
        )

    def InferenceSession(self, model: bytes, settings: Any, **rest: Any) -> Any:  # noqa: N802
        self.opened.append(rest)
        result = np.eye(2) if self._result is None else self._result
        return SimpleNamespace(run=lambda outputs, inputs: [result])


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("onnxruntime_ep_openvino")
    module.get_library_path = lambda: "plugin.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", module)


def device(ep: str, kind: str) -> Any:
    return SimpleNamespace(ep_name=ep, device=SimpleNamespace(type=kind))


@pytest.mark.usefixtures("plugin")
def test_openvino_runs_on_the_processor_and_by_its_exact_name(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = device("OpenVINOExecutionProvider", "cpu")
    devices = [device("OpenVINOExecutionProvider.AUTO", "cpu"), device("OpenVINOExecutionProvider", "gpu"), wanted]
    runtime = FakeRuntime(providers=[], devices=devices)
    monkeypatch.setattr(session, "_onnxruntime", lambda: runtime)
    assert probe(PROVIDERS["openvino"]) is None
    assert runtime.registered == ["plugin.so"]
    assert runtime.opened[0]["devices"] == [wanted]
    assert probe(PROVIDERS["openvino"]) is None
    assert runtime.registered == ["plugin.so"], "a plugin is registered once"


@pytest.mark.usefixtures("plugin")
def test_openvino_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_onnxruntime", lambda: FakeRuntime(providers=[]))
    assert probe(PROVIDERS["openvino"]) == "OpenVINO's plugin finds no processor that it supports"


def test_openvino_without_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    monkeypatch.setattr(session, "_onnxruntime", lambda: FakeRuntime(providers=[]))
    assert probe(PROVIDERS["openvino"]) == "onnxruntime-ep-openvino is not installed"


def test_engines_are_of_one_bundle_and_its_place_and_the_runtimes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for place in ("one", "two"):
        graphs = tmp_path / place / "fp32"
        graphs.mkdir(parents=True)
        for content in ("first", "second"):
            (graphs.parent / "bundle.json").write_text(content)
            found.add(session._engines(graphs))
    assert session._engines(graphs) in found
    monkeypatch.setattr(session, "installed_runtimes", lambda: {"onnxruntime": "another"})
    found.add(session._engines(graphs))
    assert len(found) == 5


def test_cuda_finds_its_libraries_and_falls_back_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime(providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(session, "_onnxruntime", lambda: runtime)
    assert probe(PROVIDERS["cuda"]) is None
    assert runtime.preloaded == 1
    assert runtime.opened[0]["enable_fallback"] == 0
    assert [name for name, _ in runtime.opened[0]["providers"]] == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_tensorrt_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_libs", None)
    runtime = FakeRuntime(providers=["TensorrtExecutionProvider"])
    monkeypatch.setattr(session, "_onnxruntime", lambda: runtime)
    assert probe(PROVIDERS["tensorrt"]) == "TensorRT's libraries are not installed"


def test_a_provider_that_computes_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime(providers=["CPUExecutionProvider"], result=np.zeros((2, 2)))
    monkeypatch.setattr(session, "_onnxruntime", lambda: runtime)
    assert "for the unit matrix's square" in str(probe(PROVIDERS["cpu"]))


def test_a_failure_while_running_is_ours(bundle: Path) -> None:
    opened = session.Session(bundle / "fp32" / "frontend.onnx", ["features"], device=choose_device("cpu", "fp32"))
    with pytest.raises(ProviderError, match=r"failed on windows \[1, 3, 2\].*If memory ran out"):
        opened.run({"windows": np.zeros((1, 3, 2), np.float32), "weights": np.zeros((1, 2, 2), np.float32)})


def test_every_provider_has_its_precisions() -> None:
    for provider in PROVIDERS.values():
        assert provider.native or "fp32" in provider.precisions
        assert all(get_provider(provider.name, precision) is provider for precision in provider.precisions)
        assert provider.attention in ("fused", "portable")


def test_doctor_tells_what_works_and_why_the_rest_does_not(tmp_path: Path) -> None:
    target = tmp_path / "doctor.json"
    result = CliRunner().invoke(cli, ["doctor", "--json", str(target)])
    rows = {(row["kind"], row["name"]): row for row in json.loads(target.read_text())}
    assert rows["provider", "cpu"]["state"] == "ok"
    assert {row["state"] for row in rows.values()} <= {"ok", "missing", "problem"}
    for provider in PROVIDERS.values():
        row = rows["provider", provider.name]
        assert row["state"] == "ok" or provider.needs in row["detail"]
    assert rows["package", "mertric"]["detail"] in result.output
    assert "first calls took" in rows["kernels", "numba"]["detail"]


def test_doctor_sees_runtimes_that_overwrite_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mertric.diagnosis.installed_runtimes", lambda: {"onnxruntime": "1", "onnxruntime-gpu": "2"})
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "these overwrite one another: pip uninstall onnxruntime onnxruntime-gpu" in " ".join(result.output.split())


def test_doctor_sees_a_damaged_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundles" / "someone--model").mkdir(parents=True)
    (tmp_path / "bundles" / "someone--model" / "bundle.json").write_text("{}")
    monkeypatch.setenv("MERTRIC_CACHE", str(tmp_path))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "not the manifest of a bundle" in " ".join(result.output.split())


def test_bench_measures_each_length(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    arguments = ["bench", "--model", str(bundle), "--seconds", "0.1", "--seconds", "0.5", "--runs", "3", "--batch", "2"]
    arguments += ["--provider", "cpu"]
    result = CliRunner().invoke(cli, [*arguments, "--json", str(target)])
    assert result.exit_code == 0, result.output
    rows = json.loads(target.read_text())
    assert [(row["seconds"], row["batch"], row["runs"], row["provider"]) for row in rows] == [
        (0.1, 2, 3, "cpu"),
        (0.5, 2, 3, "cpu"),
    ]
    for row in rows:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p99_ms"]
        assert row["real_time_factor"] == pytest.approx(row["median_ms"] / 1000 / (row["seconds"] * 2))


def test_doctor_says_how_many_kernels_were_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    report = SimpleNamespace(cache_directory="place", seconds=1.5, compiled=2, kernels=["one", "two", "three"])
    monkeypatch.setattr(diagnosis, "compile_report", lambda: report)
    (row,) = diagnosis._kernels()
    assert row["detail"] == "first calls took 1.50 s, 2 of 3 compiled; place"
    report.cache_directory = ""
    assert diagnosis._kernels()[0]["detail"].endswith("; memory only, no cache directory is writable")


def test_threads_are_those_asked_for_whichever_provider_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "probe", lambda _: None)
    for name in ("auto", "cpu"):
        assert [choose_device(name, "fp32", threads=threads).threads for threads in (2, None)] == [2, None]


def test_the_cpu_does_without_optimisations_that_make_it_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime(providers=["CPUExecutionProvider"])
    monkeypatch.setattr(session, "_onnxruntime", lambda: runtime)
    assert probe(PROVIDERS["cpu"]) is None
    assert runtime.opened[0]["disabled_optimizers"] == ["SkipLayerNormFusion", "MatmulTransposeFusion"]


def test_a_failure_says_what_onnx_runtime_says(bundle: Path) -> None:
    opened = session.Session(bundle / "fp32" / "frontend.onnx", ["features"], device=choose_device("cpu", "fp32"))
    wrong = {"windows": np.zeros((1, 3, 2), np.float32), "weights": np.zeros((1, 2, 2), np.float32)}
    with pytest.raises(ProviderError) as raised:
        opened.run(wrong)
    assert session.first_line(raised.value.__cause__) in str(raised.value)  # type: ignore[arg-type]
