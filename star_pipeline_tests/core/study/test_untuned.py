"""The untuned target among a study's results, against scipy on the same numbers."""

import numpy as np
import pytest
from scipy import stats

from star_pipeline.core.study.conclusion import conclude
from star_pipeline.core.study.records import StudyLoss, StudyWin
from star_pipeline.core.study.results import study_results

ARMS, SEEDS, QUESTIONS = ("seeds", "star", "random"), (3, 4, 5), 30


def losses(gain):
    """(the rows, arm -> values by question and training seed); each arm's losses are less by its gain than the untuned target's."""
    draws = np.random.default_rng(1)
    hard = draws.normal(2, 0.5, QUESTIONS)
    values = {arm: hard[:, None] - gain[arm] + draws.normal(0, 0.1, (QUESTIONS, len(SEEDS))) for arm in ARMS}
    values["untuned"] = (hard + draws.normal(0, 0.1, QUESTIONS))[:, None]
    rows = [
        StudyLoss("t", arm, seed, f"q{n}", "f", None, float(of[n, place]), 9, "ok")
        for arm, of in values.items()
        for place, seed in enumerate(SEEDS[: of.shape[1]])
        for n in range(QUESTIONS)
    ]
    return rows, values


def test_each_arm_is_compared_with_no_tuning_by_question_and_no_arm_s_p_is_corrected_for_it():
    rows, values = losses({"seeds": 0.3, "star": 0.32, "random": 0.0})
    found = {row.arm: row for row in study_results(ARMS, "seeds", rows)}
    assert list(found) == [*ARMS, "untuned"]
    without = study_results(ARMS, "seeds", [row for row in rows if row.arm != "untuned"])
    for row in without:
        told = found[row.arm]
        assert (told.difference, told.p, told.p_holm, told.shown) == (row.difference, row.p, row.p_holm, row.shown)
        assert row.tuning is row.tuning_shown is None
    alone = values["untuned"][:, 0]
    ps = []
    for arm in ARMS:
        mean = values[arm].mean(axis=1)
        by_scipy = stats.ttest_rel(mean, alone)
        low, high = by_scipy.confidence_interval()
        row = found[arm]
        assert (row.tuning, row.tuning_low, row.tuning_high) == pytest.approx((mean.mean() - alone.mean(), low, high))
        ps.append(by_scipy.pvalue)
    order = np.argsort(ps)
    holm = np.maximum.accumulate([(3 - rank) * ps[place] for rank, place in enumerate(order)]).clip(max=1)
    assert [found[ARMS[place]].tuning_p_holm for place in order] == pytest.approx(list(holm))
    assert [found[arm].tuning_shown for arm in ARMS] == ["better", "better", "no difference shown"]
    assert "lower than without tuning (95%: " in found["star"].words
    itself = found["untuned"]
    assert itself.difference == pytest.approx(-found["seeds"].tuning)
    assert (itself.shown, itself.n, itself.tuning) == ("worse", QUESTIONS, None)
    assert itself.p_holm == itself.p == pytest.approx(ps[0])


def test_the_conclusion_says_where_tuning_is_not_shown_to_help():
    for gain, said in (
        ({"seeds": 0.3, "star": 0.6, "random": 0.3}, "star is best"),
        ({"seeds": -0.6, "star": 0.0, "random": -0.6}, "star is best, and not shown to be better than no tuning"),
        ({"seeds": -0.6, "star": -0.3, "random": -0.6}, "star is best, and worse than no tuning"),
        ({"seeds": -0.3, "star": -0.3, "random": -0.3}, "no difference shown, and worse than no tuning"),
    ):
        rows, _ = losses(gain)
        told = conclude(study_results(ARMS, "seeds", rows), ())
        assert told.best == said
        assert "untuned:" not in told.words  # it is no arm


def test_its_wins_are_those_against_one_training_seed_s_baseline():
    paid = (None, None, None, "j", 2, 1, 1, 0.0)
    rows = [
        StudyWin("t", arm, seed, f"q{n}", "seeds", "f", None, "better", None, None, float((n + seed) % 3 > 0), 9 + n % 4, 9, *paid)
        for arm, seeds in (("star", SEEDS), ("untuned", SEEDS[:1]))
        for seed in seeds
        for n in range(QUESTIONS)
    ]  # fmt: skip
    found = {(row.measure, row.arm): row for row in study_results(ARMS, "seeds", wins=rows)}
    row = found["win_rate", "untuned"]
    assert (row.figure, row.seeds, row.seeds_low) == (pytest.approx(2 / 3), 1, None)
    assert found["win_rate", "star"].seeds == 3
    assert ("length_controlled_win_rate", "untuned") in found


def test_where_one_interval_is_off_0_and_several_comparisons_show_nothing_it_says_why():
    found = []
    for step in range(60):
        rows, _ = losses({"seeds": 0.0, "star": 0.001 * step, "random": 0.0})
        found += [row for row in study_results(ARMS, "seeds", rows) if row.arm == "star"]
    apart = [row for row in found if row.low > 0 or row.high < 0]
    hidden = [row for row in apart if row.shown == "no difference shown"]
    assert 0 < len(hidden) < len(apart)
    assert all(f"no difference shown, p {row.p_holm:.3f} after Holm's correction" in row.words for row in hidden)
    beside_none = [row for row in found if row.tuning_low > 0 or row.tuning_high < 0]
    hidden = [row for row in beside_none if row.tuning_shown == "no difference shown"]
    assert 0 < len(hidden) < len(beside_none)
    assert all(row.words.endswith(f", p {row.tuning_p_holm:.3f} after Holm's correction.") for row in hidden)
