"""What a study comes to, of differences that are plain, none, at odds, or of the baseline itself."""

from dataclasses import replace

import pytest

from star_pipeline.core.study.better import better_arms
from star_pipeline.core.study.conclusion import DISAGREE, NONE, ArmCost, conclude, whole
from star_pipeline.core.study.records import StudyLoss, StudyTask
from star_pipeline.core.study.results import study_results

ARMS = ["seeds", "random", "star"]
COSTS = [ArmCost("seeds", 1000, 0.0, 0.0), ArmCost("random", 1100, 2.0, 0.1), ArmCost("star", 1500, 3.5, 0.2)]


def results(losses=None, marks=None, targets=("one",), seeds=(0, 1, 2), arms=ARMS, drift=0.0):
    """Results of 30 questions; ``losses``, ``marks``: arm -> how far from the seeds' it is; ``drift``: by training seed."""
    wobble = [0.02 * ((7 * n) % 11 - 5) for n in range(30)]
    keys = [(t, a, s, n) for t in targets for a in arms for s in seeds for n in range(30)]
    found = [
        StudyLoss(t, a, s, f"q{n}", "f", None, 2 + (losses or {}).get(a, 0) * (1 + wobble[n]) + drift * (s - 1) * (a == "star")
                  + wobble[(n * 3 + len(a)) % 30] * 0.1, 5, "ok")
        for t, a, s, n in keys
    ]  # fmt: skip  # a sum
    tasks = [
        StudyTask(t, a, s, "arc", "acc", f"q{n}", 0.5 + marks.get(a, 0) + wobble[(n * 3 + len(a)) % 30] * 0.1)
        for t, a, s, n in (keys if marks is not None else ())
    ]
    return study_results(arms, "seeds", found, tasks=tasks)


def test_the_arm_that_is_ahead_is_named_with_its_words_and_its_cost():
    told = conclude(found := results({"star": -0.3, "random": -0.1}), COSTS)
    [row] = [row for row in found if row.arm == "star"]
    assert told.best == "star is best"
    assert told.sure == row.words
    assert told.cost == (
        "star: its rows cost 3.5000 USD in LLM calls, and an epoch trains on 1,500 response tokens, +50% beside seeds. "
        "Judging in this study cost 0.3000 USD."
    )
    assert told.words.startswith(f"Star is best. {row.words} star: its rows")


def test_an_arm_that_the_best_is_not_told_from_is_named():
    told = conclude(results({"star": -0.3, "random": -0.3}), COSTS)
    best, other = ("star", "random") if told.best.startswith("star") else ("random", "star")
    assert told.best == f"{best} is best"
    assert f"overlaps with that of {other}, so that it is not shown to be better than that one." in told.sure


def test_where_nothing_is_shown_the_nearest_says_so():
    told = conclude(results(), COSTS)
    assert told.best == NONE
    assert "no difference shown. So many questions show differences from" in told.sure
    assert told.cost.startswith("The rows of the dearest arm cost 3.5000 USD")


def test_the_baseline_is_best_where_all_others_are_worse():
    told = conclude(results({"star": 0.3, "random": 0.2}), COSTS)
    assert told.best == "seeds is best"
    assert told.sure.count(": worse, p below 0.001") == 2
    assert conclude(results({"star": 0.3}), COSTS).best == NONE


def test_measures_at_odds_are_not_added_up():
    told = conclude(results({"star": -0.3}, {"star": -0.2}), COSTS)
    assert told.best == DISAGREE
    assert ": better, p below 0.001" in told.sure
    assert ": worse, p below 0.001" in told.sure
    agreed = conclude(results({"star": -0.3}, {"star": 0.2}), COSTS)
    assert agreed.best == "star is best"
    assert "Shown by 2 of 2 measures." in agreed.sure


def test_one_measure_of_many_that_is_not_the_first_makes_no_arm_best():
    found = results({}, {"star": 0.2})
    alike = [row for row in results({}, {}) if row.measure == "acc"]
    many = [*found, *(replace(row, part=f"task {n}") for n in range(3) for row in alike)]
    told = conclude(many, COSTS)
    assert told.best == NONE
    [row] = [row for row in found if row.measure == "acc" and row.arm == "star"]
    assert f"Only 1 of 5 measures says otherwise: {row.words}" in told.sure
    assert conclude(found, COSTS).best == "star is best"


def test_where_training_seeds_disagree_no_arm_is_best():
    told = conclude(results({"star": -0.1}, drift=0.2), COSTS)
    assert told.best == NONE
    assert "tuned again, it may turn" in told.sure


def test_targets_are_told_apart_where_they_differ():
    both = [*results({"star": -0.3}, targets=["one"]), *results(targets=["two"])]
    told = conclude(both, COSTS)
    assert told.best == f"one: star; two: {NONE}"
    assert conclude(results({"star": -0.3}, targets=["one", "two"]), COSTS).best == "star is best for both targets"


@pytest.mark.parametrize("arms", [["seeds"], ["seeds", "star"]])
def test_one_arm_has_nothing_to_be_compared_with_and_no_results_say_so(arms):
    told = conclude(results(arms=arms), COSTS)
    assert ("one arm alone" in told.sure) == (len(arms) == 1)
    assert conclude([], COSTS).best == "nothing measured yet"
    assert all(row.part == "all" for row in whole(results(arms=arms)))


@pytest.mark.parametrize(
    ("losses", "passed", "said"),
    [
        ({"star": -0.3}, True, "star is best: "),
        ({}, False, f"{NONE}: "),
        ({"star": 0.3, "random": 0.2}, False, "seeds is"),
    ],
)
def test_the_check_passes_where_an_arm_is_ahead_of_what_it_is_compared_with(losses, passed, said):
    found = better_arms(results(losses))
    assert (found.passed, found.rule.blocks) == (passed, False)
    assert found.text.startswith(said)
