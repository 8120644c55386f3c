"""Lets a provider compute in a precision only if the metrics stay what they are in fp32."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from mertric.encoder import Encoder
from mertric.errors import ExportError, MertricError
from mertric.providers import PROVIDERS
from mertric.session import probe
from mertric_export.comparison import METRICS, Comparison, compare
from mertric_export.emulation import runnable
from mertric_export.material import made_up_music
from mertric_export.precisions import PRECISIONS
from mertric_export.whole import WholeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mertric_export.material import Material

BOUNDS = {"fp32": 0.005, "fp16": 0.005, "bf16": 0.02, "int8": 0.02}
"""Largest change of a metric by a precision, as `Comparison` measures it."""


def compare_precisions(
    bundle: Path, precisions: Sequence[str], material: Material | None, *, notify: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Compare providers and precisions with the fp32 graphs on the CPU.

    Parameters
    ----------
    bundle
        Has graphs in `precisions`. Each is compared on every provider here that computes in it; the CPU emulates its
        graphs where nothing here runs them.
    material
        Given, other providers' fp32 is compared too. None is made-up music.
    notify
        Gets a line for each.

    Returns
    -------
    list of dict
        What the manifest keeps: ``provider``, ``precision``, ``graphs`` (the precision of its graphs), the fields of
        `Comparison`, the ``bound`` and ``problem``: None, or that it is beyond its bound, or could not be compared
        and why; the fields are then None.
    """
    sides = _sides(precisions, others=material is not None)
    if not sides:
        return []
    notify("comparing precisions with fp32")
    material = material or made_up_music()
    reference = Encoder(bundle, provider="cpu")
    rows = []
    for provider, precision in sides:
        graphs = PROVIDERS[provider].precisions.get(precision, precision)
        row: dict[str, Any] = {"provider": provider, "precision": precision, "graphs": graphs}
        row |= {**dict.fromkeys(field.name for field in fields(Comparison)), "bound": BOUNDS[precision]}
        try:
            with runnable(bundle, provider=provider, precision=precision) as (directory, run_as):
                whole = run_as != precision and PRECISIONS[precision].clips is not None  # as a GPU would
                kind = WholeEncoder if whole else Encoder
                found = compare(reference, kind(directory, provider=provider, precision=run_as), material)
        except MertricError as error:
            row["problem"] = f"{_where(provider, precision)} could not be compared with fp32 ({error})"
        else:
            row |= asdict(found)
            row["problem"] = _excess(row)
        rows.append(row)
        notify(row["problem"] or f"{_where(provider, precision)} is within its bound")
    return rows


def hold_to_bounds(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Refuse providers a precision in which they change a metric by more than its bound.

    Where the CPU emulates a precision's graphs, what it finds holds for all providers that run them. Of fp32 the rows
    only tell.

    Parameters
    ----------
    rows
        From `compare_precisions`.

    Returns
    -------
    dict of str to dict of str to str
        By precision and provider, why it is refused.

    Raises
    ------
    ExportError
        None of a precision's rows is within its bound.
    """
    refused: dict[str, dict[str, str]] = {}
    hopeless: dict[str, str] = {}
    for precision in dict.fromkeys(row["precision"] for row in rows if row["precision"] != "fp32"):
        problems = {row["provider"]: row["problem"] for row in rows if row["precision"] == precision}
        if all(problems.values()):
            hopeless[precision] = "; ".join(problems.values())
        for provider, problem in problems.items():
            if problem:
                refused.setdefault(precision, {}).update(dict.fromkeys(_judged(provider, precision), problem))
    if hopeless:
        without = " and ".join(f"--precision {precision}" for precision in hopeless)
        raise ExportError(f"{'; '.join(hopeless.values())}. Nothing was written. Export without {without}.")
    return refused


def runs_graphs(precision: str) -> set[str]:
    """Name the providers that run the graphs of a precision to compute in it."""
    return {name for name, provider in PROVIDERS.items() if provider.precisions.get(precision) == precision}


def _judged(provider: str, precision: str) -> list[str]:
    """Name the providers that a comparison on one holds for: itself, or those whose graphs the CPU emulates."""
    return [provider] if precision in PROVIDERS[provider].precisions else sorted(runs_graphs(precision))


def _where(provider: str, precision: str) -> str:
    emulated = "" if precision in PROVIDERS[provider].precisions else " (emulated)"
    return f"{precision} on {' and '.join(_judged(provider, precision))}{emulated}"


def _excess(row: Mapping[str, Any]) -> str | None:
    """Say by how much a comparison is beyond its bound; None if it is not."""
    beyond = [name for name in METRICS if not row[name] <= row["bound"]]
    if not beyond:
        return None
    metric = max(beyond, key=lambda name: float(row[name]))
    return (
        f"{_where(row['provider'], row['precision'])} changes {metric} by {row[metric]:.2%}, expected "
        f"at most {row['bound']:.1%}: {row['worst_pair']}, of {row['material']}"
    )


Side = tuple[str, str]
"""A provider and a precision."""


def _sides(precisions: Sequence[str], *, others: bool) -> list[Side]:
    """Choose what to compare: all that compute in `precisions` and, where `others` are too, every provider's fp32."""
    works = cache(lambda name: probe(PROVIDERS[name]) is None)
    sides: list[Side] = []
    for precision in precisions:
        if precision == "fp32":
            continue
        able = [name for name, provider in PROVIDERS.items() if precision in provider.precisions and works(name)]
        graphs_run = not runs_graphs(precision).isdisjoint(able)
        sides += [(name, precision) for name in (able if graphs_run else [*able, "cpu"])]
    return sides + [(name, "fp32") for name in PROVIDERS if others and name != "cpu" and works(name)]
