"""Lets a precision into a bundle only if the metrics stay what they are in fp32."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mertric.encoder import Encoder
from mertric.errors import ExportError, MertricError
from mertric.providers import PROVIDERS
from mertric.session import probe
from mertric_export.comparison import METRICS, compare
from mertric_export.material import made_up_music
from mertric_export.precisions import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mertric_export.material import Material

BOUNDS = {"fp32": 0.005, "fp16": 0.005, "bf16": 0.02, "int8": 0.02}
"""Largest change of a metric by a precision, as a part of the metric."""


def compare_precisions(
    bundle: Path, precisions: Sequence[str], material: Material | None, *, notify: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Compare providers and precisions with the fp32 graphs on the CPU.

    Parameters
    ----------
    bundle
        Has graphs in `precisions`. Each is compared on the first provider that works of its `Precision.providers`.
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
        Graphs in one of `precisions` change a metric by more than the bound. Of what runs fp32 graphs it is only noted.
    """
    sides = _sides(precisions, everything=material is not None)
    if not sides:
        return []
    notify("comparing precisions with fp32")
    material = material or made_up_music()
    reference = Encoder(bundle, provider="cpu")
    rows = []
    for provider, precision in sides:
        graphs = PROVIDERS[provider].precisions[precision]
        try:
            found = compare(reference, Encoder(bundle, provider=provider, precision=precision), material)
        except MertricError as error:
            problem = f"{precision} on {provider} could not be compared with fp32 ({error})"
            if graphs != "fp32":
                raise ExportError(f"{problem}. Nothing was written. Export without --precision {precision}.") from error
            notify(problem)
            continue
        row = {"provider": provider, "precision": precision, "graphs": graphs, **asdict(found)}
        rows.append(row | {"bound": BOUNDS[precision]})
        if graphs != "fp32" and (beyond := excess(rows[-1])):
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
        f"{row['precision']} on {row['provider']} changes {metric} by {row[metric]:.2%} of its value in fp32, expected "
        f"at most {row['bound']:.1%}: {row['worst_pair']}, of {row['material']}"
    )


def _sides(precisions: Sequence[str], *, everything: bool) -> list[tuple[str, str]]:
    """Choose what to compare: provider and precision."""
    works = {name: probe(provider) is None for name, provider in PROVIDERS.items()}
    sides = [
        (next(name for name in PRECISIONS[precision].providers if works[name]), precision)
        for precision in precisions
        if precision != "fp32"
    ]
    if everything:
        sides += [
            (name, precision)
            for name, provider in PROVIDERS.items()
            for precision in provider.fast_precisions
            if works[name] and provider.precisions[precision] in precisions
        ]
    return [side for side in dict.fromkeys(sides) if side != ("cpu", "fp32")]
