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
        Has graphs in `precisions`. Each is compared on the providers that work of its `Precision.providers`; where none
        does, the CPU emulates it.
    material
        Given, every other provider and precision that works here is compared too. None is made-up music.
    notify
        Gets a line for each.

    Returns
    -------
    list of dict
        What the manifest keeps: ``provider``, ``precision``, ``graphs`` (the precision of its graphs), the fields of
        `Comparison` and the ``bound``.

    Raises
    ------
    ExportError
        Graphs in one of `precisions` change a metric by more than the bound, or fail. Of all else it is only noted.
    """
    gating, noted = _sides(precisions, everything=material is not None)
    if not (gating or noted):
        return []
    notify("comparing precisions with fp32")
    material = material or made_up_music()
    reference = Encoder(bundle, provider="cpu")
    rows = []
    for provider, precision in (*gating, *noted):
        graphs = PROVIDERS[provider].precisions.get(precision, precision)
        try:
            with runnable(bundle, provider=provider, precision=precision) as (directory, run_as):
                found = compare(reference, Encoder(directory, provider=provider, precision=run_as), material)
        except MertricError as error:
            problem = f"{precision} on {provider} could not be compared with fp32 ({error})"
            if (provider, precision) in gating:
                raise ExportError(f"{problem}. Nothing was written. Export without --precision {precision}.") from error
            notify(problem)
            continue
        row = {"provider": provider, "precision": precision, "graphs": graphs, **asdict(found)}
        rows.append(row | {"bound": BOUNDS[precision]})
        if (provider, precision) in gating and (beyond := excess(rows[-1])):
            raise ExportError(
                f"{beyond}. Nothing was written. Export without --precision {precision}, or see with "
                "--verify what it does to your own audio."
            )
    return rows


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


def _sides(precisions: Sequence[str], *, everything: bool) -> tuple[list[Side], list[Side]]:
    """Choose what to compare: what decides whether a precision is written, and what is only noted."""
    works = cache(lambda name: probe(PROVIDERS[name]) is None)
    gating: list[Side] = []
    for precision in precisions:
        if precision != "fp32":
            able = [name for name in PRECISIONS[precision].providers if works(name)]
            gating += [(name, precision) for name in able or ["cpu"]]
    every = [
        (name, precision)
        for name, provider in (PROVIDERS.items() if everything else ())
        for precision in provider.precisions
        if provider.precisions[precision] in precisions and works(name)
    ]
    return gating, [side for side in every if side not in gating and side != ("cpu", "fp32")]
