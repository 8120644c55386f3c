from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from mertric.errors import InputError
from mertric.listening.correlation import correlate, percentile_interval
from mertric.listening.resampling import (
    track_weights,
    weighted_kendall,
    weighted_pearson,
    weighted_ranks,
    weighted_spearman,
)
from mertric.listening.systems import correlate_systems


def sample(n, seed=0):
    generator = np.random.default_rng(seed)
    y = np.round(generator.uniform(1, 5, n), 1)
    return np.round(y + generator.normal(size=n), 1), y


@pytest.mark.parametrize(
    ("weighted", "statistic"),
    [
        (weighted_pearson, stats.pearsonr),
        (weighted_spearman, stats.spearmanr),
        (weighted_kendall, stats.kendalltau),
    ],
)
def test_weights_are_copies_of_rows(weighted, statistic):
    x, y = sample(30)
    if weighted is not weighted_pearson:
        x[[3, 9]] = np.inf, -np.inf
    tracks = [f"t{i % 10}" for i in range(30)]
    weights = track_weights(tracks, resamples=20, seed=1)
    got = weighted(x, y, weights)
    for row, value in zip(weights.astype(int), got, strict=True):
        assert value == pytest.approx(statistic(np.repeat(x, row), np.repeat(y, row))[0], abs=1e-12)


def test_kendall_in_blocks(monkeypatch):
    x, y = sample(40)
    weights = track_weights(list(map(str, range(40))), resamples=5, seed=0)
    whole = weighted_kendall(x, y, weights)
    monkeypatch.setattr("mertric.listening.resampling._BLOCK", 40 * 7)
    np.testing.assert_allclose(weighted_kendall(x, y, weights), whole, rtol=1e-13)


def test_weighted_ranks_average_ties_and_copies():
    ranks = weighted_ranks(np.array([2.0, 1.0, 2.0]), np.array([[1.0, 2.0, 1.0], [1, 0, 1]]))
    np.testing.assert_array_equal(ranks[0], [3.5, 1.5, 3.5])
    np.testing.assert_array_equal(ranks[1, [0, 2]], [1.5, 1.5])


def test_constant_resamples_are_undefined():
    x, y = np.array([0.1, 0.1, 0.3]), np.array([1.0, 2.0, 3.0])
    weights = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    for weighted in (weighted_pearson, weighted_spearman, weighted_kendall):
        assert list(np.isnan(weighted(x, y, weights))) == [True, False]


def test_tracks_are_drawn_whole_and_by_seed():
    tracks = ["a", "b", "a", "c"]
    weights = track_weights(tracks, resamples=500, seed=3)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_array_equal(weights, track_weights(tracks, resamples=500, seed=3))
    assert (weights != track_weights(tracks, resamples=500, seed=4)).any()
    with pytest.raises(InputError, match="resamples=0"):
        track_weights(tracks, resamples=0, seed=0)


def test_coefficients_and_p_values_are_scipys():
    x, y = sample(50)
    found = correlate(x, y)
    for name, statistic in (
        ("spearman", stats.spearmanr),
        ("pearson", stats.pearsonr),
        ("kendall", stats.kendalltau),
    ):
        coefficient = getattr(found, name)
        assert (coefficient.value, coefficient.p_value) == pytest.approx(tuple(statistic(x, y)))
        assert coefficient.low is None
    assert (found.n, found.n_pearson, found.infinite, found.missing, found.note) == (50, 50, 0, 0, "")


def test_infinities_are_extremes_to_ranks_and_left_out_of_pearson():
    x, y = sample(40)
    x[0], x[1], x[2] = np.inf, -np.inf, np.nan
    found = correlate(x, y)
    assert (found.n, found.n_pearson, found.infinite, found.missing) == (39, 37, 2, 1)
    far = x.copy()
    far[0], far[1] = 1e6, -1e6
    assert found.spearman.value == pytest.approx(stats.spearmanr([*far[3:], 1e6, -1e6], [*y[3:], y[0], y[1]])[0])
    assert found.pearson.value == pytest.approx(stats.pearsonr(x[3:], y[3:])[0])
    assert found.kendall.value == pytest.approx(stats.kendalltau(np.delete(far, 2), np.delete(y, 2))[0])


