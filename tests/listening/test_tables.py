from __future__ import annotations

import pytest

from mertric.errors import TableError
from mertric.listening.tables import number, read_table


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_any_delimiter_and_byte_order_mark(write, delimiter):
    table = read_table(write("a.csv", "\ufeff" + "id,sdr\nx,1.5\ny,\n".replace(",", delimiter)))
    assert table.columns == ("id", "sdr")
    assert [dict(row) for row in table.rows] == [{"id": "x", "sdr": "1.5"}, {"id": "y", "sdr": None}]
    assert table.places == ("a.csv, line 2", "a.csv, line 3")


def test_rows_of_wrong_length_are_reported_by_line_and_skipped(write):
    table = read_table(write("a.csv", 'id,note\nx,"two\nlines"\ny,1,2\n\nz,ok\n'))
    assert [row["id"] for row in table.rows] == ["x", "z"]
    assert table.places == ("a.csv, line 2", "a.csv, line 6")
    assert list(map(str, table.problems)) == ["a.csv, line 4: 3 fields, expected 2; row skipped"]


def test_json_rows_keep_numbers_and_report_what_is_no_object(write):
    table = read_table(write("a.json", '[{"id": "x", "sdr": 1, "mse": "-inf"}, 7, {"sdr": null, "flag": true}]'))
    assert table.columns == ("id", "sdr", "mse", "flag")
    assert table.rows[0] == {"id": "x", "sdr": 1.0, "mse": "-inf"}
    assert table.rows[1] == {"sdr": None, "flag": "True"}
    assert str(table.problems[0]) == "a.json, row 2: a int, expected an object; row skipped"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "id,sdr\n", "has no rows"),
        ("a.csv", "id,id\nx,y\n", "names columns twice: 'id'"),
        ("a.json", "{", r"is not JSON \(.*line 1 column 2"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.csv", 'id,sdr\nx,1\ny,"' + "2" * 200_000, r"is not CSV \(line 3: .*\); check its quotation marks"),
        ("a.json", "{}", "JSON dict; expected an array"),
        ("a.json", "[]", "has no rows"),
    ],
)
def test_what_is_no_table_is_refused(write, name, text, message):
    with pytest.raises(TableError, match=message):
        read_table(write(name, text))


def test_blank_lines_before_the_header(write):
    table = read_table(write("a.csv", "\n\nid;sdr\n\nx;1.5\n"))
    assert [dict(row) for row in table.rows] == [{"id": "x", "sdr": "1.5"}]
    assert table.places == ("a.csv, line 5",)


def test_an_index_is_no_column(write):
    """As pandas writes it, once and again."""
    table = read_table(write("a.csv", ",,Unnamed: 0,id,Unnamed: 0.1,sdr\n0,0,0,x,0,1\n1,1,1,y,1,2\n"))
    assert table.columns == ("id", "sdr")
    assert [dict(row) for row in table.rows] == [{"id": "x", "sdr": "1"}, {"id": "y", "sdr": "2"}]


def test_only_line_breaks_end_rows(write):
    table = read_table(write("a.csv", "track,sdr\r\nA\u2028B\x0cC,1\r\nD,2\r\n"))
    assert [row["track"] for row in table.rows] == ["A\u2028B\x0cC", "D"]
    assert table.places == ("a.csv, line 2", "a.csv, line 3")


def test_an_integer_that_no_float_holds_is_text(write):
    table = read_table(write("a.json", '[{"id": "x", "sdr": 1' + 400 * "0" + "}]"))
    assert table.rows[0]["sdr"] == "1" + 400 * "0"


def test_absent_and_undecodable_files(tmp_path):
    with pytest.raises(TableError, match="No such file"):
        read_table(tmp_path / "absent.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes("id,sdr\nü,1\n".encode("latin-1"))
    with pytest.raises(TableError, match=r"not UTF-8 text \(byte 7\)"):
        read_table(path)


def test_number():
    assert number("-inf") == float("-inf")
    assert number(None) is None
    assert number("nan") is None
    with pytest.raises(ValueError, match="could not convert"):
        number("n/a")


def test_a_delimiter_within_quotes_is_none(write):
    table = read_table(write("a.csv", '"model";"track";"rating";"notes, remarks, etc, and, more"\nm;t;1;x\n'))
    assert table.columns == ("model", "track", "rating", "notes, remarks, etc, and, more")


def test_decimal_commas_between_semicolons(write):
    (row,) = read_table(write("a.csv", "id;sdr;mse;n;note\nx;-1,5;2,5e-3;7;1,2,3\n")).rows
    assert dict(row) == {"id": "x", "sdr": "-1.5", "mse": "2.5e-3", "n": "7", "note": "1,2,3"}
    (row,) = read_table(write("a.csv", "id\tsdr\n1,5\t1,5\n")).rows
    assert dict(row) == {"id": "1,5", "sdr": "1.5"}
    (row,) = read_table(write("a.csv", 'id,sdr\nx,"1,5"\n')).rows
    assert row["sdr"] == "1,5"


def test_columns_that_have_a_meaning_are_found_in_any_case(write):
    assert read_table(write("a.csv", "Model,TRACK,SI_SDR\nm,t,1\n")).columns == ("model", "track", "SI_SDR")
    table = read_table(write("a.csv", "FilePath,Stem Type,dmos,Rating_0,Subject_Rating_0\na,b,1,1,c\n"))
    assert table.columns == ("filepath", "stem type", "DMOS", "rating_0", "subject_rating_0")
    with pytest.raises(TableError, match="names columns twice: 'track'"):
        read_table(write("a.csv", "Track,track\na,b\n"))
    table = read_table(write("a.json", '[{"Track": "a"}, {"Track": "a", "track": "b"}]'))
    assert [dict(row) for row in table.rows] == [{"track": "a"}]
    assert str(table.problems[0]) == "a.json, row 2: columns whose names differ in case only; row skipped"


def test_what_only_python_takes_for_a_number_is_text():
    with pytest.raises(ValueError, match="1_2"):
        number("1_2")


def test_integers_that_a_float_does_not_hold_stay_apart(write):
    rows = read_table(write("a.json", '[{"id": 9007199254740993}, {"id": 9007199254740992}]')).rows
    assert [row["id"] for row in rows] == ["9007199254740993", 9007199254740992.0]
