"""Ranks in place of IFDs: against scipy, by property and by hand; what has no gap has none after either."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.calibration import calibrated, ranked_gaps
from star_pipeline.core.equations.composite import composite_scores
from star_pipeline.core.equations.ifd import score_rows
from star_pipeline.core.ports import ResponseLoss, ScoringSample
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, PlanRow

IFDS = st.floats(0.01, 50)
ROWS = st.lists(st.tuples(IFDS, IFDS, st.integers(1, 400)), max_size=60)
RULES = pytest.mark.parametrize("rule", ["rank", "rank_by_length"])


def score(number, small, large, tokens=30, status="ok"):
    given = {"n_tokens_small": tokens, "ifd_small": small, "n_tokens_large": tokens, "ifd_large": large}
    return IfdScore(f"c{number}", "s", status, False, **given, gap=small - large if status == "ok" else None)


def ranks(values):
    return (scipy.stats.rankdata(values, method="average") - 0.5) / len(values)


@given(ROWS)
def test_ranks_are_scipys_and_their_differences_lie_within_1(rows):
    small, large, tokens = zip(*rows, strict=True) if rows else ((), (), ())
    gaps = ranked_gaps(small, large, tokens, "rank")
    assert gaps == pytest.approx(ranks(small) - ranks(large) if rows else [])
    assert all(abs(gap) < 1 for gap in gaps)
    assert gaps.sum() == pytest.approx(0, abs=1e-9)


@given(ROWS)
def test_within_classes_of_like_length_ranks_are_scipys_too_and_equal_lengths_are_never_parted(rows):
    small, large, tokens = (
        np.array(column, dtype=float) for column in (zip(*rows, strict=True) if rows else ((), (), ()))
    )
    gaps = ranked_gaps(small, large, tokens.astype(int).tolist(), "rank_by_length")
    # written out anew: the classes by the share of responses that are shorter, half of the equally long counted in
    count = max(1, min(5, len(rows) // 12))
    place = [int(count * ((tokens < t).sum() + (tokens == t).sum() / 2) / len(rows)) for t in tokens]
    for number in set(place):
        members = [n for n, own in enumerate(place) if own == number]
        assert gaps[members] == pytest.approx(ranks(small[members]) - ranks(large[members]))
    assert all(abs(gap) < 1 for gap in gaps)


@RULES
@given(ROWS, st.integers(-8, 8))
def test_a_models_own_scale_has_no_part_in_it_and_a_larger_ifd_never_has_the_smaller_gap(rule, rows, power):
    small, large, tokens = zip(*rows, strict=True) if rows else ((), (), ())
    scaled = [value * 2.0**power for value in large]  # exact, and so without new ties
    assert ranked_gaps(small, large, tokens, rule) == pytest.approx(ranked_gaps(small, scaled, tokens, rule))
    for (one, other_large, length), gap in zip(rows, ranked_gaps(small, large, tokens, rule), strict=True):
        for (again, same_large, same_length), beside in zip(rows, ranked_gaps(small, large, tokens, rule), strict=True):
            if (other_large, length) == (same_large, same_length) and one < again:
                assert gap <= beside


def test_only_rows_with_a_gap_are_ranked_and_the_others_stay_as_they_are():
    rows = [
        score(0, 0.9, 0.2),
        score(1, 0.1, 0.8),
        score(2, 9.0, 0.1, tokens=1, status="too_short"),
        IfdScore("c3", "s", "no_candidate", False),
    ]
    found = calibrated(rows, "rank")
    assert [row.gap_calibrated for row in found] == [0.5, -0.5, None, None]
    assert [row.gap for row in found] == [row.gap for row in rows]
    assert [row.working_gap for row in found] == [0.5, -0.5, None, None]
    assert calibrated(rows, "none") == rows
    assert [row.working_gap for row in rows] == [row.gap for row in rows]


@RULES
def test_of_one_scored_candidate_the_gap_is_zero_and_of_none_there_is_none(rule):
    assert [row.gap_calibrated for row in calibrated([score(0, 0.9, 0.2)], rule)] == [0.0]
    assert calibrated([], rule) == []


def test_a_response_below_the_least_tokens_under_either_model_has_ifds_and_no_gap():
    sample = ScoringSample(None, (), "i", "r")
    loss = lambda count: ResponseLoss(count, 1.0, 2.0)  # noqa: E731
    from star_pipeline.core.equations.ifd import Fit

    rows = score_rows([sample] * 3, [Fit("ok", 1)] * 3, [loss(5), loss(4), loss(9)], [loss(5), loss(9), loss(4)], 5)
    assert [row.status for row in rows] == ["ok", "too_short", "too_short"]
    assert [row.gap for row in rows] == [0.0, None, None]
    assert all(row.ifd_small == row.ifd_large == pytest.approx(np.exp(-1)) for row in rows)


def test_equation_5_and_the_selection_work_on_the_calibrated_gap_and_both_are_kept():
    # raw, b leads by far (an instruct model's low IFDs); by ranks a does
    scores = calibrated([score(0, 0.5, 0.3), score(1, 0.9, 0.5), score(2, 0.7, 0.1)], "rank")
    ids, pairs = [row.candidate_id for row in scores], ["base", "a", "b"]
    plan = [
        PlanRow(c, "s", n, p, "keep", p, "explore", 0.1, "x", (), (), ())
        for n, (c, p) in enumerate(zip(ids, pairs, strict=True))
    ]
    made = [
        Candidate(c, "s", n, p, "i", "r", "ok", None, None, 1, 1, 1, 0.0, 0.0)
        for n, (c, p) in enumerate(zip(ids, pairs, strict=True))
    ]
    verdicts = [
        JudgeVerdict(c, "s", "c0", None, "better", None, None, False, 1.0, None, None, None, 2, 0, 0, 0.0)
        for c in ids[1:]
    ]
    rows = composite_scores(plan, made, scores, verdicts, {"s": "c0"}, "max", "shard")
    assert [row.gap for row in rows] == pytest.approx([0.2, 0.4, 0.6])
    assert [row.gap_calibrated for row in rows] == pytest.approx([-1 / 3, 0.0, 1 / 3])
    assert [row.pi_dual for row in rows] == pytest.approx([0.0, 0.0, 1.0])
    assert [row.selection for row in rows] == [None, None, "best"]
