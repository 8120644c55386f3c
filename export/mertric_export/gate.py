"""Lets a provider compute in a precision only if the metrics stay what they are in fp32."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from mertric.bundle import read_bundle
from mertric.choice import probe, unable
from mertric.encoder import Encoder
from mertric.errors import ExportError, MertricError
from mertric.native.suited import unsuited
from mertric.providers import PROVIDERS
from mertric_export.comparison import METRICS, Comparison, compare
from mertric_export.emulation import runnable
from mertric_export.material import made_up_music
from mertric_export.whole import WholeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mertric_export.material import Material

BOUNDS = {"fp32": 0.005, "fp16": 0.005, "bf16": 0.02, "bf16x3": 0.001, "int8": 0.02, "int16": 0.005}
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
        What the manifest keeps: ``provider``, ``precision``, ``emulated`` (by the CPU), the fields of `Comparison`,
        the ``bound`` and ``problem``: None, or that it is beyond its bound, or could not be compared and why; the
        fields are then None.
    """
    sides = _sides(precisions, others=material is not None)
    if problem := unsuited(read_bundle(bundle)):
        sides = [side for side in sides if not PROVIDERS[side.provider].native]
    rows = [
        _row(side) | {"problem": f"{side} could not be compared with fp32 ({problem or _why_not(side)})"}
        for side in _missing(precisions, sides)
    ]
    if not sides:
        return rows
    notify("comparing precisions with fp32")
    material = material or made_up_music()
    reference = Encoder(bundle, provider="cpu")
    for side in sides:
        row = _row(side)
        try:
            with _opened(bundle, side) as other:
                found = compare(reference, other, material)
        except MertricError as error:
            row["problem"] = f"{side} could not be compared with fp32 ({error})"
        else:
            row |= asdict(found)
            row["problem"] = _excess(side, found)
        rows.append(row)
        notify(row["problem"] or f"{side} is within its bound")
    return rows


def hold_to_bounds(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Refuse providers a precision in which they change a metric by more than its bound.

    Of fp32 the rows only tell.

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
                refused.setdefault(precision, {})[provider] = problem
    if hopeless:
        without = " and ".join(f"--precision {precision}" for precision in hopeless)
        raise ExportError(f"{'; '.join(hopeless.values())}. Nothing was written. Export without {without}.")
    return refused


def runs_graphs(precision: str) -> set[str]:
    """Name the providers that run the graphs of a precision to compute in it."""
    return {name for name, provider in PROVIDERS.items() if provider.precisions.get(precision) == precision}


class Side(NamedTuple):
    """A provider in a precision; `emulated` by the CPU where nothing here runs the graphs of that precision."""

    provider: str
    precision: str
    emulated: bool = False

    def __str__(self) -> str:
        return f"{self.precision} on {self.provider}{' (emulated)' if self.emulated else ''}"


@contextmanager
def _opened(bundle: Path, side: Side) -> Iterator[Encoder]:
    """Open a side's encoder, or on the CPU the graphs that the provider would run."""
    provider = PROVIDERS[side.provider]
    with runnable(bundle, provider="cpu" if side.emulated else side.provider, precision=side.precision) as found:
        directory, run_as = found
        if not side.emulated:
            yield Encoder(directory, provider=side.provider, precision=run_as)
        elif provider.clips:
            yield WholeEncoder(directory, precision=run_as)
        else:
            yield Encoder(directory, provider="cpu", precision=run_as, attention=provider.attention)


def _excess(side: Side, found: Comparison) -> str | None:
    """Say by how much a comparison is beyond its bound; None if it is not."""
    changes = {name: float(getattr(found, name)) for name in METRICS}
    bound = BOUNDS[side.precision]
    beyond = [name for name, change in changes.items() if not change <= bound]
    if not beyond:
        return None
    metric = max(beyond, key=lambda name: changes[name])
    return (
        f"{side} changes {metric} by {changes[metric]:.2%}, expected at most {bound:.1%}: {found.worst_pair}, "
        f"of {found.material}"
    )


def _row(side: Side) -> dict[str, Any]:
    """What is kept of a comparison, before it."""
    return side._asdict() | {
        **dict.fromkeys(field.name for field in fields(Comparison)),
        "bound": BOUNDS[side.precision],
    }


def _missing(precisions: Sequence[str], sides: Sequence[Side]) -> list[Side]:
    """Name who computes in the precisions of which there is no side."""
    there = {"fp32", *(side.precision for side in sides)}
    return [
        Side(name, precision)
        for precision in precisions
        for name, provider in PROVIDERS.items()
        if precision not in there and precision in provider.precisions
    ]


def _why_not(side: Side) -> str | None:
    """Say why a side cannot run here; None if it can."""
    provider = PROVIDERS[side.provider]
    return unable(provider, side.precision) or probe(provider)


def _sides(precisions: Sequence[str], *, others: bool) -> list[Side]:
    """Choose what to compare: all that compute in `precisions` and, where `others` are too, every provider's fp32."""
    works = cache(lambda name: probe(PROVIDERS[name]) is None)
    sides: list[Side] = []
    for precision in precisions:
        if precision == "fp32":
            continue
        having = [name for name, provider in PROVIDERS.items() if precision in provider.precisions]
        able = [name for name in having if unable(PROVIDERS[name], precision) is None and works(name)]
        sides += [Side(name, precision) for name in able]
        running = runs_graphs(precision)
        if running.isdisjoint(able):
            sides += [Side(name, precision, emulated=True) for name in PROVIDERS if name in running]
    exact = [name for name, provider in PROVIDERS.items() if "fp32" in provider.precisions and name != "cpu"]
    return sides + [Side(name, "fp32") for name in exact if others and works(name)]
