from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from mertric.errors import PairingError
from mertric.manifest import read_manifest
from mertric.pairing import Pair

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "reference,estimate,model,track,stem,model_type\n"


@pytest.fixture
def write(tmp_path: Path):
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_csv_with_paths_relative_to_the_manifest(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    path = write(
        "m.csv", "\ufeff" + HEADER + "ref/a.wav,out/a.wav,demucs,a,vocals,discriminative\n/r.wav, e.wav ,,,,\n"
    )
    assert read_manifest(path) == [
        Pair(
            reference=tmp_path / "ref/a.wav",
            estimate=tmp_path / "out/a.wav",
            model="demucs",
            track="a",
            stem="vocals",
            model_type="discriminative",
        ),
        Pair(reference=type(tmp_path)("/r.wav"), estimate=tmp_path / "e.wav", track="/r.wav"),
    ]


def test_two_columns_are_enough(write, tmp_path):
    (pair,) = read_manifest(write("m.csv", "estimate,reference\ne.wav,r.wav\n"))
    assert (pair.reference, pair.estimate, pair.problem) == (tmp_path / "r.wav", tmp_path / "e.wav", None)


def test_names_may_hold_what_csv_quotes(write, tmp_path):
    names = ["with, comma.wav", 'with "quotes".wav', "with\nnewline.wav"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    pairs = read_manifest(write("m.csv", "reference,estimate\n" + "".join(f"{name},{name}\n" for name in quoted)))
    assert [pair.reference for pair in pairs] == [tmp_path / name for name in names]


def test_json_says_the_same_as_csv(write):
    rows = [{"reference": "r.wav", "estimate": "e.wav", "model": None, "track": 7}]
    found = read_manifest(write("m.json", json.dumps(rows)))
    assert found == read_manifest(write("m.csv", "reference,estimate,track\nr.wav,e.wav,7\n"))
    assert found == read_manifest(write("M.JSON", json.dumps(rows)))


def test_a_row_without_a_file_becomes_a_pair_with_a_problem(write, tmp_path):
    text = HEADER + "r.wav,,m,t,,\n,e.wav,m,t,,\n,,m,t,,\n"
    one, two, three = read_manifest(write("m.csv", text))
    assert (one.reference, one.estimate) == (tmp_path / "r.wav", None)
    assert one.problem == f"row 1 of {tmp_path / 'm.csv'} names no estimate"
    assert two.problem == f"row 2 of {tmp_path / 'm.csv'} names no reference"
    assert three.problem == f"row 3 of {tmp_path / 'm.csv'} names no reference and no estimate"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "reference,estimate\n", "lists no pairs; expected rows with reference, estimate, model"),
        ("m.csv", "reference,model\nr.wav,a\n", "row 1 of .* has the columns reference, model; expected reference and"),
        ("m.csv", "reference,estimate,layer\nr.wav,e.wav,3\n", "has the columns reference, estimate, layer"),
        ("m.csv", "reference,estimate\nr.wav,e.wav,more\n", "row 1 of .* has more fields than there are columns. Put"),
        ("m.json", "[{]", "is not JSON .*Correct it, or write the manifest as CSV"),
        ("m.json", '{"reference": "r.wav"}', "holds other JSON than an array of objects with reference, estimate"),
        ("m.json", '[{"reference": ["r.wav"], "estimate": "e.wav"}]', "array of objects .*, all text"),
        ("m.json", "[]", "lists no pairs"),
        (
            "m.csv",
            "reference,estimate,estimate\nr.wav,e.wav,f.wav\n",
            "m.csv names 'estimate' twice, as a column",
        ),
        ("m.json", '[{"reference": "r", "estimate": "e", "reference": "s"}]', "m.json names 'reference' twice"),
        ("m.json", "[" * 100_000, "m.json is not JSON"),
        ("m.csv", 'reference,estimate\nr.wav,"' + "e" * 200_000, r"m.csv is not CSV \(.*\). Check its quotation marks"),
    ],
)
def test_messages(write, name, text, message):
    with pytest.raises(PairingError, match=message):
        read_manifest(write(name, text))


def test_what_is_not_text(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "m.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(
            PairingError, match=rf"{re.escape(str(path))} cannot be read as a manifest .*CSV or JSON in"
        ):
            read_manifest(path)


def test_blank_lines_count_for_nothing(write):
    first, second = read_manifest(write("m.csv", "\r\n\nreference,estimate\na.wav,b.wav\n\nc.wav,d.wav\n"))
    assert (first.estimate.name, second.estimate.name) == ("b.wav", "d.wav")


def test_true_is_no_name_of_a_file(write):
    for row in (
        '{"reference": true, "estimate": "e.wav"}',
        '{"reference": "r.wav", "estimate": "e.wav", "model": false}',
    ):
        with pytest.raises(PairingError, match=r"array of objects .*, all text"):
            read_manifest(write("m.json", f"[{row}]"))
