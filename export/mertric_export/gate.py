"""Lets a precision into a bundle only if the metrics stay what they are in fp32."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from mertric.encoder import Encoder
from mertric.errors import ExportError, MertricError
from mertric.providers import PROVIDERS
from mertric.session import probe
from mertric_export.comparison import METRICS, compare
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
        `Comparison` and the ``bound``, to which `hold_to_bounds` holds them.

    Raises
    ------
    ExportError
        Another precision than fp32 fails. A provider that fails in fp32 is left out.
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
        try:
            with runnable(bundle, provider=provider, precision=precision) as (directory, run_as):
                whole = run_as != precision and PRECISIONS[precision].clips is not None  # as a GPU would
                kind = WholeEncoder if whole else Encoder
                found = compare(reference, kind(directory, provider=provider, precision=run_as), material)
        except MertricError as error:
            problem = f"{precision} on {provider} could not be compared with fp32 ({error})"
            if precision != "fp32":
                raise ExportError(f"{problem}. Nothing was written. Export without --precision {precision}.") from error
            notify(problem)
            continue
        row = {"provider": provider, "precision": precision, "graphs": graphs, **asdict(found)}
        rows.append(row | {"bound": BOUNDS[precision]})
    return rows


def hold_to_bounds(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse precisions that change a metric by more than their bound; of fp32 the rows only tell.

    Raises
    ------
    ExportError
        One of the rows, which `compare_precisions` gave, is beyond its bound.
    """
    beyond = {row["precision"]: problem for row in rows if row["precision"] != "fp32" and (problem := excess(row))}
    if beyond:
        without = " and ".join(f"--precision {precision}" for precision in beyond)
        raise ExportError(f"{'; '.join(beyond.values())}. Nothing was written. Export without {without}.")


def excess(row: Mapping[str, Any]) -> str | None:
    """Say by how much a row of `compare_precisions` is beyond its bound; None if it is not."""
    beyond = [name for name in METRICS if not row[name] <= row["bound"]]
    if not beyond:
        return None
    metric = max(beyond, key=lambda name: float(row[name]))
    return (
        f"{row['precision']} on {row['provider']} changes {metric} by {row[metric]:.2%}, expected "
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
        graphs_run = any(PROVIDERS[name].precisions[precision] == precision for name in able)
        sides += [(name, precision) for name in (able if graphs_run else [*able, "cpu"])]
    return sides + [(name, "fp32") for name in PROVIDERS if others and name != "cpu" and works(name)]
