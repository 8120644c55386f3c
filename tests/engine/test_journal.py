from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from mertric.errors import InputError
from mertric.journal import Journal, Outcome, journal_key

OUTCOME = Outcome(
    {"sdr": float("inf"), "si_sdr": None, "mert_mse": 0.1 + 0.2}, ("si_sdr: why",), 12, 374, ("estimate",)
)

METRICS = tuple(OUTCOME.values)
NEXT = replace(OUTCOME, layer=13)


def find(journal: Journal, key: str) -> list[Outcome] | None:
    return journal.find(key, METRICS, layers=[12])


def test_what_is_kept_is_found_again(tmp_path):
    path = tmp_path / "new/folder/j.jsonl"
    journal = Journal(path)
    journal.keep("a", [OUTCOME, NEXT])
    journal.keep("b", [OUTCOME])
    again = Journal(path)
    assert again.find("a", METRICS, layers=[12, 13]) == [OUTCOME, NEXT]
    assert find(again, "b") == [OUTCOME]
    assert find(again, "c") is None


def test_without_a_path_nothing_is_kept():
    journal = Journal(None)
    journal.keep("a", [OUTCOME])
    assert find(journal, "a") is None


@pytest.mark.parametrize("cut", [1, 2, 40, 150])
def test_a_line_that_was_cut_off_costs_that_line_alone(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    Journal(path).keep("a", [OUTCOME])
    whole = path.read_text()
    Journal(path).keep("b", [OUTCOME])
    path.write_text(path.read_text()[: -cut if cut > 1 else None][: len(whole) + cut])
    cut_off = Journal(path)
    assert find(cut_off, "a") == [OUTCOME]
    assert find(cut_off, "b") is None
    cut_off.keep("c", [OUTCOME])
    cut_off.keep("d", [OUTCOME])
    again = Journal(path)
    assert [find(again, key) for key in "abcd"] == [[OUTCOME], None, [OUTCOME], [OUTCOME]]


def test_the_first_line_may_be_the_one_cut_off(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"ke')
    Journal(path).keep("a", [OUTCOME])
    assert find(Journal(path), "a") == [OUTCOME]


def test_another_file_is_left_alone(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("reference,estimate\n")
    with pytest.raises(InputError, match=r"scores.csv is not a journal of mertric; it was left as it is. Name another"):
        Journal(path)
    with pytest.raises(InputError, match=r"the journal .* cannot be read .*Name another file"):
        Journal(tmp_path)


def test_lines_of_another_shape_are_passed_over(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).keep("a", [OUTCOME])
    path.write_text(path.read_text() + '3\n{"outcomes": []}\n{"key": "x", "outcomes": [{"values": {}}]}\n')
    assert find(Journal(path), "a") == [OUTCOME]
    assert find(Journal(path), "x") is None


@pytest.mark.parametrize(
    "change",
    [
        {"values": {}},
        {"values": [1]},
        {"values": {"sdr": 1.0}},
        {"values": dict.fromkeys(METRICS, "abc")},
        {"values": dict.fromkeys(METRICS, True)},
        {"values": dict.fromkeys(METRICS, float("nan"))},
        {"values": dict.fromkeys(METRICS), "reasons": []},
        {"reasons": [5]},
        {"silent": [1]},
        {"layer": "x"},
        {"layer": 11},
        {"frames": 1.5},
        {"more": 1},
    ],
)
def test_a_line_that_was_changed_is_computed_anew(tmp_path, change):
    path = tmp_path / "j.jsonl"
    Journal(path).keep("a", [OUTCOME])
    line = json.loads(path.read_text())
    line["outcomes"][0] |= change
    path.write_text(json.dumps(line) + "\n")
    assert find(Journal(path), "a") is None
    path.write_text(json.dumps(line | {"outcomes": []}) + "\n")
    assert find(Journal(path), "a") is None


def test_what_is_kept_anew_stands(tmp_path):
    path = tmp_path / "j.jsonl"
    for outcome in (NEXT, OUTCOME):
        Journal(path).keep("a", [outcome])
    assert find(Journal(path), "a") == [OUTCOME]


def test_keys_follow_settings_and_files(tmp_path, monkeypatch):
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    settings = {"layers": (12,), "trim": False}
    key = journal_key(settings, (first, second))
    assert journal_key(dict(reversed(settings.items())), (first, second)) == key
    assert journal_key(settings, (tmp_path / "." / "a.wav", second)) == key
    keys = {key, journal_key(settings | {"trim": True}, (first, second)), journal_key(settings, (second, first))}
    os.utime(first, ns=(1, 1))
    keys.add(journal_key(settings, (first, second)))
    first.write_bytes(b"longer")
    os.utime(first, ns=(1, 1))
    keys.add(journal_key(settings, (first, second)))
    first.unlink()
    keys.add(journal_key(settings, (first, second)))
    monkeypatch.setattr("mertric.journal.version", lambda _: "another")
    keys.add(journal_key(settings, (first, second)))
    assert len(keys) == 7


def test_a_key_is_that_of_the_file_and_not_of_its_name_from_here(tmp_path, monkeypatch):
    keys = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("a.wav").touch()
        os.utime("a.wav", ns=(1, 1))
        keys.add(journal_key({}, [Path("a.wav")]))
        assert journal_key({}, [tmp_path / folder / "a.wav"]) in keys
    assert len(keys) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_not_read(tmp_path):
    """A device may have no end."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match=r"the journal \S+fifo cannot be read \(it is not a regular file\)\. Name"):
        Journal(tmp_path / "fifo")


def test_a_journal_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "j.jsonl")
    with pytest.warns(
        UserWarning, match=r"j\.jsonl cannot be written \(.*\)\. Check .* The run goes on, and the journal"
    ):
        journal.keep("a", [OUTCOME])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        journal.keep("b", [OUTCOME])


def test_a_line_torn_within_a_character_costs_that_line_alone(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).keep("a", [OUTCOME])
    with path.open("ab") as file:
        file.write(b'{"key": "abc\xff\xfe\xc3')
    again = Journal(path)
    assert find(again, "a") == [OUTCOME]
    again.keep("b", [OUTCOME])
    assert find(Journal(path), "b") == [OUTCOME]


@pytest.mark.skipif(sys.platform == "win32", reason="there the time is that of the file's making")
def test_another_file_of_the_same_size_and_time_is_another(tmp_path):
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(file.name.encode())
        os.utime(file, (1, 1))
    key = journal_key({}, [files[0]])
    while files[1].stat().st_ctime_ns <= files[0].stat().st_ctime_ns:  # its ticks may be milliseconds
        os.utime(files[1], (1, 1))
    files[1].replace(files[0])
    assert files[0].stat().st_mtime_ns == 10**9
    assert journal_key({}, [files[0]]) != key


def test_what_follows_a_line_that_was_cut_off_stands_line_by_line(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).keep("a", [OUTCOME])
    path.write_bytes(path.read_bytes()[:-9])
    journal = Journal(path)
    for key in "bc":
        journal.keep(key, [OUTCOME])
    assert [bool(line) for line in path.read_text(encoding="utf-8").split("\n")] == [True, True, True, False]
    assert find(Journal(path), "b") == find(Journal(path), "c") == [OUTCOME]


def test_layers_come_in_the_order_asked_for_or_not_at_all(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.keep("a", [OUTCOME, NEXT])
    again = Journal(tmp_path / "j.jsonl")
    assert again.find("a", METRICS, layers=[12, 13]) == [OUTCOME, NEXT]
    for layers in ([13, 12], [12, 13, 12], [12]):
        assert again.find("a", METRICS, layers=layers) is None


def test_outcomes_of_other_metrics_are_none_of_these(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.keep("a", [OUTCOME])
    again = Journal(tmp_path / "j.jsonl")
    assert again.find("a", METRICS[::-1], layers=[12]) == [OUTCOME]
    for metrics in (METRICS[:2], (*METRICS, "mert_fad")):
        assert again.find("a", metrics, layers=[12]) is None
