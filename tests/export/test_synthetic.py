from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoints import SMALL, load
from mertric.errors import InputError
from mertric_export import synthetic
from mertric_export.config import read_config
from mertric_export.synthetic import PRESETS, TINY, stored_shapes, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def test_the_same_seed_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    """The digest was computed once, on Linux x86-64 with NumPy 2.4: no platform or version may change it."""
    content = (write_checkpoint(tmp_path, SMALL, seed=7) / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "7acaf587829df0fbd2d0e335395eac484f36355618f7a0bcc9064638595cf4d8"


def test_another_seed_changes_every_tensor(tmp_path: Path) -> None:
    first = load(write_checkpoint(tmp_path, SMALL, seed=0))
    second = load(write_checkpoint(tmp_path, SMALL, seed=1))
    assert list(first) == list(second)
    assert all((first[name] != second[name]).mean() > 0.9 for name in first)


def test_values_are_sane(tmp_path: Path) -> None:
    for name, tensor in load(write_checkpoint(tmp_path, TINY)).items():
        assert tensor.dtype == np.float32
        assert np.isfinite(tensor).all()
        if name.endswith(("layer_norm.weight", "weight_g")):
            assert np.abs(tensor - 1).max() <= 0.25
        elif tensor.ndim == 1:
            assert 0 < np.abs(tensor).max() <= 0.25
        else:
            inputs = np.prod(tensor.shape[1:])
            gain = 2 if ".conv." in name else 1
            np.testing.assert_allclose(tensor.var() * inputs, gain, rtol=0.2, err_msg=name)


def test_presets_hold_the_released_numbers_of_weights() -> None:
    sizes = {
        name: sum(int(np.prod(shape)) for shape in stored_shapes(config).values()) for name, config in PRESETS.items()
    }
    assert sizes == {"m-a-p/MERT-v1-95M": 94_371_712, "m-a-p/MERT-v1-330M": 315_428_992}


def test_an_existing_checkpoint_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TINY)
    write_checkpoint(tmp_path, SMALL)
    assert read_config(tmp_path) == SMALL
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, SMALL)
    before = (tmp_path / "model.safetensors").read_bytes()

    def interrupted(*_: Any) -> Iterator[NDArray[np.float32]]:
        yield np.zeros(16, np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, SMALL, seed=1)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(InputError, match="expected 0 to"):
        write_checkpoint(tmp_path, SMALL, seed=seed)


@pytest.mark.oracle
@pytest.mark.parametrize("stable", [False, True])
def test_transformers_loads_it_whole(tmp_path: Path, stable: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = dataclasses.replace(SMALL, do_stable_layer_norm=stable)
    fields = dataclasses.asdict(read_config(write_checkpoint(tmp_path, config)))
    hubert = transformers.HubertConfig(**fields, conv_pos_batch_norm=False)
    _, report = transformers.HubertModel.from_pretrained(tmp_path, config=hubert, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
