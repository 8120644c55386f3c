"""Reads `pytorch_model.bin` without PyTorch, and without running anything that the file asks for.

Since PyTorch 1.6 `torch.save` writes an uncompressed zip: a pickle that describes the tensors, and one member
per storage. The unpickler here admits the few names that describe tensors; any other is refused by name.
https://pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import CheckpointError
from mertric_export.stored import StoredTensor, map_file

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

STORAGES = {
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "DoubleStorage": "f8",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
BYTE_ORDERS = {b"little": "<", b"big": ">"}
MAX_PICKLE_BYTES = 64_000_000
_LOCAL_HEADER_BYTES = 30


def read_torch_pickle(path: Path) -> dict[str, StoredTensor]:
    """Map the tensors of a file that `torch.save` wrote, after holding storages against their checksums.

    Raises
    ------
    CheckpointError
        The file is not such a zip, is damaged, names anything but tensors, or a tensor leaves its storage.
    """
    content = map_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            reader = _Archive(archive, content)
            described = _Unpickler(reader).load()
        return _tensors(described, path)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is not a zip ({error}): cut short, a pointer to large storage, or saved by a PyTorch "
            "before 1.6. Fetch it again, or save it anew with torch.save or as model.safetensors."
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise CheckpointError(f"{path} is not a sound checkpoint of tensors: {error}. Fetch it again.") from error


def _tensors(described: object, path: Path) -> dict[str, StoredTensor]:
    if not isinstance(described, dict):
        problem = f"a {type(described).__name__}"
    elif strangers := [str(name) for name, value in described.items() if not _is_tensor(value)]:
        problem = f"what is no tensor, {', '.join(strangers)}"
    elif not all(isinstance(name, str) for name in described):
        problem = "tensors whose names are no text"
    else:
        return dict(described)
    raise CheckpointError(
        f"{path} holds {problem}; expected a dict of tensors by name. Save the encoder's alone: "
        "torch.save(model.state_dict(), PATH)."
    )


def _is_tensor(value: object) -> bool:
    """Whether it is a tensor, and whole: a pickle can set what it likes on the objects that it makes."""
    return (
        isinstance(value, StoredTensor)
        and vars(value).keys() == {"array", "bfloat16"}
        and type(value.array) is np.ndarray
        and type(value.bfloat16) is bool
        and (not value.bfloat16 or value.array.dtype.itemsize == 2)
    )


@dataclass(frozen=True)
class _StorageType:
    """Stands for `torch.FloatStorage` and its kin."""

    name: str


class _Archive:
    """The members of one zip, its storages mapped from the file."""

    def __init__(self, archive: zipfile.ZipFile, content: mmap.mmap) -> None:
        self._archive = archive
        self._content = content
        self._members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self._members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} members named */data.pkl, expected one")
        self._root = pickles[0].removesuffix("data.pkl")
        self._order = self._byte_order()

    def description(self) -> bytes:
        """The pickle that describes the tensors."""
        info = self._members[self._root + "data.pkl"]
        if info.file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"its data.pkl has {info.file_size} bytes, expected at most {MAX_PICKLE_BYTES}")
        return self._archive.read(info)

    def storage(self, kind: str, key: str, count: int) -> NDArray[Any]:
        """The storage `data/KEY` as `count` values in one dimension."""
        info = self._members.get(f"{self._root}data/{key}")
        if info is None:
            raise ValueError(f"storage {key} is missing from the file")
        dtype = np.dtype(self._order + STORAGES[kind])
        size = count * dtype.itemsize
        if info.file_size != size:
            raise ValueError(f"storage {key} has {info.file_size} bytes, {count} values of {kind} need {size}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"storage {key} is compressed, which torch.save never does")
        start = self._offset(info)
        if info.CRC and zlib.crc32(memoryview(self._content)[start : start + size]) != info.CRC:
            raise ValueError(f"storage {key} is damaged: it does not give the CRC-32 that stands in the file")
        return np.ndarray((count,), dtype, buffer=self._content, offset=start)

    def _offset(self, info: zipfile.ZipInfo) -> int:
        """Where a member's data begin: its local header's own name and extra field may differ in length."""
        header = self._content[info.header_offset : info.header_offset + _LOCAL_HEADER_BYTES]
        if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
            raise ValueError(f"the header of {info.filename} is damaged")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return info.header_offset + _LOCAL_HEADER_BYTES + lengths

    def _byte_order(self) -> str:
        info = self._members.get(self._root + "byteorder")
        order = b"little" if info is None else self._archive.read(info)
        if order not in BYTE_ORDERS:
            raise ValueError(f"its byteorder is {order!r}, expected little or big")
        return BYTE_ORDERS[order]


class _Unpickler(pickle.Unpickler):
    """Admits what describes tensors; each load has its own callables, so no pickle can alter the next."""

    def __init__(self, archive: _Archive) -> None:
        super().__init__(BytesIO(archive.description()))
        self._archive = archive
        self._admitted: dict[str, Callable[..., Any] | _StorageType] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *arguments: _rebuild_tensor(*arguments),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        }
        self._admitted |= {f"torch.{name}": _StorageType(name) for name in STORAGES}

    def find_class(self, module: str, name: str) -> Any:
        """Only what stands in the list; everything else is named and refused."""
        full = f"{module}.{name}"
        if full not in self._admitted:
            raise pickle.UnpicklingError(f"it asks for {full}, which is no part of a tensor and was not run")
        return self._admitted[full]

    def persistent_load(self, pid: Any) -> tuple[str, NDArray[Any]]:
        """A storage: ("storage", type, key, device, number of values)."""
        tag, kind, key, _device, count = pid
        if tag != "storage" or not isinstance(kind, _StorageType) or not isinstance(key, str):
            raise ValueError(f"it describes a storage as {pid!r}")
        _check_counts("a storage's size", (count,))
        return kind.name, self._archive.storage(kind.name, key, count)


def _rebuild_tensor(
    storage: tuple[str, NDArray[Any]],
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _requires_grad: bool,
    _backward_hooks: object,
    _metadata: object = None,
) -> StoredTensor:
    """A strided view of a storage, inside its bounds (`torch._utils._rebuild_tensor_v2`)."""
    kind, values = storage
    _check_counts("a tensor's offset, size or stride", (offset, *size, *stride))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count > len(values) or (count and last >= len(values)):
        raise ValueError(
            f"a tensor of size {tuple(size)}, stride {tuple(stride)} and offset {offset} leaves its storage "
            f"of {len(values)} values"
        )
    steps = [step * values.itemsize for step in stride]
    start = values[offset:] if count else values[:0]
    array = np.lib.stride_tricks.as_strided(start, tuple(size), steps, writeable=False)
    return StoredTensor(array, bfloat16=kind == "BFloat16Storage")


def _check_counts(what: str, values: tuple[object, ...]) -> None:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{what} is {values}, expected counts")
