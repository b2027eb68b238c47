"""Each check on tables that are right, and on tables with one thing wrong."""

from dataclasses import replace

import pyarrow as pa
import pytest

from star_pipeline.core import checks
from star_pipeline.core.checks import WarningLimits
from star_pipeline.core.records import (
    Candidate,
    CompositeScore,
    IfdScore,
    JudgeVerdict,
    PairProbability,
    PlanRow,
    Seed,
)
from star_pipeline.core.tables import COMPOSITE_SCORES

SHARES = WarningLimits(0.1, 0.5, 0.1, 0.3, 0.5, 0.5, least_rows=10)
SEEDS = [Seed(name, "s.json", n, None, (), "do", "done") for n, name in enumerate("xy", start=1)]


def plan_row(seed, slot, origin="base", probability=None, pair="keep+a"):
    return PlanRow(f"{seed}{slot}", seed, slot, pair, "keep", "a", origin, probability, "snap", (), (), ())


PLAN = [plan_row("x", 0), plan_row("x", 1, "explore", 0.5), plan_row("y", 0), plan_row("y", 1, "memory", 0.5)]


def candidate(row, status="ok"):
    return Candidate(
        row.candidate_id, row.seed_id, row.slot, row.pair_id, "i", "r", status, None, None, 1, 1, 1, 0.0, 0.0
    )


CANDIDATES = [candidate(row) for row in PLAN]


def verdict(row, said="better", pi_llm=1.0, flipped=False):
    blank = (None,) * 2
    return JudgeVerdict(
        row.candidate_id, row.seed_id, None, None, said, *blank, flipped, pi_llm, *blank, None, 1, 1, 1, 0.0
    )


def score(row, pi_dual=0.5, pi_llm=1.0, pi=0.5, selected=False, selection=None):
    return CompositeScore(
        row.candidate_id, row.seed_id, row.slot, row.pair_id, 0.1, pi_dual, pi_llm, pi, 1, selected, selection
    )


SCORES = [score(row, selected=bool(row.slot), selection="best" if row.slot else None) for row in PLAN]


def probabilities(*values, parent="before"):
    return [PairProbability("s", parent, "000001-x", f"p{n}", 1, 0.1, 0.5, value) for n, value in enumerate(values)]


def test_a_table_is_well_formed_or_it_is_said_what_is_wrong():
    good = COMPOSITE_SCORES.to_arrow(SCORES)
    assert checks.well_formed(COMPOSITE_SCORES, good).passed
    nan = good.set_column(
        good.schema.get_field_index("pi"), good.schema.field("pi"), pa.array([0.1, float("nan"), None, float("inf")])
    )
    for table, words in (
        (nan, "column pi has 2 NaN or infinite values"),
        (good.drop_columns(["rank"]), "column rank is missing, expected int64"),
        (good.append_column("more", pa.array([1] * 4)), "column more is int64, expected no such column"),
        (pa.concat_tables([good, good.slice(1, 2)]), "2 rows repeat a candidate_id"),
    ):
        found = checks.well_formed(COMPOSITE_SCORES, table)
        assert (found.passed, words in found.text) == (False, True), found.text


def test_a_plan_has_slots_from_0_for_each_seed_or_is_empty():
    assert checks.plan_complete(SEEDS, PLAN).passed
    assert checks.plan_complete(SEEDS, []).passed
    assert "1 of 2 seeds are missing (y)" in checks.plan_complete(SEEDS, PLAN[:2]).text
    assert "slots of y" in checks.plan_complete(SEEDS, [*PLAN[:2], PLAN[3]]).text
    assert "1 seeds were not asked for" in checks.plan_complete(SEEDS[:1], PLAN).text


@pytest.mark.parametrize("odd", [
    plan_row("x", 1, "explore", None), plan_row("x", 1, "explore", 1.5), plan_row("x", 1, "base", 0.5),
    plan_row("x", 1, "explore", 0.5, pair="keep+unknown"),
])  # fmt: skip  # read as a table
def test_only_drawn_pairs_have_a_probability_in_0_to_1(odd):
    assert checks.plan_consistent(PLAN, ["keep+a"]).passed
    found = checks.plan_consistent([PLAN[0], odd], ["keep+a"])
    assert not found.passed
    assert "x1" in found.text


