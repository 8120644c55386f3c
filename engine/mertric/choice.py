"""Which provider to run on: the one asked for, or the first that works here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mertric.device import Device
from mertric.errors import DependencyError, ProviderError
from mertric.providers import COMPUTED, PROVIDERS, get_provider
from mertric.session import first_line, square_unit_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mertric.providers import Provider


def choose_device(
    provider: str, precision: str, *, threads: int | None = None, refused: Mapping[str, str] | None = None
) -> Device:
    """Return the device for a provider's name; ``auto`` is the first of `PROVIDERS` that runs a small model here.

    ``auto`` passes over those that are for the precision `Provider.by_name_only`, and over the `refused`, by their
    names, for the reasons given.

    Raises
    ------
    DependencyError
        ONNX Runtime is not installed, and nothing works without.
    ProviderError
        The name or the precision is not known, or the provider does not work here; the message says why.
    """
    if provider != "auto":
        chosen = get_provider(provider, precision)
        if problem := probe(chosen):
            raise ProviderError(f"provider {provider} does not work here: {problem}. It needs {chosen.needs}.")
        if problem := unable(chosen, precision):
            raise ProviderError(
                f"provider {provider} is not for {precision} here: {problem}. Choose another of either."
            )
        return Device(provider=chosen, precision=precision, threads=threads)
    able = [one for one in PROVIDERS.values() if precision in one.precisions and precision not in one.by_name_only]
    if not able:
        raise ProviderError(f"no provider computes in {precision!r}; expected {', '.join(COMPUTED)}.")
    problems: dict[str, str] = {}
    missing: DependencyError | None = None
    for chosen in able:
        try:
            problem = (refused or {}).get(chosen.name) or unable(chosen, precision) or probe(chosen)
        except DependencyError as error:
            missing, problem = error, str(error)
        if not problem:
            return Device(provider=chosen, precision=precision, threads=threads)
        problems[chosen.name] = problem
    if missing is not None:
        raise missing
    tried = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
    raise ProviderError(f"no provider that computes in {precision} works here. {tried}. See `mertric doctor`.")


def probe(provider: Provider) -> str | None:
    """Run a small model on a provider, and return what is wrong with it, or None."""
    try:
        result = square_unit_matrix(provider) if not provider.native else _square_natively(provider.name)
    except DependencyError:
        raise
    except Exception as error:
        return first_line(error).rstrip(".")
    return None if np.array_equal(result, np.eye(2)) else f"it computes {result.tolist()} for the unit matrix's square"


def unable(provider: Provider, precision: str) -> str | None:
    """Say why a provider, if it works, is not for a precision on this processor; None if it is."""
    wanted = provider.instructions.get(precision)
    if wanted is None:
        return None
    from llvmlite.binding import get_host_cpu_features  # which takes long to load

    there = get_host_cpu_features()
    if any(there.get(name) for name in wanted):
        return None
    return f"this processor does not compute in {precision}, and emulating it takes many times as long as fp32"


def _square_natively(provider: str) -> NDArray[np.float32]:
    from mertric.native.trial import square_unit_matrix  # with Numba, which takes long to load

    return square_unit_matrix(provider)
