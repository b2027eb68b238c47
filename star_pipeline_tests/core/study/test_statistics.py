"""Intervals, p, Holm and power against scipy and statsmodels; what has no interval says so."""

import numpy as np
import pytest

from star_pipeline.core.study.results import GRADE, HELD_OUT, compared
from star_pipeline.core.study.statistics import (
    Observation,
    compare,
    detectable,
    holm,
    matrix,
    power,
    questions_needed,
    student_t,
)

stats = pytest.importorskip("scipy.stats")
multitest = pytest.importorskip("statsmodels.stats.multitest")


def observed(shift, questions=40, seeds=3, sd_seed=0.0, rng=None):
    """Arms 'seeds' and 'star' whose values differ by ``shift`` on average."""
    rng = rng or np.random.default_rng(1)
    level = rng.normal(2, 1, questions)
    seen = []
    for seed in range(seeds):
        off = rng.normal(0, sd_seed) if sd_seed else 0.0
        for number in range(questions):
            base = level[number] + rng.normal(0, 0.05)
            seen.append(Observation("seeds", seed, f"q{number}", base))
            seen.append(Observation("star", seed, f"q{number}", base + shift + off + rng.normal(0, 0.1)))
    return seen


def test_the_interval_is_the_paired_t_of_question_means_and_the_regression_clustered_by_question():
    sm = pytest.importorskip("statsmodels.api")
    seen = observed(-0.05)
    questions, seeds = [f"q{n}" for n in range(40)], [0, 1, 2]
    differences = matrix(seen, "star", questions, seeds) - matrix(seen, "seeds", questions, seeds)
    found = compare(differences).questions
    paired = stats.ttest_1samp(differences.mean(axis=1), 0)
    interval = paired.confidence_interval(0.95)
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, paired.pvalue))
    regression = sm.OLS(differences.ravel(), np.ones(120)).fit(
        cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(40), 3), "df_correction": True}, use_t=True
    )
    assert (found.low, found.high) == pytest.approx(tuple(regression.conf_int()[0]), rel=1e-9)
    assert found.p == pytest.approx(regression.pvalues[0], rel=1e-6)


def test_the_bootstrap_agrees_with_students_t_and_with_scipys():
    differences = np.random.default_rng(4).normal(0.1, 0.4, (200, 3))
    found = compare(differences)
    own = (found.boot_low, found.boot_high)
    means = differences.mean(axis=1)
    theirs = stats.bootstrap((means,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    error = means.std(ddof=1) / np.sqrt(200)
    assert own == pytest.approx((theirs.low, theirs.high), abs=0.15 * error)
    assert own == pytest.approx((found.questions.low, found.questions.high), abs=0.25 * error)


def test_a_bootstrap_of_95_percent_holds_the_truth_about_as_often():
    rng, held = np.random.default_rng(0), {"t": 0, "boot": 0}
    for _ in range(200):
        found = compare(rng.normal(0.3, 1, (60, 1)))
        held["t"] += found.questions.low <= 0.3 <= found.questions.high
        held["boot"] += found.boot_low <= 0.3 <= found.boot_high
    assert all(0.9 < count / 200 < 0.99 for count in held.values()), held


def test_over_training_seeds_the_interval_is_that_of_their_mean_differences():
    differences = np.random.default_rng(2).normal(0.1, 1, (30, 4))
    seeds = compare(differences).seeds
    interval = stats.ttest_1samp(differences.mean(axis=0), 0).confidence_interval(0.95)
    assert (seeds.low, seeds.high, seeds.n) == (pytest.approx(interval.low), pytest.approx(interval.high), 4)
    assert compare(differences[:, :1]).seeds is None


def test_what_is_missing_leaves_the_pair_out_and_is_counted():
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, 5.0]])
    found = compare(values)
    assert (found.questions.mean, found.questions.n, found.missing) == (2.5, 2, 1)
    assert compare(np.full((3, 2), np.nan)) is None


