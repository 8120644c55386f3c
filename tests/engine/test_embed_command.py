"""`mertric embed`, through the whole program."""

from __future__ import annotations

import errno
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mertric.scoring import describe
from mertric.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mertric.encoder import Encoder

    Run = Callable[..., tuple[int, str, str]]


def test_embed(run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, encoder: Encoder) -> None:
    out = tmp_path / "out"
    code, _, err = run(
        "embed", folders[0], folders[1] / "sub" / "c.wav", "-o", out, "--model", bundle, "--layers", "4,1"
    )
    assert code == 0
    assert f"4 of 4 files embedded into {out}." in err
    written = {path.relative_to(out).as_posix() for path in out.rglob("*.npz")}
    assert "sub/c.wav.npz" in written
    with np.load(out / "sub" / "c.wav.npz") as arrays:
        expected = encoder.embed(folders[0] / "sub" / "c.wav", layers=[4, 1])
        np.testing.assert_array_equal(arrays["hidden"], expected.hidden)
        np.testing.assert_array_equal(arrays["times"], expected.times)
        assert str(arrays["settings"]) == describe(encoder, protocol="paper")
        assert arrays["layers"].tolist() == [4, 1]
        assert arrays["hidden"].dtype == np.float32


def test_embed_in_float16_and_with_faults(run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    (folders[0] / "b.wav").write_text("no audio")
    out = tmp_path / "out"
    code, _, err = run("embed", folders[0], "-o", out, "--model", bundle, "--format", "float16")
    assert code == 1
    assert "mertric: " in err
    assert "b.wav" in err
    assert "2 of 3 files embedded" in err
    with np.load(out / "a.wav.npz") as arrays:
        assert arrays["hidden"].dtype == np.float16
    code, _, err = run("embed", folders[0] / "b.wav", tmp_path / "gone.wav", "-o", out, "--model", bundle)
    assert code == 2
    assert "gone.wav does not exist" in err


def test_embed_says_what_is_stale_and_leaves_nothing_half_written(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    assert run("embed", folders[0] / "a.wav", "-o", output, "--model", bundle)[0] == 0
    (folders[0] / "a.wav").write_text("no audio")
    code, _, err = run("embed", folders[0] / "a.wav", folders[0] / "sub" / "c.wav", "-o", output, "--model", bundle)
    assert code == 1
    assert f"leave it out. {output / 'a.wav.npz'} is of an earlier run.\n" in err
    assert sorted(path.name for path in output.iterdir()) == ["a.wav.npz", "c.wav.npz"]

    def full(file: Path, **_: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    code, _, err = run("embed", folders[0] / "b.wav", "-o", output, "--model", bundle)
    assert code == 2
    assert f"mertric: {output / 'b.wav.npz'} cannot be written (No space left on device)." in err
    assert sorted(path.name for path in output.iterdir()) == ["a.wav.npz", "c.wav.npz"]


def test_embed_within_windows_and_memory(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def note(_: Encoder, **options: Any) -> None:
        asked.update(options)
        raise MemoryError

    monkeypatch.setattr("mertric.scheduler.Scheduler", note)
    options = ["--window", "2", "--overlap", "0.25", "--batch-memory", "3"]
    assert run("embed", folders[0], "-o", tmp_path / "out", "--model", bundle, *options)[0] == 2
    assert asked == {"layers": (4,), "windows": Windows(seconds=2, overlap=0.25), "memory": 3 << 20}


def test_embed_never_writes_two_files_to_one_place(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path
) -> None:
    code, _, err = run("embed", *folders, "-o", tmp_path / "out", "--model", bundle)
    assert code == 2
    assert "would both be written to" in err
    assert "Embed them apart." in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("platform", "others"), [("linux", 2), ("darwin", 0), ("win32", 0)])
def test_embed_knows_which_systems_tell_case_apart(
    run: Run,
    write_wav: Callable[..., Path],
    sound: Callable[..., Any],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    others: int,
) -> None:
    files = [write_wav(f"{name}.wav", sound(9000)) for name in ("x/A", "y/a")]
    monkeypatch.setattr("mertric.output.sys.platform", platform)
    code, _, err = run("embed", files[0], *files, "-o", tmp_path / "out", "--model", bundle)
    assert code == (0 if others else 2)
    assert ("2 of 2 files embedded" if others else "would both be written to") in err


def test_embed_refuses_a_place_that_takes_no_files_before_any_work(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("embed", *folders, "-o", tmp_path / "file" / "out", "--model", tmp_path / "none")
    assert code == 2
    assert re.search(r"out cannot be written to: .*file is no folder that takes new\s+files", err)


@pytest.mark.skipif(sys.platform == "win32", reason="long paths may not be allowed here")
def test_embed_goes_on_after_a_file_that_cannot_be_written(
    run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path
) -> None:
    """A name that fits with what is added to it is no problem; one that does not costs itself alone."""
    fits, too_long = "f" * 245 + ".wav", "t" * 250 + ".wav"
    (folders[0] / "a.wav").rename(folders[0] / fits)
    (folders[0] / "b.wav").rename(folders[0] / too_long)
    code, _, err = run("embed", folders[0], "-o", tmp_path / "out", "--model", bundle)
    assert code == 1
    assert f"{too_long}.npz cannot be written" in err
    assert "2 of 3 files embedded" in err
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {f"{fits}.npz", "c.wav.npz"}


def test_embeddings_of_windows_say_so(run: Run, folders: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    options = ["--window", "0.2", "--protocol", "float", "--model", bundle]
    assert run("embed", folders[0] / "a.wav", "-o", tmp_path / "out", *options)[0] == 0
    with np.load(tmp_path / "out" / "a.wav.npz") as arrays:
        assert str(arrays["settings"]).endswith("; protocol float; windows of 0.2 s, overlap 0.5")
