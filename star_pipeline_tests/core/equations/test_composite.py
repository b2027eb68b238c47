"""Eq. 5 and Eq. 7 by hand and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.composite import composite_scores, divisor, pi, pi_dual
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, PlanRow

GAPS = st.lists(st.floats(-3, 3), min_size=1, max_size=40)


def percentile_95(values):
    """Linear interpolation between order statistics, written out."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def test_the_divisor_is_taken_over_the_positive_gaps_alone():
    gaps = [-5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert divisor(gaps, "max") == 5.0
    assert divisor(gaps, "p95") == pytest.approx(4.8)
    assert divisor([-1.0, 0.0], "p95") is None


@given(GAPS)
def test_p95_agrees_with_interpolation_written_out(gaps):
    positive = [gap for gap in gaps if gap > 0]
    found = divisor(gaps, "p95")
    if positive:
        assert found == pytest.approx(percentile_95(positive), rel=1e-12)
    else:
        assert found is None


@given(GAPS, st.sampled_from(["p95", "max"]))
def test_pi_dual_is_within_bounds_zero_without_a_positive_gap_and_keeps_the_order(gaps, rule):
    by = divisor(gaps, rule)
    values = [pi_dual(gap, by) for gap in gaps]
    assert all(0 <= value <= 1 for value in values)
    assert all(value == 0 for gap, value in zip(gaps, values, strict=True) if gap <= 0)
    for (gap_a, a), (gap_b, b) in zip(
        zip(gaps, values, strict=True), list(zip(gaps, values, strict=True))[1:], strict=False
    ):
        if gap_a <= gap_b:
            assert a <= b
    if rule == "max" and by:
        assert max(values) == 1


def test_pi_dual_by_hand():
    assert pi_dual(0.2, 0.5) == pytest.approx(0.4)
    assert pi_dual(0.9, 0.5) == 1.0
    assert pi_dual(-0.2, 0.5) == 0.0
    assert pi_dual(None, 0.5) is None
    assert pi_dual(-0.1, None) == 0.0


def test_pi_is_the_product_null_without_a_verdict_and_zero_where_the_verdict_was_skipped():
    assert pi(0.5, 0.4, skipped=False) == pytest.approx(0.2)
    assert pi(None, 0.4, skipped=False) is None
    assert pi(None, 0.0, skipped=True) == 0.0
    assert pi(None, None, skipped=True) is None


def shard(rows):
    """plan, candidates, scores and verdicts of (seed, slot, pair, status, gap, verdict, pi_llm)."""
    plan, candidates, scores, verdicts = [], [], [], []
    for seed, slot, pair, status, gap, verdict, pi_llm in rows:
        name = f"{seed}-{slot}"
        plan.append(PlanRow(name, seed, slot, pair, "keep", pair, "explore", 0.1, "snap", (), (), ()))
        candidates.append(Candidate(name, seed, slot, pair, "i", "r", status, None, None, 1, 1, 1, 0.0, 0.0))
        scores.append(IfdScore(name, seed, "ok" if gap is not None else "no_candidate", False, gap=gap))
        if verdict:
            verdicts.append(
                JudgeVerdict(
                    name, seed, f"{seed}-0", None, verdict, None, None, False, pi_llm, None, None, None, 2, 0, 0, 0.0
                )
            )
    return plan, candidates, scores, verdicts


def test_a_shard_by_hand_over_the_shard_and_over_the_seed():
    rows = [
        ("s", 0, "base", "ok", 0.10, None, None),  # the reference: pi_llm 0.5 by definition
        ("s", 1, "a", "ok", 0.20, "better", 1.0),
        ("s", 2, "b", "ok", -0.10, "skipped", None),
        ("s", 3, "c", "failed", None, None, None),
        ("t", 0, "base", "ok", 0.40, None, None),
        ("t", 1, "a", "ok", 0.30, "unparsed", None),
    ]
    references = {"s": "s-0", "t": "t-0"}
    over_shard = composite_scores(*shard(rows), references, "max", "shard")
    assert [row.pi_dual for row in over_shard] == pytest.approx([0.25, 0.5, 0.0, None, 1.0, 0.75])
    assert [row.pi for row in over_shard] == [0.125, 0.5, 0.0, None, 0.5, None]
    assert [row.rank for row in over_shard] == [2, 1, 3, None, 1, None]
    assert [row.selection for row in over_shard] == [None, "best", None, None, "best", None]
    over_seed = composite_scores(*shard(rows), references, "max", "seed")
    assert [row.pi for row in over_seed] == [0.25, 1.0, 0.0, None, 0.5, None]
