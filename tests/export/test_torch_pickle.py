from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checkpoints import (
    GOLDEN,
    Described,
    TorchFile,
    calling,
    number,
    numbers,
    rebuilt,
    state_dict,
    text,
    torch_file,
)
from mertric.errors import CheckpointError
from mertric_export.torch_pickle import read_torch_pickle

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(24, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


def one(described: Described, content: bytes = VALUES.tobytes()) -> TorchFile:
    return TorchFile({"a": described}, {"0": content})


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8"])
def test_values_are_exact(path: Path, dtype: str, order: str) -> None:
    tensors = {"a": VALUES.reshape(2, 3, 4).astype(dtype), "b": np.array(7, dtype)}
    torch_file(tensors, order).write(path)
    read = read_torch_pickle(path)
    assert list(read) == ["a", "b"]
    for name, tensor in read.items():
        np.testing.assert_array_equal(tensor.float32(), tensors[name])


@pytest.mark.parametrize("order", ["<", ">"])
def test_bfloat16(path: Path, order: str) -> None:
    bits = (VALUES.view(np.uint32) >> 16).astype(f"{order}u2")
    file = one(Described("0", 24, (24,), (1,), storage="BFloat16Storage"), bits.tobytes())
    file.byteorder = b"little" if order == "<" else b"big"
    file.write(path)
    np.testing.assert_array_equal(read_torch_pickle(path)["a"].float32(), VALUES)


def test_strided_views_shared_storages_and_parameters(path: Path) -> None:
    file = one(Described("0", 24, (3, 4), (1, 3), offset=5))
    file.described["b"] = Described("0", 24, (24,), (1,), parameter=True)
    file.described["none"] = Described("0", 24, (0, 2), (2, 1), offset=24)
    file.write(path)
    read = read_torch_pickle(path)
    np.testing.assert_array_equal(read["a"].float32(), VALUES[5:17].reshape(4, 3).T)
    np.testing.assert_array_equal(read["b"].float32(), VALUES)
    assert read["none"].shape == (0, 2)


def test_storages_are_mapped(path: Path) -> None:
    torch_file({"a": VALUES}).write(path)
    tensor = read_torch_pickle(path)["a"]
    np.testing.assert_array_equal(tensor.float32(), VALUES)
    assert np.shares_memory(tensor.float32(), tensor.array)
    assert not tensor.float32().flags.writeable


def test_compressed_storages_are_refused(path: Path) -> None:
    """A small file could ask for any amount of memory."""
    torch_file({"a": VALUES}).write(path, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"storage 0 is compressed, which torch\.save never does"):
        read_torch_pickle(path)


def test_a_flipped_bit_in_a_storage_is_found(path: Path) -> None:
    torch_file({"a": VALUES}).write(path)
    content = bytearray(path.read_bytes())
    content[content.index(VALUES.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="storage 0 is damaged: it does not give the CRC-32"):
        read_torch_pickle(path)


def test_a_damaged_header_of_a_storage_is_found(path: Path) -> None:
    torch_file({"a": VALUES}).write(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x03\x04", 0, content.index(VALUES.tobytes()))] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="the header of pytorch_model/data/0 is damaged"):
        read_torch_pickle(path)


def test_an_absent_byteorder_is_little(path: Path) -> None:
    file = torch_file({"a": VALUES})
    file.byteorder = None
    file.write(path)
    np.testing.assert_array_equal(read_torch_pickle(path)["a"].float32(), VALUES)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "Counter"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("mertric_export.torch_pickle", "_rebuild_tensor"),
    ],
)
def test_any_other_global_is_refused_by_name_and_not_run(path: Path, tmp_path: Path, module: str, name: str) -> None:
    TorchFile(description=calling(module, name, f"touch {tmp_path}/ran")).write(path)
    with pytest.raises(CheckpointError, match=rf"asks for {module}\.{name}, which is no part of a tensor"):
        read_torch_pickle(path)
    assert not (tmp_path / "ran").exists()


def test_a_hostile_global_beside_sound_tensors_is_refused(path: Path) -> None:
    sound = torch_file({"a": VALUES})
    sound.description = state_dict(sound.described)[:-2] + text("b") + calling("os", "getcwd", "")[2:-1] + b"u."
    sound.write(path)
    with pytest.raises(CheckpointError, match=r"asks for os\.getcwd"):
        read_torch_pickle(path)


def test_one_pickle_cannot_change_how_the_next_is_read(path: Path, tmp_path: Path) -> None:
    state = b"(N}" + text("__defaults__") + b"(" + number(1) * 7 + b"tst"
    hostile = torch_file({"a": VALUES})
    hostile.description = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."
    hostile.write(tmp_path / "hostile")
    with pytest.raises(CheckpointError, match="holds a function"):
        read_torch_pickle(tmp_path / "hostile")
    torch_file({"a": VALUES}).write(path)
    np.testing.assert_array_equal(read_torch_pickle(path)["a"].float32(), VALUES)


def test_a_tensor_altered_after_it_was_rebuilt_is_refused(path: Path) -> None:
    sound = rebuilt(Described("0", 24, (24,), (1,)))
    for attribute, value in (("array", text("not an array")), ("bfloat16", b"\x88")):
        file = one(Described("0", 24, (24,), (1,)))
        file.description = b"\x80\x02}" + text("a") + sound + b"}" + text(attribute) + value + b"sbs."
        file.write(path)
        with pytest.raises(CheckpointError, match="holds what is no tensor, a; expected a dict"):
            read_torch_pickle(path)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (Described("0", 24, (25,), (1,)), "leaves its storage of 24"),
        (Described("0", 24, (4,), (8,)), "leaves its storage"),
        (Described("0", 24, (4,), (1,), offset=21), "leaves its storage"),
        (Described("0", 24, (10**9, 10**9), (0, 0)), "leaves its storage"),
        (Described("0", 24, (4,), (-1,), offset=8), "expected counts"),
        (Described("0", 24, (4,), (1,), offset=-1), "expected counts"),
        (Described("0", 24, (-4,), (1,)), "expected counts"),
        (Described("0", 24, (4, 2), (1,)), "not a sound checkpoint"),
        (Described("0", 23, (4,), (1,)), "storage 0 has 96 bytes, 23 values of FloatStorage need 92"),
        (Described("0", -24, (4,), (1,)), "a storage's size"),
        (Described("0", 24, (4,), (1,), storage="DoubleStorage"), "24 values of DoubleStorage need 192"),
        (Described("1", 24, (4,), (1,)), "storage 1 is missing"),
        (Described("../version", 24, (4,), (1,)), "storage ../version is missing"),
        (Described("0", 24, (4,), (1,), storage="QInt8Storage"), r"asks for torch\.QInt8Storage"),
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(path: Path, described: Described, message: str) -> None:
    one(described).write(path)
    with pytest.raises(CheckpointError, match=message):
        read_torch_pickle(path)


def test_true_is_no_count(path: Path) -> None:
    file = one(Described("0", 24, (1,), (1,)))
    file.description = state_dict(file.described).replace(numbers((1,)), b"(\x88t", 1)
    file.write(path)
    with pytest.raises(CheckpointError, match="expected counts"):
        read_torch_pickle(path)


def test_a_description_larger_than_any_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_file({"a": VALUES}).write(path)
    monkeypatch.setattr("mertric_export.torch_pickle.MAX_PICKLE_BYTES", 20)
    with pytest.raises(CheckpointError, match=r"its data\.pkl has \d+ bytes, expected at most 20"):
        read_torch_pickle(path)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (b"\x80\x02].", "holds a list; expected a dict of tensors by name"),
        (
            b"\x80\x02}" + text("epoch") + number(3) + b"s.",
            "holds what is no tensor, epoch; .* Save the encoder's alone",
        ),
        (b"\x80\x02}" + text("a") + b"}s.", "holds what is no tensor, a; expected"),
        (
            b"\x80\x02}" + number(1) + rebuilt(Described("0", 24, (4,), (1,))) + b"s.",
            "dict of tensors by name",
        ),
        (b"\x80\x02(" + text("storage") + text("x") + b"tQ.", "not a sound checkpoint"),
        (b"\x80\x02(ltQ.", "not a sound checkpoint"),
        (b"\x80\x02}(", "not a sound checkpoint"),
        (b"\x80\x09.", "not a sound checkpoint"),
        (b"\x80\x02ccollections\nOrderedDict\n" + b"(Nt" + b"R.", "not a sound checkpoint"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(path: Path, description: bytes, message: str) -> None:
    file = one(Described("0", 24, (4,), (1,)))
    file.description = description
    file.write(path)
    with pytest.raises(CheckpointError, match=message):
        read_torch_pickle(path)


def test_files_that_are_no_such_zip_say_so(path: Path) -> None:
    for content in (
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"version https://git-lfs.github.com/spec/v1\n",
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"is not a zip .*before 1\.6.*save it anew"):
            read_torch_pickle(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_torch_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(CheckpointError, match=r"0 members named \*/data\.pkl"):
        read_torch_pickle(path)


def test_an_unknown_byteorder_is_refused(path: Path) -> None:
    file = torch_file({"a": VALUES})
    file.byteorder = b"middle"
    file.write(path)
    with pytest.raises(CheckpointError, match="byteorder is b'middle', expected little or big"):
        read_torch_pickle(path)


def test_any_cut_is_noticed(path: Path) -> None:
    torch_file({"a": VALUES, "b": VALUES}).write(path)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_torch_pickle(path)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not here")
@pytest.mark.parametrize("name", ["tiny-mert-95m", "tiny-mert-330m"])
def test_reads_what_torch_saved(name: str) -> None:
    tensors = read_torch_pickle(GOLDEN / name / "pytorch_model.bin")
    assert len(tensors) == 83
    assert tensors["encoder.pos_conv_embed.conv.weight_g"].shape == (1, 1, 128)
    np.testing.assert_array_less(np.abs(tensors["encoder.layers.3.attention.q_proj.weight"].float32()), 10)


@pytest.mark.oracle
def test_agrees_with_torch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    module = torch.nn.Linear(4, 3)
    tensors = {
        "base": base,
        "transposed": base.T,
        "view": base[2:, 1::2],
        "parameter": torch.nn.Parameter(base.clone()),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "long": torch.arange(5),
        "scalar": torch.tensor(3.0),
    }
    torch.save(tensors, path)
    for name, tensor in read_torch_pickle(path).items():
        np.testing.assert_array_equal(tensor.float32(), tensors[name].detach().float().numpy(), err_msg=name)
    torch.save(module.state_dict(), path)
    np.testing.assert_array_equal(read_torch_pickle(path)["weight"].float32(), module.weight.detach().numpy())
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6"):
        read_torch_pickle(path)


def test_a_storage_without_a_checksum_is_taken(path: Path) -> None:
    """0 stands where none was computed, as `torch.serialization.set_crc32_options` allows."""
    torch_file({"a": VALUES}).write(path)
    checksum = zlib.crc32(VALUES.tobytes()).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(checksum) == 2  # before the storage, and in the directory of the zip
    path.write_bytes(content.replace(checksum, bytes(4)))
    np.testing.assert_array_equal(read_torch_pickle(path)["a"].array, VALUES)