def test_intervals_cover_the_true_correlation():
    """95 % intervals hold the population's coefficient in about 95 % of 200 samples."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        y = generator.normal(size=60)
        x = 0.6 * y + 0.8 * generator.normal(size=60)
        weights = track_weights(list(map(str, range(60))), resamples=300, seed=seed)
        low, high = percentile_interval(weighted_pearson(x, y, weights))
        covered += low <= 0.6 <= high
    assert 178 <= covered <= 199


def test_intervals_widen_when_tracks_are_few():
    x, y = sample(60)
    x, y = np.repeat(x[:12], 5), np.repeat(y[:12], 5)
    rows = correlate(x, y, weights=track_weights(list(map(str, range(60))), resamples=400, seed=0)).spearman
    tracks = correlate(x, y, weights=track_weights([str(i // 5) for i in range(60)], resamples=400, seed=0)).spearman
    assert tracks.high - tracks.low > 1.5 * (rows.high - rows.low)


@pytest.mark.parametrize("n", [4, 6, 7, 8])
def test_few_items_have_exact_p_values(n):
    x, y = sample(n, seed=n)
    observed = abs(stats.spearmanr(x, y)[0])
    null = [abs(stats.spearmanr(x, order)[0]) for order in permutations(y)]
    assert correlate(x, y).spearman.p_value == pytest.approx(np.mean(np.array(null) >= observed - 1e-12))


@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        ([1, 2], [1, 2], "n = 2, at least 3 are needed"),
        ([1, 1, 1], [1, 2, 3], "all scores are equal"),
        ([1, 2, 3], [2, 2, 2], "all ratings are equal"),
        ([1, np.nan, np.nan], [1, 2, 3], "n = 1, at least 3 are needed"),
        ([np.inf, 1, 2, -np.inf], [4, 2, 3, 1], "Pearson: n = 2, at least 3 are needed"),
    ],
)
def test_undefined_coefficients_say_why(x, y, note):
    found = correlate(x, y, weights=np.ones((5, len(x))))
    assert found.note == note
    assert found.pearson.value is None


def test_shapes_and_ratings_are_checked():
    with pytest.raises(InputError, match=r"scores \(2,\) and ratings \(3,\)"):
        correlate([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="1 ratings are not finite"):
        correlate([1, 2, 3], [1, np.nan, 3])


def test_systems_are_means_over_finite_scores():
    models = ["a", "a", "b", "b", "c", "c"]
    x = np.array([1, 3, 5, np.inf, 9, np.nan])
    y = np.array([1.0, 2, 4, 100, 5, 100])
    found = correlate_systems(x, y, models)
    assert (found.n, found.infinite, found.missing) == (3, 1, 1)
    assert found.pearson.value == pytest.approx(stats.pearsonr([2, 5, 9], [1.5, 4, 5])[0])
    assert found.spearman.value == pytest.approx(1)


def test_system_intervals_are_those_of_resampled_means():
    generator = np.random.default_rng(0)
    tracks, models = np.repeat(np.arange(8), 4), np.tile(np.arange(4), 8)
    y = models + generator.normal(size=32)
    x = models + 2 * generator.normal(size=32)
    weights = track_weights([str(t) for t in tracks], resamples=200, seed=0)
    found = correlate_systems(x, y, [str(m) for m in models], weights=weights)
    expected = {"pearson": [], "spearman": [], "kendall": []}
    for row in weights.astype(int):
        pairs = [(np.repeat(x, row * (models == m)).mean(), np.repeat(y, row * (models == m)).mean()) for m in range(4)]
        a, b = np.array(pairs).T
        expected["pearson"].append(stats.pearsonr(a, b)[0])
        expected["spearman"].append(stats.spearmanr(a, b)[0])
        expected["kendall"].append(stats.kendalltau(a, b)[0])
    for name, values in expected.items():
        coefficient = getattr(found, name)
        assert (coefficient.low, coefficient.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_resamples_that_lack_a_system_are_left_out():
    x, y, models = [1.0, 2, 4, 3, 5, 9], [1.0, 3, 2, 5, 4, 6], ["a", "a", "b", "b", "c", "c"]
    whole = np.array([[1.0, 1, 1, 1, 1, 1], [2, 0, 1, 1, 0, 2], [0, 2, 2, 0, 1, 1]])
    lacking = np.array([[0.0, 0, 2, 2, 1, 1], [1, 1, 0, 0, 2, 2]])
    expected, found = (correlate_systems(x, y, models, weights=w) for w in (whole, np.concatenate([whole, lacking])))
    for name in ("spearman", "pearson", "kendall"):
        wanted, got = getattr(expected, name), getattr(found, name)
        assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high))


def test_two_systems_have_no_correlation():
    found = correlate_systems([1.0, 2, 3], [1.0, 2, 3], ["a", "a", "b"], weights=np.ones((3, 3)))
    assert (found.spearman.value, found.note) == (None, "n = 2, at least 3 are needed")


def test_scores_that_are_all_infinite_are_called_so():
    assert correlate([np.inf] * 4, [1.0, 2, 3, 4]).note == "all scores are infinite"


def test_systems_that_every_resample_lacks_have_no_intervals():
    """And say so without a warning."""
    models = ["a", "b", "c"]
    weights = np.array([[2.0, 1, 0], [0, 2, 1]])
    found = correlate_systems([1.0, 2, 4], [1.0, 3, 2], models, weights=weights)
    assert found.spearman.value == pytest.approx(0.5)
    assert found.spearman.low is None


def test_system_intervals_of_models_with_other_tracks():
    """A model that lacks a track has other copies in a resample, for ratings as for scores."""
    x = np.array([1.0, 4, 2, 7, 5, 3, 9, 6])
    y = np.array([2.0, 3, 1, 8, 4, 6, 7, 5])
    tracks, models = list("abcabcab"), list("mmmnnnoo")
    weights = track_weights(tracks, resamples=50, seed=1)
    found = correlate_systems(x, y, models, weights=weights)
    expected = []
    for row in weights.astype(int):
        own = [[i for i, m in enumerate(models) for _ in range(row[i]) if m == model] for model in "mno"]
        if all(map(len, own)):
            expected.append(stats.pearsonr([x[i].mean() for i in own], [y[i].mean() for i in own])[0])
    assert (found.pearson.low, found.pearson.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))


def test_systems_whose_means_are_equal_tie():
    """Two models with one set of ratings, in another order, whose sums in floating point differ."""
    generator = np.random.default_rng(0)
    models = [name for name in "abcd" for _ in range(9)]
    expected = stats.spearmanr([1, 2, 3, 4], [1, 1, 3, 4])[0]
    for _ in range(40):
        first = generator.random(9)
        y = np.concatenate([first, generator.permutation(first), first + 1, first + 2])
        found = correlate_systems(np.repeat([1.0, 2, 3, 4], 9), y, models)
        assert found.spearman.value == pytest.approx(expected)


def test_a_resample_that_is_constant_but_for_rounding_is_undefined():
    generator = np.random.default_rng(0)
    for _ in range(50):
        x, y = generator.normal(size=(2, 9))
        weights = np.zeros((1, 9))
        weights[0, 3] = 9
        assert np.isnan(weighted_pearson(x, y, weights)[0])


def test_systems_count_the_items_that_their_means_leave_out():
    x = [1.0, 2, 3, 4, 5, 6, np.inf, np.nan, np.nan]
    found = correlate_systems(x, np.arange(9.0), list("abcabcabc"))
    assert (found.n, found.infinite, found.missing) == (3, 1, 2)


def test_no_correlation_is_above_one_by_rounding():
    generator = np.random.default_rng(0)
    for _ in range(50):
        x = generator.normal(size=12)
        (found,) = weighted_pearson(x, 3 * x + 1, np.ones((1, 12)))
        assert 1 - 1e-12 < found <= 1