def test_ids_are_complete_unique_and_in_order():
    assert checks.same_candidates("candidates", PLAN, CANDIDATES).passed
    for rows, words in (
        (CANDIDATES[1:], "1 of 4 candidates are missing (x0)"),
        ([*CANDIDATES, candidate(plan_row("z", 0))], "1 candidates were not asked for (z0)"),
        (CANDIDATES[::-1], "not in the order"),
        ([*CANDIDATES, CANDIDATES[0]], "or repeat"),
    ):
        found = checks.same_candidates("candidates", PLAN, rows)
        assert (found.passed, words in found.text) == (False, True), found.text
    with pytest.raises(checks.Blocked, match="x0"):
        checks.require(checks.same_candidates("candidates", PLAN, CANDIDATES[1:]))


def test_exactly_the_candidates_that_were_made_and_are_no_reference_are_judged():
    made = [*CANDIDATES[:3], candidate(PLAN[3], "failed")]
    references = {"x": "x0", "y": "y0"}
    assert checks.verdicts_complete(made, references, [verdict(PLAN[1])]).passed
    assert "(x1)" in checks.verdicts_complete(made, references, []).text
    assert "(x0)" in checks.verdicts_complete(made, references, [verdict(PLAN[0]), verdict(PLAN[1])]).text


@pytest.mark.parametrize(("said", "right", "wrong"), [
    ("better", (1.0,), (0.5, 0.0, None)), ("worse", (0.0,), (1.0, None)), ("tie", (0.5,), (1.0, None)),
    ("inconsistent", (0.5, None), (1.0, 0.0)), ("unparsed", (None,), (0.0, 0.5)), ("failed", (None,), (0.0,)), ("skipped", (None,), (0.0,)),
])  # fmt: skip  # read as a table
def test_pi_llm_follows_from_the_verdict(said, right, wrong):
    assert all(checks.verdicts_consistent([verdict(PLAN[1], said, value)]).passed for value in right)
    assert not any(checks.verdicts_consistent([verdict(PLAN[1], said, value)]).passed for value in wrong)


IFDS = [
    IfdScore("x0", "x", "ok", False, 9, 1.0, 2.0, 0.9, 9, 1.0, 2.0, 0.2, gap=0.9 - 0.2, gap_calibrated=0.5),
    IfdScore("x1", "x", "ok", False, 9, 1.0, 2.0, 0.3, 9, 1.0, 2.0, 0.8, gap=0.3 - 0.8, gap_calibrated=-0.5),
    IfdScore("y0", "y", "too_short", False, 2, 1.0, 2.0, 0.3, 9, 1.0, 2.0, 0.8),
    IfdScore("y1", "y", "no_candidate", False),
]


def test_gaps_follow_from_the_ifds_the_calibration_and_the_least_tokens():
    assert checks.gaps_consistent(IFDS, "rank", 3).passed
    raw = [replace(row, gap_calibrated=None) for row in IFDS]
    assert checks.gaps_consistent(raw, "none", 3).passed
    for rows, rule, least, odd in (
        (IFDS, "none", 3, "x0, x1"),
        (raw, "rank", 3, "x0, x1"),
        (IFDS, "rank", 2, "y0"),
        ([replace(IFDS[0], gap=0.6), *IFDS[1:]], "rank", 3, "x0"),
        ([replace(IFDS[0], gap_calibrated=0.4), *IFDS[1:]], "rank", 3, "x0"),
        ([*IFDS[:3], replace(IFDS[3], status="ok")], "rank", 3, "y1"),
        ([*IFDS[:2], replace(IFDS[2], status="ok"), IFDS[3]], "rank", 3, "y0"),
    ):
        found = checks.gaps_consistent(rows, rule, least)
        assert (found.passed, f"gaps of {odd} do not" in found.text) == (False, True), found.text


