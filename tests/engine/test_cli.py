from __future__ import annotations

import csv
import errno
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import mertric
from mertric.cli import cli, main
from mertric.cli.messages import say
from mertric.cli.options import make_windows
from mertric.cli.score import _say_what_parts_of_names_paired, _terminal_columns, exit_code, mean_rows, metric_names
from mertric.errors import InputError
from mertric.latency import measure_latency
from mertric.pairing import Pair
from mertric.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mertric.encoder import Encoder

    Sound = Callable[..., NDArray[np.float32]]
    WriteWav = Callable[..., Path]
    Run = Callable[..., tuple[int, str, str]]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_folders_to_tables(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, encoder: Encoder
) -> None:
    files = ["--json", tmp_path / "out" / "rows.json", "--csv", tmp_path / "out" / "rows.csv"]
    code, out, _ = run("score", *folders, "--model", bundle, *files)
    assert code == 0
    assert "The weights are untrained: the figures show the tool and not quality." in out
    rows = read(tmp_path / "out" / "rows.json")
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(rows) == len(table) == 3
    for row, line in zip(rows, table, strict=True):
        assert {"reference", "estimate", "layer", "frames", "status", "reason", "mert_mse", "mert_fad"} <= row.keys()
        assert line.keys() == row.keys()
        assert (row["status"], row["layer"], row["frames"], row["model"]) == ("ok", 4, 37, "est")
        expected = mertric.score(row["reference"], row["estimate"], encoder=encoder)
        assert row["mert_mse"] == float(line["mert_mse"]) == pytest.approx(expected.mse, rel=1e-6)
        assert row["mert_fad"] == float(line["mert_fad"]) == pytest.approx(expected.fad, rel=1e-6)
        assert f"{row['mert_mse']:.4g}" in out


@pytest.mark.parametrize(("given", "layers"), [("2", [2]), ("0,3", [0, 3]), ("all", [0, 1, 2, 3, 4]), ("3, 1", [3, 1])])
@pytest.mark.parametrize("option", ["--layer", "--layers"])
def test_layers(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, given: str, layers: Any, option: str
) -> None:
    files = folders[0] / "a.wav", folders[1] / "a.wav"
    code, _, _ = run("score", *files, "--model", bundle, option, given, "--json", tmp_path / "rows.json")
    assert code == 0
    assert [row["layer"] for row in read(tmp_path / "rows.json")] == layers


