from __future__ import annotations

from typing import TYPE_CHECKING

import mpmath
import numpy as np
import pytest
from frechet_oracles import spectrum, svd_frechet
from hypothesis import given, settings
from hypothesis import strategies as st

from mertric.errors import InputError
from mertric.metrics import gaussian as module
from mertric.metrics.frechet import frechet_distance
from mertric.metrics.gaussian import Gaussian, Moments, gaussian_frechet_distance, gaussian_of

if TYPE_CHECKING:
    from pathlib import Path


def _of(x: np.ndarray) -> Gaussian:
    return Gaussian(x.mean(0), np.cov(x, rowvar=False), len(x))


@pytest.mark.parametrize("frames", [5, 12, 60])
def test_distance_is_that_of_the_frames(frames: int) -> None:
    rng = np.random.default_rng(frames)
    x, y = rng.standard_normal((frames, 10)), 1.3 * rng.standard_normal((frames + 7, 10)) + 0.2
    assert gaussian_frechet_distance(_of(x), _of(y)) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_distance_agrees_with_mpmath_for_full_rank() -> None:
    rng = np.random.default_rng(0)
    a, b = (_of(spectrum(rng, 30, np.logspace(0, -2, 6))) for _ in range(2))
    with mpmath.workdps(50):
        c1, c2 = (mpmath.matrix(((c + c.T) / 2).tolist()) for c in (a.covariance, b.covariance))
        root = mpmath.cholesky(c1)
        cross = sum(mpmath.sqrt(v) for v in mpmath.eigsy(root.T * c2 * root, eigvals_only=True))
        gap = a.mean - b.mean
        exact = float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)
    assert gaussian_frechet_distance(a, b) == pytest.approx(exact, rel=1e-10)


def test_distance_of_diagonal_covariances_is_the_closed_form_with_zeros_too() -> None:
    s, t = np.array([4.0, 1.0, 0.0, 0.0]), np.array([1.0, 9.0, 4.0, 0.0])
    x, y = Gaussian(np.zeros(4), np.diag(s)), Gaussian(np.full(4, 0.5), np.diag(t))
    assert gaussian_frechet_distance(x, y) == pytest.approx(1.0 + 1.0 + 4.0 + 4.0, rel=1e-13)
    nothing = Gaussian(np.zeros(4), np.zeros((4, 4)))
    assert gaussian_frechet_distance(nothing, x) == pytest.approx(5.0)
    assert gaussian_frechet_distance(nothing, nothing) == 0.0


def test_distance_is_zero_for_identical_gaussians_of_any_rank() -> None:
    for frames in (3, 40):
        x = _of(np.random.default_rng(1).standard_normal((frames, 20)))
        assert 0.0 <= gaussian_frechet_distance(x, x) <= 1e-12 * np.trace(x.covariance)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-1e4, 1e4), st.integers(0, 99))
