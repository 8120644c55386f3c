"""Correlation tables as LaTeX with booktabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mertric.listening.analysis import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mertric.listening.analysis import Result

_COEFFICIENTS = {"spearman": "SRCC", "pearson": "PCC", "kendall": "KRCC"}
_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex_tables(results: Sequence[Result]) -> str:
    """Lay out results as one ``table`` a level: metrics down, groups across with SRCC, PCC and KRCC each.

    The greatest magnitude of each column is bold, judged by what is printed; undefined coefficients are
    dashes. The text needs ``\\usepackage{booktabs}``.
    """
    levels = [level for level in LEVELS if any(result.level == level for result in results)]
    head = "% \\usepackage{booktabs}"
    return "\n\n".join([head, *(_table([r for r in results if r.level == level], level) for level in levels)]) + "\n"


def _table(results: Sequence[Result], level: str) -> str:
    groups = list(dict.fromkeys(result.group for result in results))
    metrics = list(dict.fromkeys(result.metric for result in results))
    values = {
        (result.metric, result.group, name): getattr(result.correlation, name).value
        for result in results
        for name in _COEFFICIENTS
    }
    columns = [(group, name) for group in groups for name in _COEFFICIENTS]
    best = {column: _best([values.get((metric, *column)) for metric in metrics]) for column in columns}
    body = []
    for metric in metrics:
        cells = [_cell(values.get((metric, *column)), best[column]) for column in columns]
        body.append(f"{_escape(str(metric))} & {' & '.join(cells)} \\\\")
    what = "items" if level == "item" else "model means"
    counts = ", ".join(
        f"{_escape(group)} {max(result.correlation.n for result in results if result.group == group)}"
        for group in groups
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{Correlation of metrics with listeners' ratings over {what} ({counts})."
            r" Bold: greatest magnitude.}",
            rf"\begin{{tabular}}{{l{'rrr' * len(groups)}}}",
            r"\toprule",
            " & ".join(["", *(rf"\multicolumn{{3}}{{c}}{{{_escape(group)}}}" for group in groups)]) + r" \\",
            " ".join(rf"\cmidrule(lr){{{3 * i + 2}-{3 * i + 4}}}" for i in range(len(groups))),
            " & ".join(["Metric", *(_COEFFICIENTS[name] for _, name in columns)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _best(values: Sequence[float | None]) -> float | None:
    return max((round(abs(value), 2) for value in values if value is not None), default=None)


def _cell(value: float | None, best: float | None) -> str:
    if value is None:
        return "--"
    printed = f"${value:.2f}$"
    return rf"\textbf{{\boldmath{printed}}}" if round(abs(value), 2) == best else printed


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
