"""Checkpoints for tests: a small model, and `pytorch_model.bin` written without PyTorch, sound or hostile."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric_export import export
from mertric_export.centring import centre
from mertric_export.config import MertConfig
from mertric_export.manifest import write_manifest
from mertric_export.safetensors import read_safetensors, write_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mertric_export.checkpoint import Checkpoint

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"

SMALL = MertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


def load(directory: Path) -> dict[str, NDArray[Any]]:
    """All tensors of `model.safetensors`, as they are stored."""
    return {name: np.array(one.array) for name, one in read_safetensors(directory / "model.safetensors").items()}


def save(directory: Path, tensors: Mapping[str, NDArray[Any]], name: str = "model.safetensors") -> None:
    """Write float32 tensors as safetensors."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    write_safetensors(directory / name, shapes, tensors.values(), metadata={"format": "pt"})


def export_graphs(checkpoint: Checkpoint, bundle: Path, precisions: Sequence[str]) -> Path:
    """Write a bundle without comparing anything, in the place of one that is there."""
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    for precision in precisions:
        export._write_graphs(checkpoint.config, centred(checkpoint), bundle / precision, precision)
    export._write_fold(checkpoint, bundle / "fold.npz")
    write_manifest(bundle, export._manifest(checkpoint, export.Provenance(model="m"), bundle, precisions))
    return bundle


def errors(got: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.floating]:
    """Largest error of each hidden state [layers, frames, dim] in units of its root mean square."""
    rms = np.sqrt(np.square(expected).mean(axis=(1, 2)))
    return np.asarray(np.abs(got - expected).max(axis=(1, 2)) / rms)


def random_means(config: MertConfig, *, scale: float) -> dict[str, NDArray[np.float64]]:
    """Means as `mertric_export.centring.measure_means` gives them, but of nothing."""
    rng = np.random.default_rng(6)
    return {
        f"encoder.layers.{index}.{name}": scale * rng.standard_normal(width)
        for index in range(config.num_hidden_layers)
        for name, width in (
            ("attention", config.hidden_size),
            ("feed_forward", config.hidden_size),
            ("feed_forward.output_dense", config.intermediate_size),
        )
    }


def centred(checkpoint: Checkpoint) -> dict[str, NDArray[np.float32]]:
    """Tensors as graphs take them, less means that differ from 0."""
    return centre(checkpoint.config, checkpoint.tensors, random_means(checkpoint.config, scale=0.3))


def raw_safetensors(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def edit_json(path: Path, **changes: object) -> None:
    """Change fields of a JSON file; `...` removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


@dataclass
class Described:
    """A tensor as `torch.save` describes it; everything may be made to lie."""

    key: str
    numel: int
    size: Sequence[int]
    stride: Sequence[int]
    offset: int = 0
    storage: str = "FloatStorage"
    parameter: bool = False


@dataclass
class TorchFile:
    """The members of a file that `torch.save` would write."""

    described: dict[str, Described] = field(default_factory=dict)
    storages: dict[str, bytes] = field(default_factory=dict)
    byteorder: bytes | None = b"little"
    root: str = "pytorch_model"
    description: bytes | None = None

    def write(self, path: Path, compression: int = zipfile.ZIP_STORED) -> None:
        """Write the zip."""
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr(f"{self.root}/data.pkl", self.description or state_dict(self.described))
            if self.byteorder is not None:
                archive.writestr(f"{self.root}/byteorder", self.byteorder)
            for key, content in self.storages.items():
                archive.writestr(f"{self.root}/data/{key}", content)
            archive.writestr(f"{self.root}/version", b"3\n")


STORAGES = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


def torch_file(tensors: Mapping[str, NDArray[Any]], order: str = "<") -> TorchFile:
    """A sound file of these tensors, each in its own storage."""
    file = TorchFile(byteorder=b"little" if order == "<" else b"big")
    for index, (name, tensor) in enumerate(tensors.items()):
        kind = tensor.dtype.str[1:]
        stride = [step // tensor.itemsize for step in tensor.strides]
        file.described[name] = Described(str(index), tensor.size, tensor.shape, stride, storage=STORAGES[kind])
        file.storages[str(index)] = tensor.astype(order + kind).tobytes()
    return file


def state_dict(described: Mapping[str, Described]) -> bytes:
    """The pickle of a dict of tensors, protocol 2."""
    items = b"".join(text(name) + rebuilt(tensor) for name, tensor in described.items())
    return b"\x80\x02}(" + items + b"u."


def rebuilt(tensor: Described) -> bytes:
    """The call that rebuilds one tensor."""
    kind = b"ctorch\n" + tensor.storage.encode() + b"\n"
    storage = b"(" + text("storage") + kind + text(tensor.key) + text("cpu") + number(tensor.numel) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = storage + number(tensor.offset) + numbers(tensor.size) + numbers(tensor.stride) + b"\x89" + hooks
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
    if tensor.parameter:
        call = b"ctorch._utils\n_rebuild_parameter\n(" + call + b"\x88" + hooks + b"tR"
    return call


def calling(module: str, name: str, argument: str) -> bytes:
    """A pickle that would call `module.name(argument)`."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + text(argument) + b"tR."


def text(value: str) -> bytes:
    """BINUNICODE."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    """LONG1."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def numbers(values: Sequence[int]) -> bytes:
    """A tuple of integers."""
    return b"(" + b"".join(number(value) for value in values) + b"t"
