"""What PyTorch and transformers computed from two small checkpoints and real separated voices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from mertric.cli import cli
from mertric.encoder import Encoder
from mertric.loading import load
from mertric_export.export import Provenance, export_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN, GENSVS = SHARED / "golden", SHARED / "data" / "gensvs"
FAMILIES = ["tiny-mert-95m", "tiny-mert-330m"]
WHOLE = 10**9

pytestmark = pytest.mark.skipif(not (GOLDEN.is_dir() and GENSVS.is_dir()), reason="the shared golden data is not here")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("golden")
    for family in FAMILIES:
        export_checkpoint(GOLDEN / family, home / family, provenance=Provenance(model=family))
    return {family: home / family for family in FAMILIES}


@pytest.fixture(params=[WHOLE, 100], ids=["whole", "chunks"])
def chunk(request: pytest.FixtureRequest) -> Iterator[int]:
    """The frames per run of the front end that `load` uses, set for a test."""
    defaults = load.__kwdefaults__
    assert defaults is not None
    before = defaults["chunk"]
    defaults["chunk"] = request.param
    yield request.param
    defaults["chunk"] = before


@pytest.mark.parametrize("attention", ["fused", "portable", "pointwise"])
@pytest.mark.parametrize("excerpt", [1, 12])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states(bundles: dict[str, Path], family: str, excerpt: int, attention: str) -> None:
    audio = GOLDEN / "audio24k" / "target" / f"target_fileid_{excerpt}.wav"
    with np.load(GOLDEN / f"{family}_target_{excerpt}.npz") as golden:
        for chunk in (WHOLE, 128, 1):
            encoder = Encoder(bundles[family], attention=attention, chunk=chunk)
            hidden = encoder.embed(audio, layers="all").hidden
            assert hidden.shape[1] == golden["frames"]
            rms = golden["layer_rms"]
            np.testing.assert_allclose(np.sqrt(np.mean(hidden.astype(float) ** 2, axis=(1, 2))), rms, rtol=1e-5)
            for layer, expected in zip((0, 4), golden["hidden"], strict=True):
                assert np.abs(hidden[layer, ::25] - expected).max() < 2e-5 * rms[layer], (layer, chunk)


def scores(bundle: Path, root: Path, output: Path, protocol: str) -> dict[tuple[int, str, int], dict[str, Any]]:
    """Rows of `mertric score`, by excerpt, model and layer."""
    folders = [root / "target", *sorted((root / "separated").iterdir())]
    arguments = [*folders, "--model", bundle, "--layer", "0,2,4", "--protocol", protocol, "--json", output]
    result = CliRunner().invoke(cli, ["score", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {
        (int(Path(row["estimate"]).stem.rpartition("_")[2]), row["model"], row["layer"]): row
        for row in json.loads(output.read_text())
    }


def compare(family: str, rows: dict[tuple[int, str, int], dict[str, Any]], suffix: str, within: float = 1e-4) -> None:
    expected = [row for row in json.loads((GOLDEN / "scores.json").read_text()) if row["model"] == family]
    assert len(expected) == len(rows) == 18
    for row in expected:
        got = rows[row["file_id"], row["estimate"], row["layer"]]
        assert got["status"] == "ok"
        assert got["frames"] == row["frames"]
        assert got["mert_mse"] == pytest.approx(row[f"mse{suffix}"], rel=within)
        assert got["mert_fad"] == pytest.approx(row[f"fad{suffix}"], rel=1e-3)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_separated_voices(bundles: dict[str, Path], tmp_path: Path, family: str) -> None:
    compare(family, scores(bundles[family], GENSVS, tmp_path / "rows.json", "paper"), "_paper")


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_separated_voices_without_roundings(bundles: dict[str, Path], tmp_path: Path, family: str) -> None:
    """The golden values are of audio rounded to 16 bits after resampling, which moves an MSE by 4e-4 of itself."""
    compare(family, scores(bundles[family], GENSVS, tmp_path / "rows.json", "float"), "", within=1e-3)


@pytest.mark.parametrize("protocol", ["paper", "float"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_what_was_resampled_before(
    bundles: dict[str, Path], tmp_path: Path, family: str, protocol: str
) -> None:
    rows = scores(bundles[family], GOLDEN / "audio24k", tmp_path / "rows.json", protocol)
    compare(family, rows, "_paper" if protocol == "paper" else "")