def test_one_question_has_no_interval_and_what_never_varies_leaves_nothing_open():
    one = student_t(np.array([0.3]))
    assert (one.mean, one.low, one.high, one.p) == (0.3, None, None, None)
    same = student_t(np.array([0.25, 0.25, 0.25]))
    assert (same.low, same.high, same.p) == (0.25, 0.25, 0.0)
    nothing = student_t(np.zeros(5))
    assert (nothing.low, nothing.high, nothing.p) == (0.0, 0.0, 1.0)


def test_holm_is_statsmodels_and_leaves_what_has_no_p_alone():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ps = list(np.round(rng.random(rng.integers(1, 12)) ** 3, 3))
        assert holm(ps) == pytest.approx(list(multitest.multipletests(ps, method="holm")[1]))
        assert holm([None, *ps]) == [None, *holm(ps)]


@pytest.mark.parametrize(("difference", "sd"), [(0.5, 1.0), (0.1, 1.0), (0.02, 0.3), (2.0, 1.0), (-0.2, 0.9)])
def test_the_questions_needed_are_statsmodels_power(difference, sd):
    test = pytest.importorskip("statsmodels.stats.power").TTestPower()
    needed = questions_needed(difference, sd)
    exact = test.solve_power(abs(difference) / sd, power=0.8, alpha=0.05)
    assert needed == max(2, int(np.ceil(exact)))
    assert power(difference / sd, needed) == pytest.approx(test.power(abs(difference) / sd, needed, 0.05), abs=1e-9)
    assert detectable(sd, needed) <= abs(difference)


def test_no_difference_needs_no_number_of_questions():
    assert questions_needed(0.0, 1.0) is None
    assert questions_needed(1e-9, 1.0) is None
    assert questions_needed(0.1, 0.0) == 2
    assert detectable(0.3, 1) is None


def test_a_plain_difference_is_shown_and_equal_arms_show_none():
    [baseline, star] = compared("m", HELD_OUT, "all", observed(-0.2), ["seeds", "star"], "seeds")
    assert (baseline.shown, baseline.difference, baseline.p) == (None, None, None)
    assert star.shown == "better"
    assert star.high < 0
    assert "star: held-out loss" in star.words
    assert "better, p below 0.001" in star.words
    [_, worse] = compared("m", GRADE, "all", observed(-0.2), ["seeds", "star"], "seeds")
    assert worse.shown == "worse"
    same = [Observation(arm, o.seed, o.question, o.value) for o in observed(0) if o.arm == "seeds" for arm in "ab"]
    [_, b] = compared("m", HELD_OUT, "all", same, ["a", "b"], "a")
    assert (b.difference, b.low, b.high, b.p, b.shown) == (0, 0, 0, 1, "no difference shown")
    noise = observed(0.001)
    [_, none] = compared("m", HELD_OUT, "all", noise, ["seeds", "star"], "seeds")
    assert none.shown == "no difference shown"
    assert none.needed > none.n
    assert f"needs some {none.needed:,}" in none.words


def test_what_turns_with_the_training_seed_is_not_called_shown():
    """Many questions say that these models differ; three training seeds say that tuning again may say the opposite."""
    seen = observed(0.0, questions=300, sd_seed=0.3, rng=np.random.default_rng(3))
    [_, star] = compared("m", HELD_OUT, "all", seen, ["seeds", "star"], "seeds")
    assert star.p < 0.001
    assert star.seeds_low < 0 < star.seeds_high
    assert star.shown == "seeds disagree"
    assert "tuned again, it may turn" in star.words
    once = [o for o in seen if o.seed == 0]
    [_, one] = compared("m", HELD_OUT, "all", once, ["seeds", "star"], "seeds")
    assert "With one training seed" in one.words


def test_holm_is_over_the_arms_of_a_measure():
    rng = np.random.default_rng(5)
    seen = [
        Observation(arm, 0, f"q{n}", float(rng.normal(0.35 * (arm != "seeds"), 1)))
        for n in range(40)
        for arm in ("seeds", "a", "b", "c")
    ]
    rows = compared("m", GRADE, "all", seen, ["seeds", "a", "b", "c"], "seeds")
    assert [row.p_holm for row in rows[1:]] == holm([row.p for row in rows[1:]])
    assert all(row.p_holm >= row.p for row in rows[1:])
