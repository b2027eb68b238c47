"""Eq. 6 with a scripted judge: orders, references, re-asks, skips and failures."""

import asyncio

from star_pipeline.adapters.fakes import ScriptedChat
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.core import checks
from star_pipeline.core.equations.judging import Judge, JudgeRules, calls_saved, references
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatReply
from star_pipeline.core.records import Candidate, IfdScore, Seed

SEED = Seed("s", "f", 1, None, (), "the question", "own answer")


def candidate(slot, pair="a+b", response="good", instruction="the question", status="ok"):
    text = response if status == "ok" else None
    return Candidate(f"c{slot}", "s", slot, pair, instruction, text, status, None, None, 1, 1, 1, 0.0, 0.0)


def judge(script, candidates, gaps=None, seed=SEED, **changes):
    chat = ScriptedChat(script)
    rules = JudgeRules(**{"agent": "j", "attempts": 2, "on_reversal": "tie", "skip_nonpositive_gap": True, **changes})
    scores = [IfdScore(c.candidate_id, "s", "ok", False, gap=(gaps or {}).get(c.candidate_id, 0.1)) for c in candidates]
    rows = asyncio.run(Judge(chat, PromptLibrary({}), rules).verdicts(candidates, [seed], scores, SilentProgress()))
    return rows, chat.requests


def prefers(word):
    """A judge that picks the answer holding ``word``."""

    def script(request):
        text = request.messages[-1].content
        first, second = text.split("Assistant B's Answer]" if "Assistant B" in text else "Sample B's Instruction]", 1)
        return "[C]" if (word in first) == (word in second) else "[A]" if word in first else "[B]"

    return script


REFERENCE = candidate(0, "keep+z", "plain")


def test_a_better_candidate_wins_in_both_orders_and_the_reference_has_no_row():
    rows, requests = judge(prefers("good"), [REFERENCE, candidate(1), candidate(2, response="plain two")])
    assert [(r.candidate_id, r.verdict, r.pi_llm, r.flipped) for r in rows] == [
        ("c1", "better", 1.0, False),
        ("c2", "tie", 0.5, False),
    ]
    assert {r.base_candidate_id for r in rows} == {"c0"}
    assert len(requests) == 4
    shown_first = requests[0].messages[-1].content
    assert shown_first.index("good") < shown_first.index("plain")
    shown_second = requests[1].messages[-1].content
    assert shown_second.index("plain") < shown_second.index("good")


def test_a_candidate_by_itself_gets_the_row_that_it_has_among_all():
    candidates = [
        REFERENCE, candidate(1), candidate(2, response="plain two"), candidate(3, status="failed"), candidate(4, "seed"),
        candidate(5, response="good too"),
    ]  # fmt: skip
    rows, _ = judge(prefers("good"), candidates, {"c2": -0.1})
    rules = JudgeRules(agent="j", attempts=2, on_reversal="tie", skip_nonpositive_gap=True)
    judge_alone = Judge(ScriptedChat(prefers("good")), PromptLibrary({}), rules)

    async def alone():
        for one in candidates:
            score = IfdScore(one.candidate_id, "s", "ok", False, gap=-0.1 if one.candidate_id == "c2" else 0.1)
            yield await judge_alone.verdict(one, candidates, SEED, score)

    async def all_alone():
        return [row async for row in alone()]

    found = asyncio.run(all_alone())
    assert [row is None for row in found] == [True, False, False, True, False, False]
    assert [(row.candidate_id, row.verdict, row.pi_llm) for row in found if row] == [
        (row.candidate_id, row.verdict, row.pi_llm) for row in rows
    ]


def test_where_ties_lose_only_what_is_judged_better_keeps_a_pi_llm():
    rows, _ = judge(prefers("good"), [REFERENCE, candidate(1), candidate(2, response="plain two")], ties="lose")
    assert [(r.verdict, r.pi_llm) for r in rows] == [("better", 1.0), ("tie", 0.0)]
    for on_reversal, pi_llm in (("tie", 0.0), ("abstain", None)):
        rows, _ = judge(lambda request: "[A]", [REFERENCE, candidate(1)], on_reversal=on_reversal, ties="lose")
        assert (rows[0].verdict, rows[0].flipped, rows[0].pi_llm) == ("inconsistent", True, pi_llm)
        assert checks.verdicts_consistent(rows, ties="lose").passed
        assert checks.verdicts_consistent(rows).passed == (pi_llm is None)
    rows, _ = judge(lambda request: "neither", [REFERENCE, candidate(1)], ties="lose")
    assert (rows[0].verdict, rows[0].pi_llm) == ("unparsed", None)


def test_a_judge_that_leans_on_position_is_inconsistent():
    rows, _ = judge(lambda request: "[A]", [REFERENCE, candidate(1)])
    assert (rows[0].verdict, rows[0].flipped, rows[0].pi_llm) == ("inconsistent", True, 0.5)
    rows, _ = judge(lambda request: "[A]", [REFERENCE, candidate(1)], on_reversal="abstain")
    assert (rows[0].verdict, rows[0].pi_llm) == ("inconsistent", None)


