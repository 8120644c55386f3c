from __future__ import annotations

import time
import weakref

import numpy as np
import pytest

from mertric.errors import InputError
from mertric.metrics import batch
from mertric.metrics.batch import frechet_distances
from mertric.metrics.curves import frechet_curve
from mertric.metrics.fad_infinity import fad_infinity
from mertric.metrics.frechet import frechet_distance
from mertric.metrics.gaussian import gaussian_of
from mertric.metrics.kernel_distance import kernel_audio_distance
from mertric.metrics.per_file import per_file_frechet_distances
from mertric.metrics.prepared import PreparedEmbedding, prepare

RNG = np.random.default_rng(0)
CLIPS = [RNG.standard_normal((n, 16)) * (1 + 0.1 * n) for n in (8, 30, 12, 20, 9)]


@pytest.fixture(autouse=True)
def reseeded() -> None:
    """Give each test the same draws, whatever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_pairs_are_those_of_single_calls_in_order(workers: int | None) -> None:
    got = frechet_distances(CLIPS, CLIPS[::-1], workers=workers)
    expected = [frechet_distance(x, y) for x, y in zip(CLIPS, CLIPS[::-1], strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert got.dtype == np.float64


def test_layers_are_those_of_single_calls() -> None:
    x, y = RNG.standard_normal((2, 3, 4, 9, 6)).astype(np.float16)
    got = frechet_distances(list(x), list(y))
    expected = [[frechet_distance(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(x, y, strict=True)]
    assert got.shape == (3, 4)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_reference_that_stands_several_times_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def counted(x: np.ndarray, *, name: str) -> object:
        names.append(name)
        time.sleep(0.05)  # the other threads want it meanwhile
        return prepare(x, name=name)

    monkeypatch.setattr(batch, "prepare", counted)
    got = frechet_distances([CLIPS[0]] * 5, CLIPS, workers=5)
    assert sum(name.startswith("reference") for name in names) <= 1
    assert len(names) == 5
    np.testing.assert_allclose(got, [frechet_distance(CLIPS[0], y) for y in CLIPS], rtol=1e-12, atol=1e-12)


def test_what_was_prepared_is_let_go_after_its_last_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[PreparedEmbedding]] = []
    alive: list[int] = []

    def watched(x: np.ndarray, *, name: str) -> PreparedEmbedding:
        prepared = prepare(x, name=name)
        made.append(weakref.ref(prepared))
        return prepared

    def count(x: PreparedEmbedding, y: PreparedEmbedding) -> float:
        alive.append(sum(one() is not None for one in made))
        return 0.0

    monkeypatch.setattr(batch, "prepare", watched)
    monkeypatch.setattr(batch, "distance", count)
    frechet_distances([CLIPS[0], CLIPS[0], CLIPS[1]], CLIPS[2:], workers=1)
    assert len(made) == 5
    assert alive == [2, 2, 2]


def test_prepared_embeddings_may_stand_on_either_side() -> None:
    reference = prepare(CLIPS[1])
    got = frechet_distances([reference] * 2, [CLIPS[2], prepare(CLIPS[3])])
    np.testing.assert_allclose(got, [frechet_distance(CLIPS[1], y) for y in CLIPS[2:4]], rtol=1e-12)


def test_no_pairs_give_no_distances() -> None:
    assert frechet_distances([], []).shape == (0,)


def test_says_which_pair_is_wrong() -> None:
    good = CLIPS[0]
    for bad, message in (
        (np.ones((1, 16)), "estimate 1 has 1 frame"),
        (np.ones((4, 3)), "reference 1 has 16 dimensions and estimate 1 has 3"),
        (np.full((4, 16), np.nan), "estimate 1 holds nan at frame 0"),
        (np.ones((2, 4, 16)), "reference 1 has one embedding and estimate 1 has 2 layers"),
        (np.ones((0, 4, 16)), r"estimate 1 has shape \(0, 4, 16\): no layers"),
        (np.ones(16), r"estimate 1 has shape \(16,\); expected \[frames, dim\], or \[layers, frames, dim\]"),
    ):
        with pytest.raises(InputError, match=message):
            frechet_distances([good, good], [good, bad])
    with pytest.raises(InputError, match="got 2 references and 1 estimates"):
        frechet_distances([good, good], [good])
    with pytest.raises(InputError, match="pair 1 has 2 layers and pair 0 has one embedding"):
        frechet_distances([good, np.ones((2, 4, 16))], [good, np.ones((2, 4, 16))])
    with pytest.raises(InputError, match="workers is 0; expected at least 1"):
        frechet_distances([good], [good], workers=0)


def test_per_file_distances_are_those_of_single_calls() -> None:
    whole = np.concatenate(CLIPS)
    expected = [frechet_distance(whole, x) for x in CLIPS]
    for reference in (whole, prepare(whole), gaussian_of(whole)):
        np.testing.assert_allclose(per_file_frechet_distances(reference, CLIPS), expected, rtol=1e-9)
    assert per_file_frechet_distances(whole, []).shape == (0,)
    with pytest.raises(InputError, match="the reference has 16 dimensions and file 1 has 2"):
        per_file_frechet_distances(whole, [CLIPS[0], np.ones((4, 2))])
    with pytest.raises(InputError, match="file 0 has 1 frame"):
        per_file_frechet_distances(whole, [np.ones((1, 16))])


def test_fad_infinity_is_the_line_through_its_points() -> None:
    x, reference = RNG.standard_normal((900, 4)), RNG.standard_normal((2000, 4))
    got = fad_infinity(reference, x, steps=9, least=50, draws=3, seed=5)
    inverse = np.tile(1 / got.frames, 3)
    design = np.stack([inverse, np.ones_like(inverse)], axis=1)
    (slope, score), *_ = np.linalg.lstsq(design, got.distances.ravel(), rcond=None)
    residual = got.distances.ravel() - design @ [slope, score]
    assert got.score == pytest.approx(score, rel=1e-9, abs=1e-12)
    assert got.slope == pytest.approx(slope, rel=1e-9)
    assert got.r2 == pytest.approx(1 - residual @ residual / got.distances.size / got.distances.var(), rel=1e-9)
    assert (got.frames[0], got.frames[-1]) == (50, 900)
    assert got.distances.shape == (3, 9)
    assert got.score == pytest.approx(got.scores.mean(), rel=1e-6)


def test_fad_infinity_takes_the_bias_away() -> None:
    """Two samples of one Gaussian: the distance of 400 frames is mostly bias."""
    x, reference = RNG.standard_normal((400, 8)), gaussian_of(RNG.standard_normal((100_000, 8)))
    got = fad_infinity(reference, x, steps=15, least=60, draws=4, replace=False)
    plain = per_file_frechet_distances(reference, [x])[0]
    assert abs(got.score) < 0.3 * plain
    assert fad_infinity(reference, x, steps=15, least=60, draws=30).score > 0.5 * plain
    assert got.r2 > 0.8


def test_fad_infinity_depends_on_its_seed_alone() -> None:
    x = RNG.standard_normal((120, 3))
    one, same, other = (
        fad_infinity(CLIPS[1][:, :3], x, steps=4, least=20, seed=seed, workers=workers)
        for seed, workers in ((1, 1), (1, 3), (2, 1))
    )
    np.testing.assert_array_equal(one.distances, same.distances)
    assert one.score != other.score


def test_fad_infinity_says_what_is_wrong() -> None:
    x = RNG.standard_normal((60, 3))
    for options, message in (
        ({"steps": 1}, "steps is 1; expected at least 2"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"least": 1}, "least is 1"),
        ({"draws": 0}, "draws is 0; expected at least 1"),
        ({}, "x has 60 frames; extrapolating from 500 on needs more"),
    ):
        with pytest.raises(InputError, match=message):
            fad_infinity(x, x, **options)
    with pytest.raises(InputError, match="the reference has 2 dimensions and x has 3"):
        fad_infinity(x[:, :2], x, least=9)
    bad = x.copy()
    bad[7, 1] = np.nan
    with pytest.raises(InputError, match="x holds nan at frame 7, dimension 1"):
        fad_infinity(x, bad, least=9)


def test_fad_infinity_of_constant_embeddings_explains_nothing() -> None:
    got = fad_infinity(np.zeros((9, 2)), np.ones((9, 2)), steps=3, least=2)
    assert got.score == pytest.approx(2.0)
    assert np.isnan(got.r2)


@pytest.mark.parametrize("frames", [(120, 110), (200, 150), (400, 130)])
def test_a_lone_pair_is_the_pair_of_a_batch(frames: tuple[int, int]) -> None:
    x, y = (RNG.standard_normal((n, 160)) for n in frames)
    assert frechet_distance(x, y) == pytest.approx(frechet_distances([x, x], [y, y])[1], rel=1e-13)


def test_elements_made_at_each_access() -> None:
    """Their identities are used again once they are gone."""

    class Made(list):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            return (clip.tolist() for clip in super().__iter__())

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            return super().__getitem__(index).tolist()

    references, estimates = CLIPS * 3, [clip + index for index, clip in enumerate(CLIPS * 3)]
    expected = frechet_distances(references, estimates, workers=1)
    np.testing.assert_array_equal(frechet_distances(Made(references), Made(estimates), workers=1), expected)


def test_workers_that_cannot_be_are_refused_everywhere() -> None:
    x = np.random.default_rng(0).standard_normal((9, 3))
    for call in (
        lambda: frechet_distances([x], [x], workers=0),
        lambda: per_file_frechet_distances(x, [x], workers=0),
        lambda: frechet_curve(x, x, window=3, hop=1, frame_rate=1, workers=0),
        lambda: kernel_audio_distance(x, x + 1, workers=0),
        lambda: fad_infinity(x, x, least=2, steps=2, workers=0),
    ):
        with pytest.raises(InputError, match="workers is 0; expected at least 1"):
            call()
