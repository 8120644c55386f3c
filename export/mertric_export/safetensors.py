"""Reads `.safetensors`, memory-mapped, after checking its header whole; and writes it.

Format: eight bytes with the header's length, little-endian; the header, a JSON object of
`name: {dtype, shape, data_offsets}`; the data, without gaps or overlaps, to the end of the file.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import CheckpointError
from mertric_export.stored import StoredTensor, map_file

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("<i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("<u1"),
    "BOOL": np.dtype("<u1"),
}
"""Integers too: a file with a counter in it is sound."""
MAX_HEADER_BYTES = 100_000_000


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Map the tensors of a `.safetensors` file; no data are read.

    Raises
    ------
    CheckpointError
        The file is not safetensors, is cut short, or its header contradicts itself or the file's length.
    """
    content = map_file(path)
    try:
        header, start = _read_header(content)
        tensors = {
            name: _locate(content, start, name, entry) for name, entry in header.items() if name != "__metadata__"
        }
        _check_cover(header, len(content) - start)
    except ValueError as error:
        raise CheckpointError(f"{path} is not a sound safetensors file: {error}. Copy or fetch it again.") from error
    return tensors


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[NDArray[np.float32]],
    *,
    metadata: Mapping[str, str],
) -> None:
    """Write float32 tensors one after the other, so that only one need be in memory.

    Parameters
    ----------
    path : Path
        The file to write.
    shapes : mapping of str to shape
        Name and shape of each tensor.
    tensors : iterable of float32 ndarray
        Their values, in the order of `shapes`.
    metadata : mapping of str to str
        The header's `__metadata__`; loaders of transformers want `{"format": "pt"}` in it.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name, shape in shapes.items():
        end = position + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64 + 56)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, shape), tensor in zip(shapes.items(), tensors, strict=True):
            if tensor.shape != shape:
                raise ValueError(f"{name} has shape {tensor.shape}, announced as {shape}")
            file.write(np.ascontiguousarray(tensor, "<f4").data)


def _read_header(content: mmap.mmap) -> tuple[dict[str, Any], int]:
    if len(content) < 8:
        raise ValueError(f"it has {len(content)} bytes, fewer than the 8 of the header's length")
    length = int.from_bytes(content[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError(f"it gives its header {length} bytes but has {len(content) - 8} after the length")
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError(f"its header is a {type(header).__name__}, expected an object")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(name for name in names if names.count(name) > 1)} twice")
    return entries


def _locate(content: mmap.mmap, start: int, name: str, entry: Any) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} lacks dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} has shape {shape} and data_offsets {offsets}, expected counts")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise ValueError(f"{name} has dtype {entry['dtype']}, supported: {', '.join(DTYPES)}")
    dtype = DTYPES[entry["dtype"]]
    begin, end = offsets
    size = math.prod(shape) * dtype.itemsize
    if end - begin != size:
        raise ValueError(f"{name} has {end - begin} bytes, its shape {shape} needs {size}")
    if end > len(content) - start:
        raise ValueError(f"{name} ends at byte {end} of {len(content) - start}: the file is cut short")
    array = np.ndarray(tuple(shape), dtype, buffer=content, offset=start + begin)
    return StoredTensor(array, bfloat16=entry["dtype"] == "BF16")


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_cover(header: dict[str, Any], length: int) -> None:
    """Tensors must follow one another without a gap or an overlap, to the end of the file."""
    spans = sorted((entry["data_offsets"], name) for name, entry in header.items() if name != "__metadata__")
    position = 0
    for (begin, end), name in spans:
        if begin != position:
            raise ValueError(f"{name} begins at byte {begin}, expected {position}: a gap or an overlap")
        position = end
    if position != length:
        raise ValueError(f"its tensors end at byte {position}, the file at {length}")
