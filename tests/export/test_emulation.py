"""Graphs in 16-bit types on the CPU, against NumPy that rounds where they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from checkpoints import SMALL
from mertric.bundle import read_bundle
from mertric.encoder import Encoder
from mertric_export import export
from mertric_export.emulation import emulate, runnable
from mertric_export.export import Provenance, export_checkpoint
from mertric_export.graph import WeightFile
from mertric_export.narrow import BrainBuilder, HalfBuilder, HalfClipsBuilder, NarrowBuilder, round_to_bfloat16
from mertric_export.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

SCALES = {"q": 0, "k": 0, "v": 60000}


def half(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float32)


def brain(array: Array) -> Array:
    return (round_to_bfloat16(array).astype(np.uint32) << 16).view(np.float32)


def built(directory: Path, builder: type[NarrowBuilder], weight: Array, bias: Array) -> onnx.ModelProto:
    """Build x @ weight + bias, and a sum that has no part in it."""
    with WeightFile(directory / "w.bin") as weights:
        graph = builder("g", weights)
        value = graph.input("x", ("rows", len(weight)))
        product = graph.product("p", value, graph.matrix("w", weight), graph.weight("b", bias))
        graph.output(product, "y", ("rows", weight.shape[1]))
        graph.output(graph.node("sum", "Add", value, value), "z", ("rows", len(weight)))
        return graph.model()


@pytest.mark.parametrize("builder", [HalfBuilder, BrainBuilder])
def test_every_result_is_rounded_as_its_type_says(tmp_path: Path, builder: type[NarrowBuilder]) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((50, 8), (8, 12), (12,)))
    model = built(tmp_path, builder, weight, bias)
    before = model.SerializeToString()
    emulation = emulate(model)
    assert model.SerializeToString() == before
    path = tmp_path / "g.onnx"
    path.write_bytes(emulation.SerializeToString())
    onnx.checker.check_model(path, full_check=True)
    y, z = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    if builder is HalfBuilder:
        exact = (half(x).astype(np.float64) @ half(weight)).astype(np.float32)
        expected = half(half(exact) + half(bias))
    else:
        exact = (brain(x).astype(np.float64) @ brain(weight)).astype(np.float32)
        expected = brain(exact) + bias
    assert (y == expected).mean() > 0.98, "but where the order of a sum decides which way is nearer"
    np.testing.assert_allclose(y, expected, rtol=2.0**-7, atol=2.0**-7)
    np.testing.assert_array_equal(z, x + x)


@pytest.mark.parametrize("builder", [HalfBuilder, BrainBuilder])
def test_nothing_but_casts_is_in_a_16_bit_type(tmp_path: Path, builder: type[NarrowBuilder]) -> None:
    model = emulate(built(tmp_path, builder, np.eye(4, dtype=np.float32), np.ones(4, np.float32)))
    narrow = {tensor.name for tensor in model.graph.initializer if tensor.data_type != TensorProto.FLOAT}
    assert narrow
    for node in model.graph.node:
        if node.op_type == "Cast":
            narrow |= set(node.output if node.attribute[0].i != TensorProto.FLOAT else ())
        else:
            assert narrow.isdisjoint((*node.input, *node.output)), node.name


def test_graphs_without_16_bit_types_stay_what_they_are(bundle: Path) -> None:
    for path in (bundle / "fp32").glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert emulate(model) == model


def test_a_bundle_is_run_as_it_is_where_it_can_be(bundle: Path) -> None:
    with runnable(bundle, provider="cpu", precision="fp32") as found:
        assert found == (bundle, "fp32")


@pytest.mark.parametrize(("precision", "least", "most"), [("fp16", 1e-4, 2e-3), ("bf16", 1e-3, 2e-2)])
def test_an_emulated_bundle_is_whole_and_gone_afterwards(
    tmp_path: Path,
    sound: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    least: float,
    most: float,
) -> None:
    monkeypatch.setattr(export, "compare_precisions", lambda *_, **__: [])
    source, output = write_checkpoint(tmp_path / "source", SMALL), tmp_path / "bundle"
    export_checkpoint(source, output, provenance=Provenance(model="m"), precisions=[precision])
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    exact = Encoder(output, provider="cpu").embed_samples(sound(), layers="all").hidden
    with runnable(output, provider="cpu", precision=precision) as (twin, run_as):
        bundle = read_bundle(twin)
        bundle.check_files(run_as)
        assert (bundle.model, bundle.precisions, run_as) == ("m", ("fp32",), "fp32")
        got = Encoder(twin, provider="cpu").embed_samples(sound(), layers="all").hidden
    assert least < np.sqrt(np.square(got - exact).mean() / np.square(exact).mean()) < most
    assert not twin.exists()
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("value", "expected"), [(1.0, 0.0), (1.5, np.inf)])
def test_what_attention_rounds_on_its_way_is_seen(tmp_path: Path, value: float, expected: float) -> None:
    """Its product may be more than float16 holds, though with the bias it would not be."""
    with WeightFile(tmp_path / "w.bin") as weights:
        graph = HalfClipsBuilder("g", weights)
        x = graph.narrow(graph.input("x", ("batch", "frames", 8)))
        parts = [graph.matrix(f"{part}.weight", scale * np.eye(8, dtype=np.float32)) for part, scale in SCALES.items()]
        bias = graph.weight("bias", np.repeat(np.float32([0, 0, -60000]), 8))
        joined = graph.joined("weight", parts, axis=1)
        attended = graph.node("a", "Attention", x, joined, bias, domain="com.microsoft", num_heads=1)
        graph.output(graph.widen(attended), "y", ("batch", "frames", 8))
        model = graph.model()
    path = tmp_path / "g.onnx"
    path.write_bytes(emulate(model).SerializeToString())
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.full((1, 5, 8), value, np.float32)})
    np.testing.assert_array_equal(y, np.full((1, 5, 8), expected))
