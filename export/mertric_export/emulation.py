"""Runs graphs in 16-bit types on the CPU: in float32, with every result rounded to the type that they say."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from mertric.bundle import FOLD, MANIFEST, WEIGHTS
from mertric.providers import PROVIDERS
from mertric_export.manifest import list_files, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TWIN = "fp32"
"""What the graphs of an emulated bundle compute in."""


@contextmanager
def runnable(bundle: Path, *, provider: str, precision: str) -> Iterator[tuple[Path, str]]:
    """Yield a bundle, and the precision to load it in, that compute on a provider what `bundle` does in `precision`.

    They are those given where the provider computes in that precision, and otherwise a bundle in a temporary directory
    whose fp32 graphs are the emulation of the graphs in `precision`.
    """
    if precision in PROVIDERS[provider].precisions:
        yield bundle, precision
        return
    with tempfile.TemporaryDirectory(prefix="mertric-", ignore_cleanup_errors=True) as home:
        twin = Path(home)
        (twin / _TWIN).mkdir()
        shutil.copyfile(bundle / FOLD, twin / FOLD)
        shutil.copyfile(bundle / precision / WEIGHTS, twin / _TWIN / WEIGHTS)
        for path in (bundle / precision).glob("*.onnx"):
            model = emulate(onnx.load(path, load_external_data=False))
            (twin / _TWIN / path.name).write_bytes(model.SerializeToString())
        fields = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        write_manifest(twin, fields | {"precisions": [_TWIN], "files": list_files(twin)})
        yield twin, _TWIN


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose operators compute in float32 what those of `model` do in float16 or bfloat16.

    Around each there are casts: its inputs are brought to float32, its results rounded to the type that they have in
    `model`. That is what GPUs do, whose sums of products are in float32 too. What an operator rounds on its way, as
    attention in float16 does with its shares, is not seen.

    Parameters
    ----------
    model
        Its operators give results of the 16-bit type that they take, but for `Cast`.
    """
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.data_type in _NARROW}
    widened: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    waiting = deque(model.graph.node)
    while waiting:
        node = waiting.popleft()
        if node.op_type == "Cast":
            (to,) = (attribute.i for attribute in node.attribute if attribute.name == "to")
            if to in _NARROW:
                kinds[node.output[0]] = to
            nodes.append(node)
            continue
        narrow = [name for name in node.input if name in kinds]
        if not narrow:
            nodes.append(node)
            continue
        if node.op_type == "Attention":
            waiting.extendleft(reversed(_apart(node)))
            continue
        for name in dict.fromkeys(narrow):
            if name not in widened:
                nodes.append(helper.make_node("Cast", [name], [_wide(name)], to=TensorProto.FLOAT))
                widened.add(name)
        computing = onnx.NodeProto()
        computing.CopyFrom(node)
        computing.input[:] = [_wide(name) if name in kinds else name for name in node.input]
        computing.output[:] = [f"{name}.exact" for name in node.output]
        nodes.append(computing)
        for name, exact in zip(node.output, computing.output, strict=True):
            kinds[name] = kinds[narrow[0]]
            nodes.append(helper.make_node("Cast", [exact], [name], to=kinds[name]))
    emulation = onnx.ModelProto()
    emulation.CopyFrom(model)
    del emulation.graph.node[:]
    emulation.graph.node.extend(nodes)
    return emulation


def _apart(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Take the product and the bias out of ONNX Runtime's `Attention`, as GPUs round what each of them gives."""
    value, weight, bias = node.input
    (name,) = node.output
    product, biased, parts = f"{name}.product", f"{name}.biased", [f"{name}.{part}" for part in "qkv"]
    attention = helper.make_node("MultiHeadAttention", parts, [name], domain=node.domain)
    attention.attribute.extend(node.attribute)
    return [
        helper.make_node("MatMul", [value, weight], [product]),
        helper.make_node("Add", [product, bias], [biased]),
        helper.make_node("Split", [biased], parts, axis=-1, num_outputs=3),
        attention,
    ]


def _wide(name: str) -> str:
    return f"{name}.emulated"
