from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mertric.errors import BundleError
from mertric.initializers import Initializers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["frontend.portable.onnx", "positions.onnx", "encoder.portable.onnx"])
def test_they_are_those_that_onnx_reads(bundle: Path, name: str) -> None:
    graph = bundle / "fp32" / name
    expected = {
        tensor.name: numpy_helper.to_array(tensor, str(graph.parent))
        for tensor in onnx.load(graph, load_external_data=False).graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.data_location == TensorProto.EXTERNAL
    }
    found = Initializers(graph)
    assert expected
    assert len(found) == len(expected)
    assert set(found) == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == np.float32
    assert "nothing" not in found
    with pytest.raises(KeyError):
        found["nothing"]


def test_what_stands_in_the_graph_or_is_no_float32_is_left_out(tmp_path: Path) -> None:
    inside = numpy_helper.from_array(np.ones(3, np.float32), "inside")
    whole = helper.make_tensor("whole", TensorProto.INT64, [1], [1])
    graph = helper.make_graph([], "g", [], [], [inside, whole])
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    assert dict(Initializers(tmp_path / "g.onnx")) == {}


def test_broken_files(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\x3a\xff\xff")
    with pytest.raises(BundleError, match=r"no\.onnx is not an ONNX model .* Export the bundle again"):
        Initializers(tmp_path / "no.onnx")
    with pytest.raises(BundleError, match=r"missing\.onnx is not an ONNX model"):
        Initializers(tmp_path / "missing.onnx")
    shutil.copy(bundle / "fp32" / "positions.onnx", tmp_path)
    with pytest.raises(BundleError, match=r"of .*positions\.onnx is not in .*weights\.bin"):
        dict(Initializers(tmp_path / "positions.onnx"))
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(BundleError, match=r"of .*positions\.onnx is not in .*weights\.bin"):
        dict(Initializers(tmp_path / "positions.onnx"))
