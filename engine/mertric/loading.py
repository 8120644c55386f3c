"""`mertric.load`: a bundle's directory, or a hub id whose bundle is made at the first use."""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from pathlib import Path

from mertric.bundle import MANIFEST, outdated_precisions
from mertric.cache import bundle_directory
from mertric.choice import choose_device
from mertric.encoder import Encoder
from mertric.errors import BundleError, DependencyError

DEFAULT_MODEL = "m-a-p/MERT-v1-95M"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load(
    model: Path | str = DEFAULT_MODEL,
    *,
    provider: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    chunk: int | None = None,
) -> Encoder:
    """Load a model.

    Parameters
    ----------
    model
        A bundle's directory as `mertric export` writes it, or a hub id such as ``m-a-p/MERT-v1-95M``. The weights
        of a hub id are fetched and converted at its first use, to fp32 and `precision`, and the bundle is kept in the
        user's cache. Another precision later needs ``mertric export``, with ``--force`` and all precisions wanted.
    provider, precision, threads, chunk
        See `Encoder`.

    Raises
    ------
    BundleError
        There is no such bundle, it is damaged, or it was not exported in `precision`.
    CheckpointError, ConfigurationError, ExportError
        The hub id's weights cannot be fetched or converted.
    DependencyError, ProviderError
        A package, the provider or the precision is not there.
    InputError
        `threads` or `chunk` cannot be.
    OutputError
        The user has no home directory for the cache.
    """
    bundle = find_bundle(model, provider=provider, precision=precision)
    return Encoder(bundle, provider=provider, precision=precision, threads=threads, chunk=chunk)


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id, an owner's and a model's name."""
    return _HUB_ID.fullmatch(name) is not None


def find_bundle(model: Path | str, *, provider: str = "auto", precision: str = "fp32") -> Path:
    """Return the bundle's directory of a model, which is converted first if it is a hub id not used before.

    A hub id's bundle that an earlier release of mertric wrote, in another format, is converted anew, in the precisions
    that it had and this one.

    Nothing is fetched for a provider or a precision that is not there.
    """
    path = Path(model)
    with suppress(OSError):  # as of a name longer than there can be
        if path.exists():
            return path
    name = str(model)
    if not is_hub_id(name):
        raise BundleError(f"{name} does not exist; expected a bundle's directory or a hub id such as {DEFAULT_MODEL}.")
    directory = bundle_directory(name)
    outdated = outdated_precisions(directory)
    if outdated or not (directory / MANIFEST).is_file():
        if path.parent.exists() and name != DEFAULT_MODEL and not outdated:
            raise BundleError(
                f"{path.parent} holds no {path.name}; expected a bundle's directory. If {name} is meant as a hub id, "
                f"run where no folder {path.parent} is."
            )
        try:
            exporting = importlib.import_module("mertric_export.hub_export")
        except ImportError as error:
            raise DependencyError(
                f"{name} must first be fetched and converted, for which {error.name or error} is missing. "
                'Run: pip install "mertric[export]"'
            ) from error
        choose_device(provider, precision)
        exporting.export_where_needed(name, directory, precision=precision)
    return directory
