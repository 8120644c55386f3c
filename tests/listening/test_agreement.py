from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mertric.listening.agreement import (
    _stepped_up,
    agreement,
    intraclass_correlation,
    krippendorff_alpha,
    leave_one_out,
    split_half,
)

KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def raters(items, people, *, noise, seed=0):
    """Items of unit variance, each rated by all people with the given noise."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=items)
    table = truth[:, None] + noise * generator.normal(size=(items, people))
    return [{f"p{k}": float(value) for k, value in enumerate(row)} for row in table]


def test_krippendorffs_own_example():
    """Krippendorff (2011), section with missing data: interval alpha 0.849."""
    columns = zip(*(line.split() for line in KRIPPENDORFF.split("\n") if line), strict=True)
    values = [np.array([float(cell) for cell in column if cell != "."]) for column in columns]
    assert krippendorff_alpha(values) == pytest.approx(0.849, abs=5e-4)


def test_alpha_of_agreement_and_chance():
    assert krippendorff_alpha([np.array([1.0, 1.0]), np.array([2.0, 2.0])]) == 1
    assert krippendorff_alpha([np.array([2.0, 2.0]), np.array([2.0, 2.0])]) is None
    noise = np.random.default_rng(0).normal(size=(400, 5))
    assert krippendorff_alpha(list(noise)) == pytest.approx(0, abs=0.05)


def test_shrout_and_fleiss_example():
    """Shrout & Fleiss (1979), table 4: ICC(1,1) = 0.17, ICC(1,4) = 0.44."""
    found = intraclass_correlation([np.array(row, dtype=float) for row in SHROUT_FLEISS])
    assert found == pytest.approx((0.166, 0.443), abs=5e-4)


def test_icc_recovers_the_variance_ratio_with_unequal_numbers():
    generator = np.random.default_rng(0)
    values = [mean + generator.normal(size=generator.integers(2, 8)) for mean in generator.normal(size=3000)]
    assert intraclass_correlation(values)[0] == pytest.approx(0.5, abs=0.03)


def test_split_half_and_ceiling_recover_the_reliability():
    """The mean of 8 raters with noise variance 4 has reliability 1 / (1 + 4 / 8); the ceiling is its root."""
    found = agreement(raters(4000, 8, noise=2.0), splits=20)
    assert found.split_half_pearson == pytest.approx(2 / 3, abs=0.02)
    assert found.ceiling_pearson == pytest.approx((2 / 3) ** 0.5, abs=0.015)
    assert found.icc1k == pytest.approx(2 / 3, abs=0.02)
    assert (found.items, found.raters, found.ratings) == (4000, 8, 32000)


def test_no_metric_beats_the_ceiling_but_the_truth_reaches_it():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=3000)
    table = truth[:, None] + 1.5 * generator.normal(size=(3000, 6))
    units = [dict(enumerate(row)) for row in table.tolist()]
    units = [{str(k): v for k, v in unit.items()} for unit in units]
    reached = stats.pearsonr(truth, table.mean(axis=1))[0]
    assert agreement(units, splits=20).ceiling_pearson == pytest.approx(reached, abs=0.01)


def test_raters_may_rate_different_items():
    units = raters(60, 6, noise=0.5)
    units = [
        {rater: value for rater, value in unit.items() if int(rater[1]) // 3 == index % 2}
        for index, unit in enumerate(units)
    ]
    found = agreement(units, splits=20)
    assert (found.raters, found.ratings) == (6, 180)
    assert found.split_half_spearman > 0.8
    assert found.leave_one_out > 0.7


def test_leave_one_out_of_three_raters():
    units = [{"a": 1.0, "b": 2.0, "c": 4.0}, {"a": 2.0, "b": 3.0, "c": 1.0}, {"a": 3.0, "b": 1.0, "c": 2.0}]
    columns = {name: np.array([unit[name] for unit in units]) for name in "abc"}
    expected = [
        stats.spearmanr(columns[name], sum(columns[other] for other in "abc" if other != name))[0] for name in "abc"
    ]
    assert leave_one_out(units) == pytest.approx(np.mean(expected))
    assert leave_one_out([{"a": 1.0, "b": 2.0}]) is None


def test_leave_one_out_where_items_have_unequal_numbers_of_raters():
    units = [{"a": 1.0, "b": 4.8, "c": 4.0}, {"a": 3.0, "b": 5.0}, {"a": 4.0, "b": 7.0, "c": 6.0}]
    assert leave_one_out(units) == pytest.approx(1)


def test_halvings_follow_the_seed():
    units = raters(40, 5, noise=1.0)
    assert split_half(units, splits=5, seed=1) == split_half(units, splits=5, seed=1)
    assert split_half(units, splits=5, seed=1) != split_half(units, splits=5, seed=2)


def test_single_ratings_and_unknown_raters():
    assert agreement([{"a": 1.0}, {"a": 2.0}, {"a": 3.0}, {"a": 1.0, "b": 2.0}]) is None
    found = agreement(raters(10, 3, noise=1.0), raters_known=False, splits=5)
    assert (found.raters, found.leave_one_out) == (None, None)


def test_reliability_of_few_and_odd_numbers_of_raters():
    """Three raters of noise variance 2 have reliability 1 / (1 + 2 / 3); their halves are one and two of them."""
    found = agreement(raters(20000, 3, noise=2**0.5), splits=10)
    assert found.split_half_pearson == pytest.approx(0.6, abs=0.01)
    assert found.ceiling_pearson == pytest.approx(0.6**0.5, abs=0.01)


def test_halves_are_stepped_up_after_they_are_averaged():
    assert _stepped_up(np.array([0.2, np.nan, 0.8]), 0.25) == pytest.approx(2 * 0.5 / 1.5)


def test_halves_that_agree_whole_and_not_at_all():
    same = [{"a": float(n), "b": float(n), "c": float(n)} for n in range(5)]
    assert split_half(same, splits=4, seed=0) == (1.0, 1.0)
    opposed = [{"a": float(n), "b": -float(n)} for n in range(5)]
    assert split_half(opposed, splits=4, seed=0) == (None, None)


@pytest.mark.parametrize("people", [3, 5, 7])
def test_raters_who_agree_but_for_their_scale_are_reliable(people):
    """Their halves correlate perfectly but for the last digit."""
    generator = np.random.default_rng(people)
    for _ in range(30):
        offsets = generator.integers(0, 20, people)
        units = [{f"r{n}": float(x + offset) for n, offset in enumerate(offsets)} for x in generator.integers(0, 99, 9)]
        assert split_half(units, splits=5, seed=0)[1] == pytest.approx(1, abs=1e-12)


def test_a_rater_of_two_items_says_nothing():
    units = [{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}, {"b": 3.0, "c": 3.0}]
    assert leave_one_out(units) == pytest.approx(stats.spearmanr([2, 1, 3], [1, 2, 3])[0])


@pytest.mark.parametrize("unit", [1.0, 0.1])
def test_equal_means_tie_in_any_unit_and_order(unit):
    rows = [(1, 1, 2), (2, 2, 1), (3, 0, 3), (4, 3, 1)]  # the others of the first: 3, 3, 3, 4
    units = [dict(zip("abc", (unit * value for value in row), strict=True)) for row in rows]
    table = np.array(rows, dtype=float)
    expected = [
        stats.spearmanr(table[:, column], np.delete(table, column, axis=1).sum(axis=1))[0] for column in range(3)
    ]
    assert leave_one_out(units) == pytest.approx(np.mean(expected))


def test_icc_of_items_with_equal_means():
    values = [np.array([1.0, 3.0, 2.0]), np.array([3.0, 1.0, 2.0])]
    assert intraclass_correlation(values) == (pytest.approx(-1 / 2), None)
    for equal in (2.0, 0.1):
        assert intraclass_correlation([np.full(3, equal)] * 4) == (None, None)
    generator = np.random.default_rng(0)
    for _ in range(50):
        tenths = [generator.permutation([0.1, 0.2, 0.4, 0.7]) for _ in range(5)]
        assert intraclass_correlation(tenths) == (pytest.approx(-1 / 3), None)


def test_only_items_with_two_ratings_are_counted():
    units = [*raters(10, 3, noise=1.0), {"p0": 1.0}, {"alone": 2.0}]
    found = agreement(units, splits=5)
    assert (found.items, found.raters, found.ratings) == (10, 3, 30)


def test_a_ceiling_is_the_root_of_a_low_reliability_too():
    found = agreement(raters(4000, 4, noise=4.0), splits=20)
    assert found.split_half_pearson == pytest.approx(1 / 5, abs=0.05)
    assert found.ceiling_pearson == found.split_half_pearson**0.5
    assert found.ceiling_spearman == found.split_half_spearman**0.5