def test_another_instruction_is_judged_as_a_whole_sample():
    rows, requests = judge(prefers("good"), [REFERENCE, candidate(1, instruction="another question")])
    assert rows[0].template == "judge_samples"
    assert "another question" in requests[0].messages[-1].content
    assert rows[0].verdict == "better"


def test_a_reply_without_a_verdict_is_asked_again_under_another_sample_number():
    rows, requests = judge(lambda request: "[B]" if request.sample else "hm", [REFERENCE, candidate(1)])
    assert sorted(request.sample for request in requests) == [0, 0, 1, 1]
    assert (rows[0].verdict, rows[0].reply_first, rows[0].attempts) == ("inconsistent", "[B]", 4)


def test_no_verdict_after_all_tries_is_unparsed_and_null():
    rows, requests = judge(lambda request: "hm", [REFERENCE, candidate(1)], attempts=3)
    assert len(requests) == 6
    assert (rows[0].verdict, rows[0].pi_llm, rows[0].reply_first) == ("unparsed", None, "hm")


def test_a_cut_off_reply_has_no_verdict_whatever_letters_it_quotes():
    rows, _ = judge(lambda request: ChatReply("I must say [A] if", "length", 1, 1, 0, 0), [REFERENCE, candidate(1)])
    assert rows[0].verdict == "unparsed"


def test_a_failed_call_is_failed_with_its_reason_never_a_number():
    rows, _ = judge(lambda request: CallError("timeout", "no reply", 4), [REFERENCE, candidate(1)])
    assert (rows[0].verdict, rows[0].pi_llm, rows[0].attempts) == ("failed", None, 8)
    assert "timeout: no reply" in rows[0].error


def test_a_gap_that_is_not_positive_is_skipped_unless_the_knob_is_off():
    both = [REFERENCE, candidate(1)]
    rows, requests = judge(prefers("good"), both, {"c1": 0.0})
    assert (rows[0].verdict, rows[0].pi_llm, requests) == ("skipped", None, [])
    rows, requests = judge(prefers("good"), both, {"c1": -0.1}, skip_nonpositive_gap=False)
    assert (rows[0].verdict, len(requests)) == ("better", 2)
    rows, requests = judge(prefers("good"), both, {"c1": None}, skip_nonpositive_gap=False)
    assert (rows[0].verdict, requests) == ("skipped", [])


def test_failed_candidates_are_not_judged():
    rows, _ = judge(prefers("good"), [REFERENCE, candidate(1, status="failed")])
    assert rows == []


def test_where_the_reference_failed_the_seeds_own_response_takes_its_place():
    failed = candidate(0, "keep+z", status="failed")
    rows, requests = judge(prefers("good"), [failed, candidate(1), candidate(2, "seed", "own answer")])
    assert [(r.candidate_id, r.base_candidate_id) for r in rows] == [("c1", "c2")]
    rows, requests = judge(prefers("good"), [failed, candidate(1)])
    assert [(r.candidate_id, r.base_candidate_id, r.verdict) for r in rows] == [("c1", None, "better")]
    assert "own answer" in requests[0].messages[-1].content


def test_with_nothing_to_compare_with_the_verdict_is_failed():
    empty = Seed("s", "f", 1, None, (), "the question", "")
    rows, requests = judge(prefers("good"), [candidate(0, status="failed"), candidate(1)], seed=empty)
    assert (rows[0].verdict, rows[0].pi_llm, requests) == ("failed", None, [])
    assert references([candidate(0, status="failed")], [empty]) == {"s": None}


def test_candidates_of_one_text_are_judged_once_and_the_first_bears_the_cost():
    said = ChatReply("[A]", "stop", 10, 1, 0.25, 0.1, 1)
    rows, requests = judge(
        lambda request: said, [REFERENCE, candidate(1), candidate(2, "c+b"), candidate(3, response="x")]
    )
    assert len(requests) == 4
    assert [(row.cost_usd, row.attempts) for row in rows] == [(0.5, 2), (0.0, 0), (0.5, 2)]
    assert rows[0].reply_first == rows[1].reply_first == "[A]"
    assert {row.judge_agent for row in rows} == {"j"}


def test_calls_saved_are_two_for_each_candidate_whose_gap_is_not_positive_and_none_for_those_without_a_gap():
    candidates = [REFERENCE, *(candidate(slot, response=f"r{slot}") for slot in range(1, 5))]
    gaps = {"c2": 0.0, "c3": -0.1, "c4": None}
    said = ChatReply("[A]", "stop", 10, 1, 0.25, 0.1, 1)
    rows, _ = judge(lambda request: said, candidates, gaps)
    scores = [IfdScore(c.candidate_id, "s", "ok", False, gap=gaps.get(c.candidate_id, 0.1)) for c in candidates]
    assert calls_saved(rows, scores) == (4, 1.0)
    rows, _ = judge(lambda request: said, candidates, gaps, skip_nonpositive_gap=False)
    assert calls_saved(rows, scores) == (0, 0.0)


def test_a_judge_that_thinks_past_its_limit_is_told_as_that():
    rows, _ = judge(
        lambda request: ChatReply("<think>hm [A]</think>", "length", 1, 64, 0, 0),
        [candidate(0, "keep+a"), candidate(1)],
    )
    assert rows[0].verdict == "unparsed"
    assert "reasoning took all of the 64 tokens" in rows[0].error
