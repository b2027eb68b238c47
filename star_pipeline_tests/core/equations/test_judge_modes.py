"""Eq. 6 by log-probabilities, as JSON, and by several judges: the mathematics, and what the judge makes of replies."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core import checks
from star_pipeline.core.equations.judge_modes import (
    by_margin,
    chance_better,
    letter_log_odds,
    margin_of,
    parse_structured,
)
from star_pipeline.core.equations.verdicts import majority
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatReply
from star_pipeline.core.records import JudgeOpinion
from star_pipeline.core.tables import JUDGE_VERDICTS
from star_pipeline_tests.core.equations.test_judging import REFERENCE, candidate, judge, prefers

ODDS = st.floats(-50, 50)
VERDICTS = ("better", "worse", "tie", "inconsistent", "unparsed")


def told(**letters):
    return tuple((token, math.log(p)) for token, p in letters.items())


def likes(word, lean=0.0, strength=2.0):
    """A judge that tells the log-odds of A: ``strength`` for the answer with ``word``, and ``lean`` for the one shown first."""

    def script(request):
        assert (request.params["max_tokens"], request.params["logprobs"], request.params["top_logprobs"]) == (
            1,
            True,
            20,
        )
        odds = lean + {"[A]": strength, "[B]": -strength, "[C]": 0.0}[prefers(word)(request)]
        p = 1 / (1 + math.exp(-odds))
        return ChatReply("A" if odds > 0 else "B", "length", 10, 1, 0.5, 0.1, top_logprobs=told(A=p, B=1 - p))

    return script


@given(ODDS, ODDS, st.floats(0, 10))
def test_swapping_candidate_and_reference_negates_the_margin_and_turns_the_verdict_round(first, second, threshold):
    """Swapped, what was shown first is shown second: the two orders change places."""
    margin, other = margin_of(first, second), margin_of(second, first)
    assert other == -margin
    assert chance_better(margin) + chance_better(other) == pytest.approx(1)
    turned = {"better": "worse", "worse": "better", "tie": "tie"}
    assert by_margin(other, threshold) == turned[by_margin(margin, threshold)]


@given(ODDS, ODDS, ODDS)
def test_a_lean_on_position_cancels(first, second, lean):
    assert margin_of(first + lean, second + lean) == pytest.approx(margin_of(first, second), abs=1e-9)


@given(st.floats(-700, 700), st.floats(-700, 700))
def test_the_chance_is_a_probability_and_grows_with_the_margin(one, other):
    low, high = sorted((one, other))
    assert 0 <= chance_better(low) <= chance_better(high) <= 1


@pytest.mark.parametrize(("tokens", "expected"), [
    ({"A": 0.6, "B": 0.2}, math.log(3)),
    ({" A": 0.3, "A": 0.2, "[A": 0.1, "▁B": 0.1, "B.": 0.1}, math.log(3)),
    ({"Assistant": 0.5, "a": 0.2, "b": 0.1}, None),
    ({"A": 0.9, "The": 0.04}, math.log(0.9 / 0.04)),
    ({"A": 0.9, "The": 0.09}, math.log(0.9 / 0.01)),
    ({"B": 0.9}, math.log(0.1 / 0.9)),
])  # fmt: skip  # read as a table
def test_the_ways_to_write_a_letter_are_summed_and_one_that_is_not_told_counts_as_the_most_it_can_be(tokens, expected):
    found = letter_log_odds(tuple((token, math.log(p)) for token, p in tokens.items()))
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.dictionaries(st.sampled_from([" A", "A", "[B", "B", "The", "**A", "C"]), st.floats(-30, 0), min_size=1))
def test_exchanging_the_letters_negates_the_log_odds(logprobs):
    exchanged = {token.translate(str.maketrans("AB", "BA")): logprob for token, logprob in logprobs.items()}
    found = letter_log_odds(tuple(logprobs.items()))
    assert (letter_log_odds(tuple(exchanged.items())) or 0.0) == pytest.approx(-(found or 0.0))


@pytest.mark.parametrize(("lean", "flipped"), [(0.0, False), (5.0, True), (-5.0, True)])
def test_a_judge_that_leans_on_position_is_still_heard(lean, flipped):
    rows, requests = judge(
        likes("good", lean), [REFERENCE, candidate(1), candidate(2, response="plain two")], mode="logprobs", margin=0.5
    )
    better, tie = rows
    assert (better.verdict, better.pi_llm, better.flipped) == ("better", 1.0, flipped)
    assert (better.margin, better.p_better) == (pytest.approx(2), pytest.approx(1 / (1 + math.exp(-2))))
    assert (better.log_odds_first, better.log_odds_swapped) == (pytest.approx(lean + 2), pytest.approx(lean - 2))
    assert (tie.verdict, tie.pi_llm, tie.margin) == ("tie", 0.5, pytest.approx(0))
    assert {request.template for request in requests} == {"judge_answers_letter"}
    assert len(requests) == 4
    assert checks.verdicts_consistent(rows, 0.5).passed
    assert not checks.verdicts_consistent(rows, 2.5).passed
    assert checks.flipped_share(rows, checks.WarningLimits(**SHARES)).passed
    rows, _ = judge(
        likes("good", lean), [REFERENCE, candidate(1), candidate(2, response="plain two")],
        mode="logprobs", margin=0.5, ties="lose",
    )  # fmt: skip
    assert [row.pi_llm for row in rows] == [1.0, 0.0]
    assert checks.verdicts_consistent(rows, 0.5, ties="lose").passed
    assert not checks.verdicts_consistent(rows, 0.5).passed


SHARES = {
    "failed_candidates": 1, "ifd_above_1": 1, "unparsed_verdicts": 1, "flipped_verdicts": 0, "fallbacks": 1,
    "near_duplicates": 1, "least_rows": 1,
}  # fmt: skip


def test_a_soft_judge_gives_its_probability():
    rows, _ = judge(likes("good"), [REFERENCE, candidate(1)], mode="logprobs", soft=True)
    assert rows[0].pi_llm == rows[0].p_better == pytest.approx(1 / (1 + math.exp(-2)))
    assert checks.verdicts_consistent(rows, 0.0, soft=True).passed
    assert not checks.verdicts_consistent(rows).passed


@pytest.mark.parametrize("tokens", [{"The": 0.9, "Both": 0.1}, {}])
def test_where_neither_letter_is_likely_there_is_no_verdict_and_nobody_asks_again(tokens):
    rows, requests = judge(lambda request: ChatReply("The", "length", 1, 1, 0, 0, top_logprobs=told(**tokens)), [REFERENCE, candidate(1)],
                           mode="logprobs", attempts=3)  # fmt: skip
    assert (rows[0].verdict, rows[0].pi_llm, rows[0].margin, len(requests)) == ("unparsed", None, None, 2)
    assert "neither A nor B" in rows[0].error
    assert ("'The', 'Both'" if tokens else "tells no log-probabilities") in rows[0].error


@pytest.mark.parametrize(("reply", "expected"), [
    ('{"comparison": "A is longer.", "verdict": "A"}', "A"),
    ('```json\n{"comparison": "", "verdict": "C"}\n```', "C"),
    ('<think>{"verdict": "A"}</think>{"comparison": "x", "verdict": "B"}', "B"),
    ('{"verdict": "A"}', None), ('{"comparison": "x", "verdict": "D"}', None), ('{"comparison": "x", "verdict": ["A"]}', None),
    ('{"comparison": "x", "verdict": "A", "score": 1}', None), ('So: {"comparison": "x", "verdict": "A"}', None), ("[A]", None), ("", None),
])  # fmt: skip  # read as a table
def test_json_is_read_strictly(reply, expected):
    assert parse_structured(reply) == expected


@given(
    st.text()
    | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        json.dumps
    )
)
def test_no_text_breaks_the_reader_of_json(text):
    assert parse_structured(text) in (None, "A", "B", "C")


def test_a_judge_that_answers_in_json_is_asked_for_it_and_asked_again_where_it_does_not():
    def script(request):
        assert request.params["response_format"]["type"] == "json_schema"
        return (
            json.dumps({"comparison": "", "verdict": prefers("good")(request)[1]}) if request.sample else "A, I think"
        )

    rows, requests = judge(script, [REFERENCE, candidate(1)], mode="json")
    assert (rows[0].verdict, rows[0].template, len(requests)) == ("better", "judge_answers_json", 4)
    rows, _ = judge(lambda request: "A, I think", [REFERENCE, candidate(1)], mode="json")
    assert rows[0].verdict == "unparsed"
    assert '"verdict"' in rows[0].error


def panel(*scripts):
    return lambda request: scripts["xyz".index(request.agent)](request)


PANEL = {"agent": "x", "others": ("y", "z")}


def test_the_majority_of_several_judges_decides_and_each_ones_words_stay():
    rows, requests = judge(
        panel(prefers("good"), prefers("good"), prefers("plain")), [REFERENCE, candidate(1)], **PANEL
    )
    [row] = rows
    assert (row.verdict, row.pi_llm, row.judge_agent, len(requests)) == ("better", 1.0, "x, y, z", 6)
    assert [(said.agent, said.verdict) for said in row.judges] == [("x", "better"), ("y", "better"), ("z", "worse")]
    assert (row.attempts, row.prompt_tokens) == (6, sum(said.prompt_tokens for said in row.judges))
    assert row.reply_first == "x:\n[A]\n\ny:\n[A]\n\nz:\n[B]"
    assert JUDGE_VERDICTS.from_arrow(JUDGE_VERDICTS.to_arrow(rows)) == rows


def test_a_table_of_an_earlier_version_reads_as_one_without_log_probabilities():
    rows, _ = judge(prefers("good"), [REFERENCE, candidate(1)])
    later = ["log_odds_first", "log_odds_swapped", "margin", "p_better", "judges"]
    assert JUDGE_VERDICTS.from_arrow(JUDGE_VERDICTS.to_arrow(rows).drop_columns(later)) == rows


def test_judges_that_disagree_make_a_tie_and_one_that_cannot_be_asked_makes_it_fail():
    rows, _ = judge(panel(prefers("good"), lambda request: "[C]", prefers("plain")), [REFERENCE, candidate(1)], **PANEL)
    assert (rows[0].verdict, rows[0].pi_llm) == ("tie", 0.5)
    rows, _ = judge(panel(prefers("good"), prefers("good"), lambda request: CallError("timeout", "no reply", 1)), [REFERENCE, candidate(1)],
                    **PANEL)  # fmt: skip
    assert (rows[0].verdict, rows[0].pi_llm, rows[0].error) == ("failed", None, "z: timeout: no reply")
    rows, _ = judge(panel(prefers("good"), *[lambda request: "hm"] * 2), [REFERENCE, candidate(1)], **PANEL)
    assert (rows[0].verdict, rows[0].pi_llm) == ("unparsed", None)


def test_several_judges_by_log_probabilities_vote_and_their_margins_are_averaged():
    scripts = panel(likes("good"), likes("good", lean=3), likes("plain", strength=7.0))
    rows, _ = judge(scripts, [REFERENCE, candidate(1)], mode="logprobs", **PANEL)
    assert (rows[0].verdict, rows[0].margin) == ("better", pytest.approx(-1))
    assert [said.margin for said in rows[0].judges] == [pytest.approx(2), pytest.approx(2), pytest.approx(-7)]
    assert checks.verdicts_consistent(rows).passed


def opinion_with(verdict):
    return JudgeOpinion(
        "j", verdict, None, None, verdict == "inconsistent", None, None, None, None, None, None, None, 2, 0, 0, 0.0
    )


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=7), st.sampled_from(["tie", "abstain"]), st.randoms())
def test_a_majority_is_more_than_half_in_whatever_order_the_judges_stand(verdicts, on_reversal, chance):
    said = majority([opinion_with(verdict) for verdict in verdicts], on_reversal)
    shuffled = chance.sample(verdicts, len(verdicts))
    assert majority([opinion_with(verdict) for verdict in shuffled], on_reversal) == said
    heard = [verdict for verdict in verdicts if verdict != "unparsed"]
    if 2 * len(heard) <= len(verdicts):
        assert said == ("unparsed", False, None)
    elif said[0] in ("better", "worse"):
        counted = heard if on_reversal == "tie" else [verdict for verdict in heard if verdict != "inconsistent"]
        assert 2 * counted.count(said[0]) > len(counted)
    turned = {"better": "worse", "worse": "better"}
    opposite = majority([opinion_with(turned.get(verdict, verdict)) for verdict in verdicts], on_reversal)
    assert opposite[0] == turned.get(said[0], said[0])
