"""What `mertric doctor` finds out: versions, providers, kernels, bundles."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mertric.bundle import MANIFEST, read_bundle
from mertric.cache import cache_directory
from mertric.choice import probe, unable
from mertric.cores import cores
from mertric.errors import BundleError, DependencyError, OutputError
from mertric.kernels.costs import compile_report
from mertric.providers import PROVIDERS
from mertric.session import installed_runtimes

if TYPE_CHECKING:
    from mertric.providers import Provider

Row = dict[str, object]
_PACKAGES = ("mertric", "numpy", "scipy", "numba", "soundfile", "onnx", "huggingface-hub", "matplotlib")
_EXTRAS = {"export": ("onnx", "huggingface_hub"), "plots": ("matplotlib",), "optimum": ("optimum", "torch")}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def diagnose() -> list[Row]:
    """Return rows of ``kind``, ``name``, ``state`` (``ok``, ``missing`` or ``problem``) and ``detail``."""
    return [*_machine(), *_packages(), *_providers(), *_kernels(), *_bundles()]


def _row(kind: str, name: str, state: str, detail: str) -> Row:
    return {"kind": kind, "name": name, "state": state, "detail": detail}


def _machine() -> list[Row]:
    return [
        _row("machine", "system", "ok", f"{platform.platform()}, {cores()} cores"),
        _row("machine", "python", "ok", f"{platform.python_version()} at {sys.executable}"),
        _cache(),
    ]


def _cache() -> Row:
    try:
        return _row("machine", "cache", "ok", str(cache_directory()))
    except OutputError as error:
        return _row("machine", "cache", "problem", str(error))


def _packages() -> list[Row]:
    rows = []
    for name in _PACKAGES:
        try:
            rows.append(_row("package", name, "ok", version(name)))
        except PackageNotFoundError:
            rows.append(_row("package", name, "missing", "optional"))
    runtimes = installed_runtimes()
    rows += [_row("package", name, "ok", number) for name, number in runtimes.items()]
    rivals = [name for name in _RUNTIMES if name in runtimes]
    if len(rivals) > 1:
        advice = f"these overwrite one another: pip uninstall {' '.join(rivals)}, then install the one you need"
        rows.append(_row("package", " + ".join(rivals), "problem", advice))
    for extra, modules in _EXTRAS.items():
        absent = [module for module in modules if find_spec(module) is None]
        detail = f'pip install "mertric[{extra}]"' if absent else ", ".join(modules)
        rows.append(_row("extra", extra, "missing" if absent else "ok", detail))
    return rows


def _providers() -> list[Row]:
    rows = []
    for provider in PROVIDERS.values():
        try:
            problem = probe(provider)
        except DependencyError as error:
            problem = str(error)
        detail = ", ".join(precision + _reservation(provider, precision) for precision in provider.precisions)
        if problem is not None:
            detail = f"{problem}. It needs {provider.needs}."
        rows.append(_row("provider", provider.name, "ok" if problem is None else "missing", detail))
    return rows


def _reservation(provider: Provider, precision: str) -> str:
    """What to say of a precision of a provider that works."""
    if unable(provider, precision):
        return " (not on this processor)"
    return " by name only" if precision in provider.by_name_only else ""


def _kernels() -> list[Row]:
    report = compile_report()
    where = report.cache_directory or "memory only, no cache directory is writable"
    detail = f"first calls took {report.seconds:.2f} s, {report.compiled} of {len(report.kernels)} compiled; {where}"
    return [_row("kernels", "numba", "ok", detail)]


def _bundles() -> list[Row]:
    rows: list[Row] = []
    try:
        manifests = sorted(cache_directory().glob(f"*/*/**/{MANIFEST}"))
    except OutputError:  # which `_cache` says
        return rows
    for manifest in manifests:
        try:
            bundle = read_bundle(manifest.parent)
            precisions = ", ".join(
                precision + (f" (not on {', '.join(refused)})" if (refused := bundle.refused.get(precision)) else "")
                for precision in bundle.precisions
            )
            detail = f"{bundle.layers} layers of {bundle.dim}, {precisions}, license {bundle.license}, {bundle.path}"
            rows.append(_row("bundle", bundle.model, "ok", detail))
        except BundleError as error:
            rows.append(_row("bundle", manifest.parent.name, "problem", str(error)))
    return rows