def test_pi_is_the_product_and_each_seed_has_one_selection():
    assert checks.scores_consistent(SCORES).passed
    for rows, words in (
        ([replace(SCORES[0], pi=0.4), *SCORES[1:]], "pi of x0"),
        ([replace(SCORES[0], pi_dual=1.2), *SCORES[1:]], "pi of x0"),
        ([replace(SCORES[0], pi_llm=None), *SCORES[1:]], "pi of x0"),
        ([replace(SCORES[0], selected=True), *SCORES[1:]], "x have no or several"),
        ([*SCORES[:3], replace(SCORES[3], selected=False)], "y have no or several"),
    ):
        found = checks.scores_consistent(rows)
        assert (found.passed, words in found.text) == (False, True), found.text


def test_probabilities_sum_to_1_keep_the_floor_and_follow_from_the_snapshot_before():
    assert checks.probabilities_consistent(probabilities(0.25, 0.75), "before", 0.25).passed
    assert checks.probabilities_consistent(probabilities(0.25, 0.75 + 5e-10), "before", 0.0).passed
    for rows, floor, words in (
        (probabilities(0.25, 0.75 + 2e-9), 0.0, "expected 1"),
        (probabilities(0.2, 0.8), 0.25, "below evolution.floor 0.25"),
        (probabilities(-0.2, 1.2), 0.0, "below evolution.floor"),
        (probabilities(0.5, 0.5, parent="other"), 0.0, "does not follow from snapshot before"),
    ):
        found = checks.probabilities_consistent(rows, "before", floor)
        assert (found.passed, words in found.text) == (False, True), found.text


def many(count, bad):
    return [n < bad for n in range(count)]


SHARE_CASES = {
    "failed_candidates": (checks.failed_share, 1, lambda odd: candidate(PLAN[0], "failed" if odd else "ok")),
    "ifd_above_1": (
        checks.ifd_above_1_share,
        5,
        lambda odd: IfdScore("c", "s", "ok", False, ifd_small=1.5 if odd else 0.5),
    ),
    "unparsed_verdicts": (checks.unparsed_share, 1, lambda odd: verdict(PLAN[0], "unparsed" if odd else "tie", None)),
    "flipped_verdicts": (checks.flipped_share, 3, lambda odd: verdict(PLAN[0], "inconsistent", 0.5, flipped=odd)),
    "fallbacks": (
        checks.fallback_share,
        5,
        lambda odd: replace(SCORES[1], selection="fallback_base" if odd else "best"),
    ),
}


@pytest.mark.parametrize("name", SHARE_CASES)
def test_a_share_warns_above_its_knob_and_says_what_to_do(name):
    check, allowed, row = SHARE_CASES[name]
    at = check([row(odd) for odd in many(10, allowed)], SHARES)
    above = check([row(odd) for odd in many(10, allowed + 1)], SHARES)
    assert (at.passed, above.passed, above.rule.blocks) == (True, False, False)
    assert above.values["share"] == pytest.approx((allowed + 1) / 10)
    assert f"(checks.{name}); " in above.text
    assert "\n" not in above.text
    assert check([row(True) for _ in range(9)], SHARES).passed  # too few to say
    assert check([], SHARES).passed


def test_what_nobody_was_asked_for_does_not_count():
    seed_pair = replace(candidate(PLAN[0], "failed"), pair_id="seed")
    assert checks.failed_share([seed_pair] * 20, SHARES).values["of"] == 0
    assert checks.unparsed_share([verdict(PLAN[0], "skipped", None)] * 20, SHARES).values["of"] == 0
    assert checks.flipped_share([verdict(PLAN[0], "failed", None)] * 20, SHARES).values["of"] == 0


def test_left_out_records_are_a_warning():
    assert checks.rejected_rows(0, 10).passed
    assert "3 records beside 10 usable" in checks.rejected_rows(3, 10).text


def test_findings_of_one_rule_are_told_together():
    wrong = checks.same_candidates("candidates", PLAN, CANDIDATES[1:])
    right, share = checks.plan_complete(SEEDS, PLAN), checks.failed_share(CANDIDATES, SHARES)
    assert checks.one_a_rule([right, wrong, share]) == [replace(wrong, values={}), share]
    [both] = checks.one_a_rule([right, checks.plan_consistent(PLAN, ["keep+a"])])
    assert both.passed
    assert "4 rows for 2 seeds; as drawn" in both.text
