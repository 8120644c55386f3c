from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mertric.errors import InputError
from mertric.listening.comparison import compare, steiger_test
from mertric.listening.resampling import track_weights


def test_steiger_published_examples():
    """Steiger (1980), case A (the paper rounds on the way, to -0.8913), and the example of depcor (2006)."""
    assert steiger_test(0.4, 0.5, 0.1, 103)[0] == pytest.approx(-0.8887185, abs=5e-8)
    z, p = steiger_test(0.3, 0.4, 0.5, 100)
    assert (z, p) == pytest.approx((-1.0718, 0.2838), abs=5e-5)


def test_steiger_is_calibrated_under_no_difference():
    generator = np.random.default_rng(0)
    covariance = [[1, 0.5, 0.5], [0.5, 1, 0.3], [0.5, 0.3, 1]]
    p_values = []
    for _ in range(1500):
        r = np.corrcoef(generator.multivariate_normal(np.zeros(3), covariance, size=80).T)
        p_values.append(steiger_test(r[0, 1], r[0, 2], r[1, 2], 80)[1])
    assert 0.035 <= np.mean(np.array(p_values) < 0.05) <= 0.065


def test_steiger_edges():
    assert steiger_test(0.5, 0.5, 1.0, 10) == (0.0, 1.0)
    with pytest.raises(InputError, match="needs n > 3"):
        steiger_test(0.5, 0.4, 0.1, 3)
    with pytest.raises(InputError, match=r"\|r\| < 1"):
        steiger_test(1.0, 0.4, 0.1, 10)


def scored(n=120, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.normal(size=n)
    return -(y + 0.5 * generator.normal(size=n)), y + 2 * generator.normal(size=n), y


def test_compare_turns_signs_and_tests_three_coefficients():
    error, ratio, y = scored()
    weights = track_weights(list(map(str, range(120))), resamples=999, seed=0)
    spearman, pearson, kendall = compare(error, ratio, y, weights=weights)
    r_error, r_ratio, between = (stats.pearsonr(*pair)[0] for pair in ((error, y), (ratio, y), (error, ratio)))
    assert (pearson.first, pearson.second) == pytest.approx((-r_error, r_ratio))
    assert (pearson.steiger_z, pearson.steiger_p) == pytest.approx(steiger_test(-r_error, r_ratio, -between, 120))
    assert spearman.first == pytest.approx(-stats.spearmanr(error, y)[0])
    assert kendall.second == pytest.approx(stats.kendalltau(ratio, y)[0])
    assert kendall.steiger_z is None
    for found in (spearman, pearson, kendall):
        assert 0 < found.low < found.difference < found.high
        assert found.bootstrap_p == pytest.approx(2 / 1000)


def test_compare_is_antisymmetric_and_null_for_one_metric():
    error, ratio, y = scored()
    weights = track_weights(list(map(str, range(120))), resamples=200, seed=0)
    forth, back = (compare(*pair, y, weights=weights)[1] for pair in ((error, ratio), (ratio, error)))
    assert (forth.difference, forth.low) == pytest.approx((-back.difference, -back.high))
    same = compare(error, 3 * error, y, weights=weights)[0]
    assert (same.difference, same.bootstrap_p, same.steiger_p) == (0, 1, 1)


def test_compare_uses_the_same_items_for_both():
    error, ratio, y = scored()
    error[:3], ratio[3], ratio[4] = np.nan, np.nan, np.inf
    spearman, pearson, _ = compare(error, ratio, y)
    assert (spearman.n, pearson.n, spearman.low, spearman.bootstrap_p) == (116, 115, None, None)
    assert spearman.first == pytest.approx(-stats.spearmanr(error[4:], y[4:])[0])
    with pytest.raises(InputError, match="2 items have both scores for spearman"):
        compare(error[:6], ratio[:6], y[:6])


def test_metrics_without_relation_keep_their_sign_in_resamples():
    """Magnitudes in each resample would all be above 0 and hide that the sign is not known."""
    generator = np.random.default_rng(3)
    y, weak = generator.normal(size=(2, 60))
    other = np.where(np.arange(60) % 2, 1.0, -1.0) + 1e-3 * y
    weights = track_weights(list(map(str, range(60))), resamples=500, seed=0)
    _, pearson, _ = compare(weak, other, y, weights=weights)

    def turned(metric):
        sign = np.sign(stats.pearsonr(metric, y)[0])
        return [sign * stats.pearsonr(*np.repeat([metric, y], row.astype(int), axis=1))[0] for row in weights]

    first, second = turned(weak), turned(other)
    assert min(first) < 0
    expected = np.quantile(np.subtract(first, second), [0.025, 0.975])
    assert (pearson.low, pearson.high) == pytest.approx(tuple(expected))


def test_steigers_test_is_of_four_items_and_more():
    a, b, y = [1.0, 2.0, 4.0, 3.0], [2.0, 1.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.5]
    assert all(one.steiger_p is not None for one in compare(a, b, y)[:2])
    assert all(one.steiger_p is None for one in compare(a[1:], b[1:], y[1:]))
