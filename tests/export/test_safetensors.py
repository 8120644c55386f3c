from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import raw_safetensors, save
from mertric.errors import CheckpointError
from mertric_export.safetensors import read_safetensors, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_values_are_exact_in_every_dtype(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.15625, 3.0])
    bits = (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    parts = {
        "F16": values.astype("<f2"),
        "BF16": bits,
        "F32": values.astype("<f4"),
        "F64": values.astype("<f8"),
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for dtype, array in parts.items():
        header[dtype.lower()] = entry(dtype, [2, 2], len(data), len(data) + array.nbytes)
        data += array.tobytes()
    (tmp_path / "f").write_bytes(raw_safetensors(header, data))
    tensors = read_safetensors(tmp_path / "f")
    assert list(tensors) == ["f16", "bf16", "f32", "f64"]
    for tensor in tensors.values():
        assert tensor.shape == (2, 2)
        assert tensor.float32().dtype == np.float32
        np.testing.assert_array_equal(tensor.float32(), values.reshape(2, 2))


def test_float32_is_mapped_not_copied(tmp_path: Path) -> None:
    save(tmp_path, {"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    tensor = read_safetensors(tmp_path / "model.safetensors")["a"]
    assert np.shares_memory(tensor.float32(), tensor.array)
    assert not tensor.float32().flags.writeable


def test_out_of_range_becomes_infinite_without_a_warning(tmp_path: Path) -> None:
    data = np.array([1e300]).tobytes()
    (tmp_path / "f").write_bytes(raw_safetensors({"a": entry("F64", [1], 0, 8)}, data))
    assert np.isinf(read_safetensors(tmp_path / "f")["a"].float32())


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    save(tmp_path, {"none": np.zeros((0, 3), np.float32), "one": np.array(2, np.float32)})
    tensors = read_safetensors(tmp_path / "model.safetensors")
    assert tensors["none"].shape == (0, 3)
    assert tensors["one"].float32() == 2


ZEROS = bytes(16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"1234", "4 bytes, fewer than the 8"),
        ((10**9).to_bytes(8, "little") + b"{}", "gives its header 1000000000 bytes but has 2"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "gives its header"),
        (raw_safetensors(b"{"), "not a sound safetensors file"),
        (raw_safetensors(b"\xff\xfe"), "not a sound safetensors file"),
        (raw_safetensors(b"[]"), "header is a list"),
        (raw_safetensors(b"[" * 100_000), "nested too deeply|not a sound"),
        (raw_safetensors(b'{"a": 1, "a": 2}'), "names a twice"),
        (raw_safetensors({"a": 1}), "a lacks dtype, shape and data_offsets"),
        (raw_safetensors({"a": {"dtype": "F32", "shape": []}}), "a lacks dtype"),
        (raw_safetensors({"a": entry("F8_E4M3", [2], 0, 16)}, ZEROS), "a has dtype F8_E4M3, supported: F16, BF16"),
        (raw_safetensors({"a": entry([], [2], 0, 16)}, ZEROS), "a has dtype"),  # type: ignore[arg-type]
        (raw_safetensors({"a": entry("F32", [-4], 0, 16)}, ZEROS), "expected counts"),
        (raw_safetensors({"a": entry("F32", [4.0], 0, 16)}, ZEROS), "expected counts"),  # type: ignore[list-item]
        (raw_safetensors({"a": entry("F32", [True, 4], 0, 16)}, ZEROS), "expected counts"),
        (
            raw_safetensors({"a": entry("F32", [3], 0, 16)}, ZEROS),
            r"a has 16 bytes, its shape \[3\] needs 12",
        ),
        (
            raw_safetensors({"a": entry("F32", [8], 0, 32)}, ZEROS),
            "ends at byte 32 of 16: the file is cut short",
        ),
        (raw_safetensors({"a": entry("F32", [2], 0, 8)}, ZEROS), "tensors end at byte 8, the file at 16"),
        (raw_safetensors({"a": entry("F32", [2], 8, 16)}, ZEROS), "a begins at byte 8, expected 0"),
        (
            raw_safetensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [2], 8, 16)}, ZEROS),
            "b begins at byte 8, expected 16: a gap or an overlap",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(tmp_path / "bad.safetensors")


def test_a_header_larger_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, {"a": np.zeros(3, np.float32)})
    monkeypatch.setattr("mertric_export.safetensors.MAX_HEADER_BYTES", 20)
    with pytest.raises(CheckpointError, match="gives its header"):
        read_safetensors(tmp_path / "model.safetensors")


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, {"a": np.arange(6, dtype=np.float32), "b": np.arange(3, dtype=np.float32)})
    content = (tmp_path / "model.safetensors").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_safetensors(tmp_path / "cut")


def test_the_writer_refuses_a_tensor_that_is_not_as_announced(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a has shape"):
        write_safetensors(tmp_path / "f", {"a": (2,)}, [np.zeros(3, np.float32)], metadata={})


@pytest.mark.oracle
def test_agrees_with_the_safetensors_package(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    tensors = {
        "a": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32),
        "h": np.arange(5, dtype=np.float16),
    }
    numpy_files.save_file(tensors, tmp_path / "theirs")
    for name, tensor in read_safetensors(tmp_path / "theirs").items():
        np.testing.assert_array_equal(tensor.float32(), tensors[name])
    save(tmp_path, {"a": tensors["a"]}, "ours")
    np.testing.assert_array_equal(numpy_files.load_file(tmp_path / "ours")["a"], tensors["a"])


def test_a_counter_makes_no_file_unsound(tmp_path: Path) -> None:
    header = {"a": entry("I64", [], 0, 8), "b": entry("BOOL", [2], 8, 10), "c": entry("F32", [1], 10, 14)}
    (tmp_path / "f").write_bytes(raw_safetensors(header, bytes(14)))
    found = {name: tensor.is_floating for name, tensor in read_safetensors(tmp_path / "f").items()}
    assert found == {"a": False, "b": False, "c": True}
