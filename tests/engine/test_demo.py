from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mertric.cli import cli
from mertric.cli.demo import _untrained, write_demo
from mertric.errors import DependencyError
from mertric.music import GRADES, SAMPLE_RATE, SECONDS, compose, degrade
from mertric_export.synthetic import PRESETS, TINY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, a tiny model in place of the one of full size, and a short piece of music."""
    monkeypatch.setattr("mertric.music.SECONDS", 1)
    monkeypatch.setitem(PRESETS, "m-a-p/MERT-v1-95M", TINY)
    monkeypatch.setenv("MERTRIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def demo(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["demo", *map(str, arguments)], catch_exceptions=False)


def rows(path: Path) -> Any:
    """What the demo wrote, without the paths, which hold the cache's place."""
    return [
        {name: value for name, value in row.items() if name not in ("reference", "estimate")}
        for row in json.loads(path.read_text())
    ]


def test_music_has_two_parts() -> None:
    lead, others = compose(0)
    for part in (lead, others):
        assert part.shape == (SECONDS * SAMPLE_RATE,)
        assert np.abs(part).max() == pytest.approx(0.5)
        assert all(np.abs(second).max() > 0.05 for second in np.split(part, SECONDS))
    assert abs(np.corrcoef(lead, others)[0, 1]) < 0.2


@pytest.mark.parametrize("seed", [0, 1, 5])
@pytest.mark.parametrize("kind", GRADES)
def test_each_grade_is_worse_than_the_one_before(kind: str, seed: int) -> None:
    lead, others = compose(seed)
    errors = []
    for grade, strength in enumerate(GRADES[kind], 1):
        sound = degrade(lead, others, kind, strength, np.random.default_rng([seed, grade]))
        assert sound.shape == lead.shape
        assert np.isfinite(sound).all()
        errors.append(float(np.mean((sound - lead) ** 2)))
    assert 0 < errors[0] < errors[1] < errors[2]
    assert errors[2] > 3 * errors[0]


def test_files(tmp_path: Path) -> None:
    reference, estimates = write_demo(tmp_path / "deep" / "audio", seed=3)
    assert reference.name == "reference.wav"
    assert [path.stem for path in estimates] == [f"{kind}_{grade}" for kind in GRADES for grade in (1, 2, 3)]
    for path in (reference, *estimates):
        info = soundfile.info(path)
        assert (info.samplerate, info.frames, info.subtype) == (SAMPLE_RATE, SECONDS * SAMPLE_RATE, "PCM_16")


def test_a_seed_gives_the_same_files(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        reference, estimates = write_demo(tmp_path / name, seed=seed)
        contents.append([path.read_bytes() for path in (reference, *estimates)])
    assert contents[0] == contents[1]
    assert all(one != other for one, other in zip(contents[0], contents[2], strict=True))


def test_the_command(cache: Path, tmp_path: Path) -> None:
    first = demo("--json", tmp_path / "first.json", "--csv", tmp_path / "first.csv")
    assert first.exit_code == 0
    for part in (
        "Making an untrained model",
        "musical noise",
        "\n16 s of audio scored in ",
        "real-time factor",
        "These weights are untrained, so the figures show that the tool works and say nothing about quality.",
        "mertric score REFERENCE ESTIMATE...",
        "CC-BY-NC-4.0",
    ):
        assert part in first.output
    found = rows(tmp_path / "first.json")
    assert len(found) == 15
    assert {row["status"] for row in found} == {"ok"}
    assert all(row["mert_mse"] > 0 and row["mert_fad"] > 0 for row in found)
    assert len((tmp_path / "first.csv").read_text().splitlines()) == 16
    assert {path.name for path in (cache / "demo" / "seed-0").iterdir()} == {".bundle.lock", "audio", "bundle"}

    second = demo("--json", tmp_path / "second.json")
    assert "Making an untrained model" not in second.output
    assert rows(tmp_path / "second.json") == found


def test_another_seed_gives_another_table(cache: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        demo("--seed", seed, "--json", tmp_path / f"{seed}.json")
    assert rows(tmp_path / "0.json") != rows(tmp_path / "1.json")
    assert {path.name for path in (cache / "demo").iterdir()} == {"seed-0", "seed-1"}


@pytest.mark.parametrize(
    ("name", "harm"), [("fp32/weights.bin", "cut"), ("bundle.json", "gone"), ("fp32/frontend.onnx", "gone")]
)
def test_a_damaged_bundle_is_made_again(cache: Path, capsys: pytest.CaptureFixture[str], name: str, harm: str) -> None:
    sound = _untrained(cache, 0)
    file = sound.bundle.path / name
    whole = file.read_bytes()
    file.unlink()
    if harm == "cut":
        file.write_bytes(whole[:-9])
    capsys.readouterr()
    again = _untrained(cache, 0)
    assert "Making an untrained model" in capsys.readouterr().err
    assert again.bundle.weights_sha256 == sound.bundle.weights_sha256
    assert _untrained(cache, 0).bundle.path == again.bundle.path
    assert capsys.readouterr().err == ""


def test_two_at_once_make_one_bundle(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: _untrained(cache, 0), range(2))
    assert first.bundle == second.bundle
    assert capsys.readouterr().err.count("Making an untrained model") == 1


def test_the_exporter_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("mertric_export")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DependencyError, match=r'the demo .* onnx is missing\. Run: pip install "mertric\[export\]"'):
        demo()
    assert not cache.exists()