def test_protocols_differ(run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    found = {}
    for protocol in ("paper", "float"):
        run("score", *folders, "--model", bundle, "--protocol", protocol, "--json", tmp_path / "rows.json")
        found[protocol] = [row["mert_mse"] for row in read(tmp_path / "rows.json")]
    assert found["paper"] == pytest.approx(found["float"], rel=1e-2)
    assert found["paper"] != found["float"]


def test_some_files_fail(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, write_wav: WriteWav, sound: Sound
) -> None:
    (folders[1] / "a.wav").write_text("no audio")
    write_wav("est/stranger.wav", sound())
    code, _, err = run("score", *folders, "--model", bundle, "--json", tmp_path / "rows.json")
    assert code == 1
    rows = {Path(row["estimate"]).name: row for row in read(tmp_path / "rows.json")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.wav": "failed",
        "b.wav": "ok",
        "c.wav": "ok",
        "stranger.wav": "unmatched",
    }
    assert "cannot be decoded" in rows["a.wav"]["reason"]
    (failed,) = (line for line in err.splitlines() if line.startswith("failed:"))
    assert failed.count(str(folders[1] / "a.wav")) == 1
    assert "2 of 4 rows" in err


def test_a_partial_row_is_not_success(run: Run, bundle: Path, write_wav: WriteWav, sound: Sound) -> None:
    code, out, err = run("score", write_wav("x.wav", sound(9000)), write_wav("y.wav", sound(8000)), "--model", bundle)
    assert code == 1
    assert "partial" in out
    assert "mert_mse" in err + out


def test_nothing_could_be_scored(run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    for path in folders[1].rglob("*.wav"):
        path.write_text("no audio")
    code, out, err = run("score", *folders, "--model", bundle, "--json", tmp_path / "rows.json")
    assert code == 2
    assert len(read(tmp_path / "rows.json")) == 3
    assert "cannot be decoded" in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "{est}"], "mertric: gone does not exist. Check the path."),
        (["{ref}", "{est}", "--model", "nowhere"], "mertric: nowhere does not exist; expected a bundle's directory"),
        (
            ["{ref}", "{est}", "--model", "{ref}"],
            "holds no bundle.json; expected a bundle as `mertric export` writes it.",
        ),
        (["{ref}", "{est}", "--layer", "99"], "layers is (99,); expected different numbers from 0 to 4"),
        (["{ref}", "{est}", "--layer", "1,1"], "expected different numbers"),
        (["{ref}", "{est}", "--layer", "last"], "'last' is not 'all' or numbers joined by commas, such as 6,12."),
        (["{ref}", "{est}", "--provider", "abacus"], "mertric: provider 'abacus' is not known"),
        (["{ref}", "{est}", "--precision", "int4"], "int4"),
        (["{ref}", "{est}", "--protocol", "mine"], "'mine' is not one of 'paper', 'float'"),
        (["{ref}", "{est}", "--threads", "0"], "0 is not in the range x>=1"),
        (["{ref}/a.wav", "{est}"], "is a file but"),
    ],
)
def test_errors_end_in_one_message(
    run: Run, folders: tuple[Path, Path], bundle: Path, arguments: Sequence[str], message: str
) -> None:
    filled = [part.format(ref=folders[0], est=folders[1]) for part in arguments]
    model = [] if "--model" in filled else ["--model", str(bundle)]
    code, out, err = run("score", *filled, *model)
    assert code == 2
    assert message in err
    assert "Traceback" not in err + out


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_file_that_cannot_be_written_costs_no_table(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = run("score", *folders, "--model", bundle, option, tmp_path / "rows")
    assert code == 2
    assert "mert_mse" in out
    assert err.splitlines()[-1] == (
        f"mertric: {tmp_path / 'rows'} cannot be written (No space left on device). Check the path and the space that "
        "is free, or name another."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["est", "ref"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--csv", "ref/a.wav/b/rows.csv"], r"--csv.*rows\.csv cannot be written: \S+a\.wav is no folder that takes"),
        (["--journal", "ref"], r"--journal.* is a directory"),
        (["--csv", "rows", "--json", "ref/../rows"], r"--json.*rows is what --csv writes too\. Name another file"),
        (["--csv", "rows", "--journal", "rows"], r"--journal.*rows is what --csv writes too"),
        (["--csv", ""], r"--csv.* '' is a folder; expected a file to write"),
        (["--csv", "/dev/stdout", "--json", "/dev/stdout"], r"--json.*/dev/stdout is what --csv writes too"),
        (["--csv", "est"], r"--csv.* is a directory"),
        (["--json", "est/new.WAV"], r"--json.*new\.WAV has the name of an audio file; expected one for text"),
        (["--overlap", "0.2"], "--overlap is of windows, of which none were asked for; give --window too"),
        (["--overlap", "1"], r"--overlap.* 1\.0 is not in the range 0<=x<1"),
    ],
)
def test_options_are_refused_before_any_work(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(folders[0].parent)
    code, _, err = run("score", *folders, "--model", "gone", *options)
    assert code == 2
    assert re.search(message, err), err


def test_options_reach_the_scores(
    run: Run, folders: tuple[Path, Path], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def note(*_: Any, **options: Any) -> None:
        asked.update(options)
        raise MemoryError

    monkeypatch.setattr("mertric.scoring.score_pairs", note)
    journal = folders[0].parent / "journal"
    options = ["--trim", "--window", "2", "--overlap", "0.25", "--batch-memory", "3", "--journal", journal]
    options += ["--model", bundle, "--protocol", "float"]
    code, _, err = run("score", *folders, "--metrics", "mert_mse, mert_mse", *options)
    assert code == 2
    assert "Attention is limited to windows of 2 s: an approximation." in err
    assert asked.pop("advance") is not None
    assert asked == {
        "metrics": ["mert_mse"],
        "layers": None,
        "protocol": "float",
        "trim": True,
        "windows": Windows(seconds=2, overlap=0.25),
        "journal": journal,
        "memory": 3 << 20,
    }


def test_means_are_of_finite_values_alone() -> None:
    same = {"model": "m", "stem": None, "layer": None}
    rows: list[dict[str, object]] = [
        {**same, "status": "ok", "sdr": float("inf"), "si_sdr": 1.0},
        {**same, "status": "partial", "sdr": 2.0, "si_sdr": None},
        {**same, "status": "failed", "sdr": None, "si_sdr": None},
    ]
    counts = {"sdr over": 1, "si_sdr over": 1}
    assert mean_rows(rows, ["sdr", "si_sdr"]) == [{"model": "m", "rows": 3, "sdr": 2.0, "si_sdr": 1.0, **counts}]
    assert mean_rows(rows[:1], ["sdr", "si_sdr"]) == []
    assert mean_rows([rows[0], {**rows[0], "status": "unmatched"}], ["sdr", "si_sdr"]) == []
    assert mean_rows(2 * rows[:1], ["si_sdr"]) == [{"model": "m", "rows": 2, "si_sdr": 1.0}]


def test_what_is_no_file_may_be_written_by_several_options(run: Run, folders: tuple[Path, Path], bundle: Path) -> None:
    assert run("score", *folders, "--model", bundle, "--csv", os.devnull, "--json", os.devnull)[0] == 0


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "mertric: interrupted."),
        (OSError(errno.ENOSPC, "No space"), 2, "mertric: [Errno 28] No space. Check the path, its permissions and the"),
        (MemoryError("8 PiB"), 2, "mertric: memory ran out (8 PiB). Use shorter clips or smaller batches."),
    ],
)
def test_what_stops_the_program(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("mertric.scoring.score_pairs", stop)
    found, _, err = run("score", *folders, "--metrics", "sdr")
    assert found == code
    assert err.strip().startswith(message)


def test_bench_of_no_runs(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="runs is 0; expected at least 1"):
        measure_latency(encoder, seconds=[1.0], batch=1, runs=0)


@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_bench_of_no_length(run: Run, bundle: Path, seconds: str) -> None:
    code, _, err = run("bench", "--model", bundle, "--seconds", seconds)
    assert code == 2
    assert err.strip() == f"mertric: a clip of {seconds} s was asked for; expected 0 or more, and not infinite."


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for name in ("score", "embed", "demo", "export", "correlate"):
        assert f"  {name}" in result.output
    assert CliRunner().invoke(cli, ["-h"]).output == result.output


@pytest.mark.parametrize("name", ["score", "embed", "demo", "export", "correlate"])
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.exception
    assert "Usage:" in result.output


def test_an_unknown_command_and_the_version() -> None:
    assert "No such command 'scroe'" in CliRunner().invoke(cli, ["scroe"]).output
    assert "version" in CliRunner().invoke(cli, ["--version"]).output


def test_python_m_is_the_same_program(folders: tuple[Path, Path], bundle: Path) -> None:
    command = [sys.executable, "-m", "mertric", "score", *map(str, folders), "--model", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mert_fad" in done.stdout
    wrong = subprocess.run([*command[:4], "gone", "gone"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr == "mertric: gone does not exist. Check the path.\n"


def test_what_is_read_is_not_written_over(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[0].parent)
    manifest = Path("m.csv")
    manifest.write_text("reference,estimate\nref/a.wav,est/a.wav\n")
    Path("same.csv").hardlink_to("m.csv")
    Path("loop").symlink_to("loop")
    for arguments in (["m.csv", "--csv", "ref/../m.csv"], ["--json", "m.csv", "m.csv"], ["m.csv", "--csv", "same.csv"]):
        code, _, err = run("score", *arguments, "--model", "gone")
        assert code == 2
        assert re.search("(m|same).csv is (taken by reference|what --(json|csv) writes)", err), err
    assert "loop does not exist" in run("score", "loop", "loop", "--csv", "new.csv")[2]
    assert manifest.read_text().startswith("reference,estimate\n")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no files below /dev here")
def test_files_below_dev_are_files(run: Run, folders: tuple[Path, Path]) -> None:
    name = f"/dev/shm/mertric-{os.getpid()}.csv"
    code, _, err = run("score", *folders, "--model", "gone", "--csv", name, "--json", name)
    assert code == 2
    assert "is what --csv writes too" in err


@pytest.mark.skipif(sys.platform != "linux", reason="file names must be text here")
def test_names_that_the_terminal_has_no_characters_for(
    folders: tuple[Path, Path], bundle: Path, tmp_path: Path
) -> None:
    for folder in folders:
        (folder / "b.wav").rename(folder / "日本.wav")
        (folder / "a.wav").rename(os.fsdecode(os.fsencode(folder) + b"/lat\xe9.wav"))
    command = [sys.executable, "-m", "mertric", "score", *map(str, folders), "--model", str(bundle)]
    for encoding in ("latin-1", "utf-8"):
        done = subprocess.run(
            [*command, "--csv", str(tmp_path / "rows.csv")],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"\\udce9" in done.stdout
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 3


def test_options_of_a_model_that_no_metric_needs_are_said(run: Run, folders: tuple[Path, Path]) -> None:
    options = ["--window", "5", "--overlap", "0.9", "--model", "nowhere", "--layer", "77", "--threads", "9"]
    code, _, err = run("score", *folders, "--metrics", "sdr", *options)
    assert code == 0
    assert err == "--layer, --model, --threads, --window, --overlap: not used, as no MERT metric is asked for.\n"
    assert run("score", *folders, "--metrics", "sdr")[2] == ""


def test_means_say_over_how_many_rows_they_are(run: Run, write_wav: WriteWav, sound: Sound) -> None:
    """A model that fails on a hard file has the better mean."""
    for name, own, other in (("A", 9000, 9000), ("B", 9000, 8000)):
        write_wav("r/x.wav", sound(9000, 1)), write_wav("r/y.wav", sound(9000, 2))
        write_wav(f"e/{name}/x.wav", sound(own, 3)), write_wav(f"e/{name}/y.wav", sound(other, 4))
    home = write_wav("r/x.wav", sound(9000, 1)).parents[1]
    _, out, err = run("score", home / "r", home / "e", "--metrics", "waveform_mse,si_sdr")
    means = [line.split() for line in out[out.index("Means over the rows that have a finite value") :].splitlines()]
    assert ["A", "2"] in [line[:2] for line in means]
    assert [line[-2:] for line in means if line[:2] == ["B", "2"]] == [["over", "1"]]
    assert "waveform_mse over" not in out
    assert "Some rows lack a finite value: means of one metric may be over other files for each model." in err
    _, out, err = run("score", home / "r", home / "e" / "A", "--metrics", "waveform_mse")
    assert not re.search(r"\d over \d", out)
    assert "lack a finite value" not in err


def test_without_a_terminal_progress_is_lines(
    run: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left goes by those after the first, for which all is loaded."""
    times = iter([0.0, 61.0, 182.0, 200.0])
    monkeypatch.setattr("mertric.cli.progress.time", SimpleNamespace(monotonic=lambda: next(times)))
    _, _, err = run("score", *folders, "--metrics", "waveform_mse")
    assert err == "scoring: 1 of 3\nscoring: 2 of 3, about 2 min left\n"


def test_outputs_that_differ_in_case_alone(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are one file where the file system does not tell case apart."""
    monkeypatch.setattr("mertric.output.sys", SimpleNamespace(platform="darwin"))
    code, _, err = run("score", *folders, "--model", "gone", "--csv", tmp_path / "Q.txt", "--json", tmp_path / "q.txt")
    assert code == 2
    assert "is what --csv writes too" in err


def test_pairs_that_go_by_an_identifier_are_said(run: Run, write_wav: Callable[..., Path], sound: Sound) -> None:
    for index in (1, 2):
        write_wav(f"r/target_id_{index}.wav", sound(9000, index))
        write_wav(f"e/out_id_{index}.wav", sound(9000, index + 2))
    reference = write_wav("r/same.wav", sound(9000)).parent
    estimate = write_wav("e/same.wav", sound(9000)).parent
    _, _, err = run("score", reference, estimate, "--metrics", "waveform_mse")
    assert "2 of 3 pairs go by a part of the files' names, such as" in " ".join(err.split())
    assert "left out" not in err
    _, _, err = run("score", reference, reference, "--metrics", "waveform")
    assert "pairs go by" not in err
    assert "si_sir and sir_v4 are left out: no track has several references." in err
    manifest = reference.parent / "m.csv"
    manifest.write_text("reference,estimate,model\nr/same.wav,e/out_id_1.wav,m\n")
    _, _, err = run("score", manifest, "--metrics", "waveform_mse")
    assert "pairs go by" not in err


def test_what_is_logged_is_shown_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        "mertric.cli.cli", lambda **_: logging.getLogger("mertric.kernels").info("Compiling %s.", "all")
    )
    for _ in range(2):
        main()
        assert capsys.readouterr().err == "Compiling all.\n"


def test_warnings_of_libraries_say_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(**_: Any) -> None:
        warnings.warn("ours", stacklevel=1)
        warnings.warn("theirs", FutureWarning, stacklevel=1)

    monkeypatch.setattr("mertric.cli.cli", warn)
    main()
    ours, theirs = capsys.readouterr().err.splitlines()
    assert ours == "warning: ours"
    assert re.fullmatch(r"warning: theirs \(FutureWarning, .*test_cli\.py:\d+\)", theirs)


@pytest.mark.parametrize(
    "arguments", [("score", "", "x"), ("score", "x", ""), ("embed", "", "-o", "out"), ("embed", "x", "-o", "")]
)
def test_an_empty_name_is_not_this_folder(run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "the name is empty; expected a file or a folder" in err


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no such name here")
@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_rows_alone_on_standard_output(folders: tuple[Path, Path], bundle: Path, name: str) -> None:
    command = [
        sys.executable,
        "-m",
        "mertric",
        "score",
        *map(str, folders),
        "--provider",
        "cpu",
        "--model",
        str(bundle),
    ]
    run = subprocess.run([*command, "--json", name], capture_output=True, text=True, timeout=300, check=True)
    assert [row["status"] for row in json.loads(run.stdout)] == ["ok"] * 3
    assert "Means over the rows" in run.stderr


def test_a_system_without_a_name_for_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mertric.cli.options.STANDARD_OUTPUT", Path("/gone/stdout"))
    code, _, err = run("score", "a", "b", "--csv", "-")
    assert code == 2
    assert "'-' stands for no stream on this system; name a file" in err


@pytest.mark.parametrize("name", ["score", "passages", "embed", "bench", "study"])
def test_how_a_model_runs_is_passed_on(
    run: Run, write_wav: WriteWav, sound: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked: list[Any] = []

    def load(*arguments: Any, **options: Any) -> None:
        asked.append((*arguments, options))
        raise InputError("that is enough.")

    monkeypatch.setattr("mertric.loading.load", load)
    reference, estimate = write_wav("refs/fileid_1.wav", sound()), write_wav("model/fileid_1.wav", sound())
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("file_id,model_name,DMOS,rating_0\nfileid_1,model,3,3\n", encoding="utf-8")
    given: dict[str, list[object]] = {
        "score": [reference, estimate],
        "passages": [reference, estimate],
        "embed": [reference, "-o", tmp_path / "out"],
        "bench": [],
        "study": ["gensvs", tmp_path, "--ratings", ratings, "--references", tmp_path / "refs"],
    }
    options = ["--model", "some/model", "--provider", "cpu", "--precision", "int8", "--threads", 3]
    code, _, err = run(name, *given[name], *options)
    assert (code, err.splitlines()[-1]) == (2, "mertric: that is enough.")
    assert asked == [("some/model", {"provider": "cpu", "precision": "int8", "threads": 3})]


def test_every_option_of_a_model_is_said_where_no_metric_needs_one(run: Run, folders: tuple[Path, Path]) -> None:
    options = {
        "--layer": "77",
        "--model": "nowhere",
        "--provider": "cpu",
        "--precision": "fp32",
        "--threads": "9",
        "--protocol": "float",
        "--window": "5",
        "--overlap": "0.9",
        "--batch-memory": "5",
    }
    code, _, err = run("score", *folders, "--metrics", "sdr", *(part for pair in options.items() for part in pair))
    assert code == 0
    assert err == f"{', '.join(options)}: not used, as no MERT metric is asked for.\n"


@pytest.mark.parametrize(
    ("count", "end"), [(1, "f0"), (3, "f0, f1, f2"), (4, "f0, f1, f2 and 1 more"), (6, "f0, f1, f2 and 3 more")]
)
def test_rows_of_one_fault_are_counted(capsys: pytest.CaptureFixture[str], count: int, end: str) -> None:
    rows: list[dict[str, object]] = [
        {"status": "failed", "reason": "why", "estimate": f"f{number}", "reference": "r"} for number in range(count)
    ]
    assert exit_code(rows) == 2
    assert capsys.readouterr().err == f"failed: {end}: why\n0 of {count} rows are ok.\n"


def test_names_of_files_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, object] = {"status": "failed", "reason": "why", "estimate": "a\x1b[2J\n.wav", "reference": "r"}
    exit_code([row])
    say("one\x1b[31m\ntwo")
    assert capsys.readouterr().err == ("failed: a\\x1b[2J\\n.wav: why\n0 of 1 rows are ok.\none\\x1b[31m\ntwo\n")


def test_files_are_shown_where_some_rows_have_no_names() -> None:
    named = {"reference": "r", "estimate": "e", "model": "m", "track": "t", "reason": None, "sdr": 1.0, "settings": "s"}
    assert _terminal_columns([named, named]) == ["model", "track", "sdr"]
    for lacking in ("model", "track"):
        assert _terminal_columns([named, named | {lacking: None}]) == ["reference", "estimate", "sdr"]


def test_ratios_to_interference_need_a_track_with_several_references(capsys: pytest.CaptureFixture[str]) -> None:
    alone = [Pair(reference=Path(name), estimate=Path("e"), track=name) for name in "ab"]
    names = metric_names("all", alone)
    assert not {"si_sir", "sir_v4"} & {*names}
    assert {"mert_mse", "si_sar", "sar_v4"} < {*names}
    assert capsys.readouterr().err == "si_sir and sir_v4 are left out: no track has several references.\n"
    assert metric_names("si_sir, sdr,sdr", alone) == ["si_sir", "sdr"]
    several = [Pair(reference=Path(name), estimate=Path("e"), track="one") for name in "ab"]
    assert {"si_sir", "sir_v4"} < {*metric_names("waveform", several)}
    assert capsys.readouterr().err == ""


def test_how_files_pair_is_said_where_some_do_not(run: Run, write_wav: WriteWav, sound: Sound, tmp_path: Path) -> None:
    for name in ("ref/a.wav", "ref/b.wav", "est/a.wav"):
        write_wav(name, sound())
    said = "Files pair as `mertric score --help` says; a manifest pairs any others."
    code, _, err = run("score", tmp_path / "ref", tmp_path / "est", "--metrics", "waveform_mse")
    assert (code, err.splitlines()[-1]) == (1, said)
    write_wav("est/b.wav", sound())
    code, _, err = run("score", tmp_path / "ref", tmp_path / "est", "--metrics", "waveform_mse")
    assert (code, err) == (0, "")


def test_means_of_one_model_are_over_the_files_that_they_are_over(
    run: Run, write_wav: WriteWav, sound: Sound, tmp_path: Path
) -> None:
    for name in "abc":
        write_wav(f"ref/{name}.wav", sound())
        write_wav(f"est/{name}.wav", sound(seed=1) * (name != "c"))
    code, out, err = run("score", tmp_path / "ref", tmp_path / "est", "--metrics", "usdr,si_sdr")
    assert code == 1
    assert "over 2" in out
    assert "Some rows lack a finite value" not in err


def test_pairs_that_differ_in_case_and_composition_alone_are_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    names = (("Song.wav", "SONG.flac"), ("\u00fc.wav", "u\u0308.wav"))
    pairs = [Pair(reference=Path(one), estimate=Path(other), model="m") for one, other in names]
    _say_what_parts_of_names_paired(pairs)
    assert capsys.readouterr().err == ""
    _say_what_parts_of_names_paired([*pairs, Pair(reference=Path("a.wav"), estimate=Path("a_new.wav"), model="m")])
    assert capsys.readouterr().err == ("1 of 3 pairs go by a part of the files' names, such as a.wav with a_new.wav.\n")


def test_progress_is_of_all_that_is_done(
    run: Run, folders: tuple[Path, Path], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pair once for MERT metrics, and once for those of the waveform."""
    totals, done = [], []

    @contextmanager
    def progress(_: str, total: int) -> Iterator[Callable[[], None]]:
        totals.append(total)
        yield lambda: done.append(1)

    monkeypatch.setattr("mertric.cli.progress.progress", progress)
    for metrics, kinds in (("mert_mse", 1), ("usdr,waveform_mse", 1), ("mert_mse,usdr", 2)):
        assert run("score", *folders, "--metrics", metrics, "--model", bundle)[0] == 0
        assert totals.pop() == len(done) == 3 * kinds
        done.clear()


@pytest.mark.parametrize(("given", "overlap"), [(None, 0.5), (0.0, 0.0), (0.25, 0.25)])
def test_windows_overlap_as_they_are_told(given: float | None, overlap: float) -> None:
    assert make_windows(2.0, given) == Windows(seconds=2.0, overlap=overlap)


def test_what_bench_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that take 1 to 100 ms, of two clips of 2 s, after the encoder was warmed up; nothing is cut."""
    asked: list[Any] = []
    done: list[int] = []
    clock = iter([time / 1000 for run in range(100) for time in (1000 * run, 1000 * run + run + 1)])
    monkeypatch.setattr("mertric.latency.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    stub = SimpleNamespace(
        bundle=SimpleNamespace(sample_rate=24000),
        warm_up=lambda seconds, *, batch: asked.append((seconds, batch)),
        embed_batch=lambda clips, **options: asked.append(([clip.size for clip in clips], options)),
    )
    (row,) = measure_latency(stub, seconds=[2.0], batch=2, runs=100, advance=lambda: done.append(1))  # type: ignore[arg-type]
    assert asked == [([2.0], 2), *[([48000, 48000], {"sample_rate": 24000, "protocol": "float"})] * 101]
    assert len(done) == 100
    assert (row["seconds"], row["batch"], row["runs"]) == (2.0, 2, 100)
    figures = [row[name] for name in ("min_ms", "median_ms", "p99_ms", "real_time_factor")]
    assert figures == pytest.approx([1, 50.5, 99.01, 0.0505 / 4])


def test_bench_says_how_far_it_is(run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    totals, done = [], []

    @contextmanager
    def progress(_: str, total: int) -> Iterator[Callable[[], None]]:
        totals.append(total)
        yield lambda: done.append(1)

    monkeypatch.setattr("mertric.cli.bench.progress", progress)
    assert run("bench", "--model", bundle, "--seconds", "0.1", "--seconds", "0.2", "--runs", 3)[0] == 0
    assert totals == [len(done)] == [6]
