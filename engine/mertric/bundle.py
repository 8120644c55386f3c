"""A bundle: a directory with the graphs, the weights and everything else that the runtime needs of a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mertric.errors import BundleError
from mertric.fold import FirstConvolution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = 6
MANIFEST = "bundle.json"
WEIGHTS = "weights.bin"
FRONTEND = "frontend.onnx"
PORTABLE_FRONTEND = "frontend.portable.onnx"
POSITIONS = "positions.onnx"
CLIPS = "clips.onnx"
FIXED_CLIPS = "clips.fixed.onnx"
"""The graph of whole clips again, for shapes that do not change; of precisions that gain from it."""
FOLD = "fold.npz"
PORTABLE = ("portable", "pointwise")
"""Variants of the encoder graph that have ONNX operators alone."""
_AGAIN = "Export the bundle again (mertric export SOURCE -o BUNDLE --force)."


def encoder_graph(variant: str) -> str:
    """Name the file of an encoder graph, see `mertric_export.transformer`."""
    return f"encoder.{variant}.onnx"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What a bundle's manifest says.

    Attributes
    ----------
    path : Path
        The bundle's directory.
    model : str
        Hub id, or the name of the directory it was exported from.
    revision : str or None
        Hub revision.
    weights_sha256 : str
        Of the checkpoint's weights.
    license : str
        Of the weights.
    precisions : tuple of str
        What it may be computed in: ``fp32``, and others that were asked for and came close enough to it on the
        machine of the export. Each that a provider runs graphs of has these and their weights in a directory of its
        name; a provider may use those of ``fp32`` for another.
    refused : mapping of str to mapping of str to str
        By precision and provider, why that provider must not compute in it: it was too far from fp32.
    sample_rate, hop, receptive_field : int
        Hz, samples, samples.
    layers, dim : int
        Transformer layers; hidden states are 0 to `layers`, each of `dim` dimensions.
    heads : int
        Of attention; they divide `dim`.
    inner_dim : int
        Of the feed-forward.
    channels : tuple of int
        Of each convolution of the front end.
    convolution_norms : bool
        Whether a LayerNorm follows each of them, and not one GroupNorm the first.
    position_groups : int
        Groups of channels in the positional convolution; they divide `dim`.
    pre_norm : bool
        Whether LayerNorm stands before attention and before the feed-forward, and not after each residual.
    layer_norm_epsilon : float
    rows_per_frame : int
        Windows of the first convolution per frame.
    position_taps : int
        Frames that the positional convolution sees.
    trained : bool
        False for made-up weights.
    files : mapping
        Size in bytes and SHA-256 of each file, by its path from the bundle's directory.
    parity : mapping
        How the bundle compared with an independent forward pass when it was exported.
    sha256 : str
        Of the manifest's fields, and so of all that the bundle holds.
    """

    path: Path
    model: str
    revision: str | None
    weights_sha256: str
    license: str
    precisions: tuple[str, ...]
    refused: Mapping[str, Mapping[str, str]]
    sample_rate: int
    hop: int
    receptive_field: int
    layers: int
    dim: int
    heads: int
    inner_dim: int
    channels: tuple[int, ...]
    convolution_norms: bool
    position_groups: int
    pre_norm: bool
    layer_norm_epsilon: float
    rows_per_frame: int
    position_taps: int
    trained: bool
    files: Mapping[str, Mapping[str, Any]]
    parity: Mapping[str, Any]
    sha256: str

    def frames(self, samples: int) -> int:
        """Frames that a clip of `samples` samples gives: 0 if it is shorter than the receptive field."""
        return max(0, (samples - self.receptive_field) // self.hop + 1)

    def times(self, begin: int, end: int) -> NDArray[np.float64]:
        """Return the middles of what frames `begin` to `end` see, in seconds from a clip's start: float64 [frames]."""
        return (np.arange(begin, end) * self.hop + self.receptive_field / 2) / self.sample_rate

    def require(self, precision: str, provider: str) -> None:
        """Make sure that a precision was compared with fp32 when the bundle was exported, and was close enough.

        Raises
        ------
        BundleError
            It was not, or not on this provider.
        """
        if precision not in self.precisions:
            wanted = " ".join(f"--precision {name}" for name in (*self.precisions, precision) if name != "fp32")
            source = self.model if self.revision else "SOURCE"
            raise BundleError(
                f"{self.path} was exported in {', '.join(self.precisions)}, not in {precision}. Export it again from "
                f"its checkpoint: mertric export {source} -o {self.path} --force {wanted}"
            )
        if why := self.refused.get(precision, {}).get(provider):
            raise BundleError(
                f"{self.path} must not be computed in {precision} on {provider}: {why}. Choose another provider or "
                "precision, or export the bundle again on this machine, with --verify and your own audio."
            )

    def graphs(self, precision: str) -> Path:
        """Return the directory of the graphs in a precision.

        Raises
        ------
        BundleError
            Another bundle has taken the place of this one, or none is there any more.
        """
        try:
            there = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            there = None
        if there != self.sha256:
            what = "is gone" if there is None else "was replaced"
            raise BundleError(f"{self.path} {what} since it was loaded. Load it again.")
        return self.path / precision

    def frontend(self, precision: str, attention: str) -> Path:
        """Return the front end's graph in a precision.

        Where there are two, encoder graphs of ONNX operators alone go with the portable one.
        """
        portable = attention in PORTABLE and f"{precision}/{PORTABLE_FRONTEND}" in self.files
        return self.graphs(precision) / (PORTABLE_FRONTEND if portable else FRONTEND)

    def check_files(self, precision: str) -> None:
        """Compare every file that a precision needs with its recorded size and SHA-256.

        Raises
        ------
        BundleError
            A file is missing, truncated or changed.
        """
        for name in self.files:
            if PurePosixPath(name).parts[0] in (precision, FOLD):
                self._check_file(name)

    def first_convolution(self) -> FirstConvolution:
        """Read the fold's constants.

        Raises
        ------
        BundleError
            Their file is missing, truncated or changed.
        """
        self._check_file(FOLD)
        with np.load(self.path / FOLD) as arrays:
            group = "scale" in arrays
            return FirstConvolution(
                weight=arrays["weight"],
                bias=arrays["bias"],
                stride=int(arrays["stride"]),
                normalize_epsilon=float(arrays["normalize_epsilon"]),
                scale=arrays["scale"] if group else None,
                offset=arrays["offset"] if group else None,
                norm_epsilon=float(arrays["norm_epsilon"]),
            )

    def _check_file(self, name: str) -> None:
        file, expected = self.path / name, self.files[name]
        if not file.is_file():
            raise BundleError(f"{file} is missing from the bundle. {_AGAIN}")
        try:
            size = file.stat().st_size
            if size != expected["bytes"]:
                raise BundleError(f"{file} has {size} bytes; the bundle's manifest says {expected['bytes']}. {_AGAIN}")
            digest = sha256(file)
        except OSError as error:
            raise BundleError(f"{file} cannot be read ({error.strerror or error}). Check its permissions.") from error
        if digest != expected["sha256"]:
            raise BundleError(
                f"{file} is damaged: its SHA-256 is {digest}, the bundle's manifest says {expected['sha256']}. {_AGAIN}"
            )


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle's manifest. `Bundle.check_files` checks the rest.

    Raises
    ------
    BundleError
        There is no bundle at `path`, or its manifest is broken or of another format version.
    """
    path = Path(path).absolute()
    manifest = path / MANIFEST
    if not manifest.is_file():
        if (path / "config.json").is_file():
            raise BundleError(f"{path} is a checkpoint, not a bundle. Convert it: mertric export {path} -o BUNDLE")
        what = f"holds no {MANIFEST}" if path.is_dir() else "is no folder" if path.exists() else "does not exist"
        raise BundleError(f"{path} {what}; expected a bundle as `mertric export` writes it.")
    try:
        fields = json.loads(manifest.read_text(encoding="utf-8"))
        version = fields.pop("format")
        if version != FORMAT:
            raise BundleError(f"{path} is a bundle of format {version}; this mertric reads {FORMAT}. {_AGAIN}")
        if fields["sha256"] != manifest_digest(fields):
            raise BundleError(f"{manifest} is damaged: its fields do not give the SHA-256 it holds. {_AGAIN}")
        fields.pop("created_by", None)
        for name in ("precisions", "channels"):
            fields[name] = tuple(fields[name])
        return Bundle(path=path, **fields)
    except OSError as error:
        raise BundleError(f"{manifest} cannot be read ({error.strerror or error}). Check its permissions.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{manifest} is not the manifest of a bundle ({error!r}). {_AGAIN}") from error


def outdated_precisions(path: Path) -> tuple[str, ...]:
    """Return the precisions of a bundle of an earlier format version; none if there is no such bundle at `path`."""
    try:
        fields = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return tuple(map(str, fields["precisions"])) if fields["format"] < FORMAT else ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # `read_bundle` says what is wrong
        return ()


def manifest_digest(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's fields, ``format`` and ``sha256`` left out, as hexadecimal digits."""
    kept = {name: value for name, value in fields.items() if name not in ("format", "sha256")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()
