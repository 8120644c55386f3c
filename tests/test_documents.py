"""The documents' tables are those that the benchmarks' JSON makes."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_results():
    from tables import filled

    document = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    results = sorted((BENCHMARKS / "results").glob("*.json"))
    assert len(results) == document.count("<!-- benchmark ")
    assert filled(document, results) == document


def test_readme():
    from summary import README, summarised

    document = README.read_text(encoding="utf-8")
    assert summarised(document) == document


def test_a_document_without_marks_is_refused():
    from tables import fill

    with pytest.raises(ValueError, match="has no <!-- benchmark other -->"):
        fill("<!-- benchmark one -->\n<!-- end of benchmark one -->", "other", "text")
