from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mertric.output import replacing
from mertric.report import show_table, write_csv, write_json, write_text


def strict(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_json_is_strict(tmp_path: Path) -> None:
    rows = [
        {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1, "e": None, "f": "é\n", "g": True, "h": 3},
        {"a": np.float32("nan"), "b": np.float64("inf"), "c": np.int64(5), "d": np.float32(0.5), "e": np.bool_(True)},
        {"path": tmp_path, "list": [math.nan, (1, np.inf)], 3: {"deep": -np.inf}, "array": np.array(2.5)},
    ]
    write_json(tmp_path / "rows.json", rows)
    assert strict(tmp_path / "rows.json") == [
        {"a": None, "b": "inf", "c": "-inf", "d": 0.1, "e": None, "f": "é\n", "g": True, "h": 3},
        {"a": None, "b": "inf", "c": 5, "d": 0.5, "e": True},
        {"path": str(tmp_path), "list": [None, [1, "inf"]], "3": {"deep": "-inf"}, "array": 2.5},
    ]


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    write_json(tmp_path / "a.json", [{"x": value}])
    write_csv(tmp_path / "a.csv", [{"x": value}], ["x"])
    assert strict(tmp_path / "a.json")[0]["x"] == value
    assert float((tmp_path / "a.csv").read_text().split()[1]) == value


def test_csv(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"name": 'a "quoted", name', "x": 1.5, "y": None, "left out": 1},
        {"name": "two\nlines é", "x": math.nan},
        {"name": "", "x": -math.inf, "y": 0},
    ]
    write_csv(str(tmp_path / "rows.csv"), rows, ["name", "x", "y"])
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"name": 'a "quoted", name', "x": "1.5", "y": ""},
            {"name": "two\nlines é", "x": "nan", "y": ""},
            {"name": "", "x": "-inf", "y": "0"},
        ]


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "deep" / "a.txt"
    write_text(target, "first\r\nline")
    assert target.read_bytes() == b"first\r\nline"

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            write_text(target, "second")
    assert target.read_text() == "first\nline"
    assert os.listdir(target.parent) == ["a.txt"]  # noqa: PTH208


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "made", "x")
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_json(pipe, [1])
        assert json.loads(os.read(reader, 100)) == [1]
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setenv("TERM", "dumb")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    rows = [
        {"file": "a [live] [/b] [bold].wav", "mse": 0.123456, "layer": 12, "n": None},
        {"file": ":cat: [red]x", "mse": 0.00001234},
        {"file": "z", "mse": math.nan, "layer": 0},
        {"file": "zero", "mse": 0.0, "layer": 0},
    ]
    show_table(rows, ["file", "mse", "layer", "n"], title="Scores of [x]")
    output = capsys.readouterr().out
    for part in ("a [live] [/b] [bold].wav", ":cat: [red]x", "0.1235", "1.234e-05", "nan", "12"):
        assert part in output
    assert "None" not in output
    assert output.lstrip().startswith("Scores of [x]")
    assert max(len(line) for line in output.splitlines()) <= 200


def test_long_cells_are_folded_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"file": "x" * 500}], ["file"])
    assert capsys.readouterr().out.count("x") == 500


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"lat\xe9.wav")
    write_csv(tmp_path / "rows.csv", [{"file": name}], ["file"])
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8") == "file\nlat\\udce9.wav\n"
    write_json(tmp_path / "rows.json", [name])
    assert json.loads((tmp_path / "rows.json").read_text(encoding="utf-8")) == [name]


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1"])
def test_a_redirected_stream_goes_on_where_it_is(tmp_path: Path, device: str) -> None:
    """As a file it is neither replaced nor begun again, and what is printed keeps its order."""
    if not Path(device).exists():
        pytest.skip("not a name of a stream here")
    program = f"from mertric.report import write_text; print(1); write_text({device!r}, '2\\n'); print(3)"
    output = tmp_path / "log"
    output.write_text("0\n")
    with output.open("a") as log:
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        subprocess.run([sys.executable, "-c", program], stdout=log, stderr=log, env=buffered, check=True)
    assert output.read_text() == "0\n1\n2\n3\n"


def test_a_return_in_a_name_ends_no_row(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"name": "a\rb.wav", "x": 1.5}, {"name": "c\r", "x": None}, {"name": "d", "x": 2}]
    write_csv(tmp_path / "rows.csv", rows, ["name", "x"])
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["name", "x"], ["a\rb.wav", "1.5"], ["c\r", ""], ["d", "2"]]
    assert (tmp_path / "rows.csv").read_bytes().endswith(b'""\nd,2\n')


def test_names_tell_the_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"name": "esc\x1b[31mred\u202e é \t"}], ["name"])
    assert "esc\\x1b[31mred\\u202e é \\t" in capsys.readouterr().out
    for text in ("日\u3000本", "می\u200cخواهم", "a\xa0b"):
        show_table([{"name": text}], ["name"])
        assert text in capsys.readouterr().out


def test_a_pipe_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        show_table([{"a": 1}], ["a"])


def test_an_ending_may_be_as_long_as_a_name(tmp_path: Path) -> None:
    path = tmp_path / ("a." + 250 * "x")
    write_text(path, "text")
    assert path.read_text(encoding="utf-8") == "text"
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208


def test_processes_that_write_one_file_have_a_temporary_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    with replacing(path) as first:
        first.write_text("first")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 2**22 + 1)
            with replacing(path) as second:
                second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_a_link_to_itself_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "loop.csv"
    try:
        path.symlink_to(path)
    except OSError:
        pytest.skip("no symbolic links here")
    write_text(path, "text")
    assert path.read_text(encoding="utf-8") == "text"


def test_a_terminal_is_not_flooded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mertric.report.MOST_ROWS", 3)
    rows = [{"a": f"row{number}"} for number in range(5)]
    show_table(rows, ["a"])
    assert "row4" in capsys.readouterr().out
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    show_table(rows, ["a"])
    shown = capsys.readouterr().out
    assert "row2" in shown
    assert "row3" not in shown
    assert "… and 2 more rows, which --csv and --json write." in shown
    show_table(rows[:3], ["a"])
    assert "more rows" not in capsys.readouterr().out