def test_moments_of_pieces_are_those_of_the_whole(sizes: list[int], offset: float, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((sum(sizes) + 1, 4)) + offset
    added, merged = Moments(), Moments()
    for piece in np.split(x, np.cumsum(sizes)):
        added.add(piece)
        part = Moments()
        part.add(piece)
        merged.merge(part)
    for got in (added.gaussian(), merged.gaussian()):
        assert got.frames == len(x)
        np.testing.assert_allclose(got.mean, x.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-10)


def test_moments_keep_their_accuracy_with_a_large_offset_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    x = np.random.default_rng(0).standard_normal((1000, 3))
    moved = x + 2.0**24
    np.testing.assert_allclose(
        gaussian_of(moved).covariance, np.cov(moved - 2.0**24, rowvar=False), rtol=1e-12, atol=1e-13
    )


def test_merging_leaves_the_other_as_it_was_and_takes_an_empty_one() -> None:
    one, other = Moments(), Moments()
    other.add(np.eye(3))
    before = other.gaussian()
    one.merge(other)
    one.merge(Moments())
    one.add(np.ones((5, 3)))
    np.testing.assert_array_equal(other.gaussian().covariance, before.covariance)
    assert (one.frames, other.frames) == (8, 3)


def test_dataset_distance_from_streamed_files_is_that_of_all_frames() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((500, 32)).astype(np.float16), rng.standard_normal((400, 32)) * 1.1
    moments = Moments()
    for file in np.array_split(x, 7):
        moments.add(file)
    got = gaussian_frechet_distance(moments.gaussian(), gaussian_of(y))
    assert got == pytest.approx(svd_frechet(x, y), rel=1e-10)


def test_saves_what_it_loads(tmp_path: Path) -> None:
    x = _of(np.random.default_rng(0).standard_normal((9, 4)))
    x.save(tmp_path / "plain.npz")
    x.save(tmp_path / "named", model="MERT-v1-95M-12")
    for got in (
        Gaussian.load(tmp_path / "plain.npz"),
        Gaussian.load(tmp_path / "named", model="MERT-v1-95M-12"),
    ):
        np.testing.assert_array_equal(got.mean, x.mean)
        np.testing.assert_array_equal(got.covariance, x.covariance)
        assert got.frames == 9


def test_writes_what_fadtk_reads_and_reads_what_fadtk_writes(tmp_path: Path) -> None:
    x = _of(np.random.default_rng(0).standard_normal((9, 4)))
    x.save(tmp_path / "a.npz", model="clap-2023")
    with np.load(tmp_path / "a.npz") as data:
        np.testing.assert_array_equal(data["clap-2023.mu"], data["mu"])
        np.testing.assert_array_equal(data["clap-2023.cov"], x.covariance)
    np.savez(tmp_path / "b.npz", **{"clap-2023.mu": x.mean, "clap-2023.cov": x.covariance})
    loaded = Gaussian.load(tmp_path / "b.npz", model="clap-2023")
    assert gaussian_frechet_distance(loaded, x) <= 1e-12 * np.trace(x.covariance)
    assert loaded.frames == 0


def test_says_what_a_file_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"m.mu": np.zeros(2), "m.cov": np.eye(2)})
    with pytest.raises(InputError, match=r"no cov and no mu; it holds m.mu, m.cov. Name fadtk's model"):
        Gaussian.load(tmp_path / "a.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "two.npz", mu=np.zeros(2), cov=np.eye(2), frames=np.zeros(2))
    np.savez(tmp_path / "words.npz", mu=np.array(["a", "b"]), cov=np.eye(2))
    np.savez(tmp_path / "objects.npz", mu=np.array([None, 1], object), cov=np.eye(2))
    np.savez(tmp_path / "damaged.npz", mu=np.zeros(2), cov=np.eye(2))
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[150] ^= 0xFF
    (tmp_path / "damaged.npz").write_bytes(content)
    for name in ("text.npz", "one.npy", "two.npz", "words.npz", "objects.npz", "damaged.npz", "absent.npz"):
        with pytest.raises(InputError, match=f"{name} is not an .npz file of a mean and a covariance"):
            Gaussian.load(tmp_path / name)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (np.zeros(2), np.eye(3), r"mean of shape \(2,\) and a covariance of shape \(3, 3\)"),
        (np.zeros((2, 1)), np.eye(2), r"expected \[dim\] and \[dim, dim\]"),
        (["a", "b"], np.eye(2), "the mean has dtype <U1; expected real numbers"),
        (np.zeros(2), np.full((2, 2), np.nan), "the covariance holds nan at frame 0, dimension 0"),
        (np.zeros(2), np.eye(2) * 1j, "the covariance has dtype complex128; expected real numbers"),
        (np.array([0.0, np.nan]), np.eye(2), "the mean holds nan at position 1"),
        (np.zeros(2), np.diag([1.0, np.inf]), "the covariance holds inf at frame 1, dimension 1"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric: entries differ by 0.5"),
    ],
)
def test_says_what_is_no_gaussian(mean: np.ndarray, covariance: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Gaussian(mean, covariance)


def test_says_what_cannot_be_computed() -> None:
    good = Gaussian(np.zeros(2), np.eye(2))
    with pytest.raises(InputError, match="the covariance of y is not positive semidefinite"):
        gaussian_frechet_distance(good, Gaussian(np.zeros(2), np.diag([1.0, -0.5])))
    with pytest.raises(InputError, match="x has 2 dimensions and y has 3"):
        gaussian_frechet_distance(good, Gaussian(np.zeros(3), np.eye(3)))
    moments = Moments()
    with pytest.raises(InputError, match="0 frames were added; a covariance needs at least 2"):
        moments.gaussian()
    moments.add(np.zeros((1, 2)))
    with pytest.raises(InputError, match="1 frames were added"):
        moments.gaussian()
    with pytest.raises(InputError, match=r"the set so far has 2 dimensions and b.wav has 3"):
        moments.add(np.zeros((1, 3)), name="b.wav")
    with pytest.raises(InputError, match="x holds nan at frame 0, dimension 1"):
        moments.add(np.array([[0.0, np.nan]]))
    assert moments.frames == 1


def test_an_embedding_that_cannot_be_added_leaves_the_set_as_it_was() -> None:
    x = np.ones((3 * module.BLOCK, 4))
    x[2 * module.BLOCK + 7, 2] = np.nan
    moments = Moments()
    moments.add(np.eye(4))
    where = rf"bad.wav holds nan at frame {2 * module.BLOCK + 7}, .*1 of {x.size} values"
    with pytest.raises(InputError, match=where):
        moments.add(x, name="bad.wav")
    with pytest.raises(InputError, match="dimensions"):
        moments.add(np.ones((3, 5)))
    assert moments.frames == 4


def test_covariances_at_the_end_of_the_range() -> None:
    def of(variance: float, mean: float) -> Gaussian:
        return Gaussian(np.full(2, mean), variance * np.eye(2))

    assert gaussian_frechet_distance(of(1e307, 0.0), of(1e307, 1e150)) == pytest.approx(2e300)
    for variance in (2e307, 1.5e308):
        with pytest.raises(InputError, match=r"the covariance of x has eigenvalues up to .*; scale it down"):
            gaussian_frechet_distance(of(variance, 0.0), of(variance, 0.0))
