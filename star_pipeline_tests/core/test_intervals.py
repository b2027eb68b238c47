"""Estimates and their intervals against scipy's own computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from star_pipeline.core.intervals import auc, bootstrap, mean, mid_ranks, of_totals, share, spearman

some_values = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(some_values)
def test_mid_ranks_are_those_of_scipy(values):
    assert mid_ranks(values) == pytest.approx((stats.rankdata(values) - 0.5) / len(values))


@given(some_values, some_values)
def test_auc_is_that_of_mann_whitney(positives, negatives):
    statistic = stats.mannwhitneyu(positives, negatives).statistic
    assert auc(positives, negatives) == pytest.approx(statistic / (len(positives) * len(negatives)))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_spearman_is_that_of_scipy(pairs):
    xs, ys = zip(*pairs, strict=True)
    if len(set(xs)) == 1 or len(set(ys)) == 1:
        assert np.isnan(spearman(xs, ys))
    else:
        assert spearman(xs, ys) == pytest.approx(stats.spearmanr(xs, ys).statistic)


def test_the_mean_of_many_values_lies_where_student_says():
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    found = mean(values.tolist())
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (found.figure, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=0.02)
    assert found == mean(values.tolist())


def test_values_of_one_seed_count_as_one():
    alone = bootstrap([[1.0], [0.0]] * 20, lambda groups: float(np.mean(np.concatenate(groups))))
    together = bootstrap([[1.0] * 50, [0.0] * 50] * 20, lambda groups: float(np.mean(np.concatenate(groups))))
    assert (alone.low, alone.high, alone.n) == (together.low, together.high, 40)


def test_of_nothing_there_is_no_estimate():
    assert share(0, 0) is None
    assert mean([]) is None
    assert np.isnan(auc([], [1.0]))


def test_a_figure_of_totals_is_what_the_plain_bootstrap_says_of_groups_of_any_number():
    random = np.random.default_rng(7)
    for groups in (40, 3000):  # of 3,000 several are drawn together
        of = np.repeat(np.arange(groups), 3)
        values = random.normal(1.0, 1.0, groups)[of] + random.normal(0.0, 0.2, len(of))
        found = of_totals(of, [values, np.ones(len(of))], lambda totals: totals[0] / totals[1])
        assert found.n == groups
        assert found.figure == pytest.approx(values.mean())
        means = values.reshape(-1, 3).mean(axis=1)
        low, high = stats.t.interval(0.95, groups - 1, means.mean(), stats.sem(means))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.3 * (high - low) / 2)
    assert of_totals(np.array([], dtype=np.int64), [np.array([])], lambda totals: totals[0]) is None
