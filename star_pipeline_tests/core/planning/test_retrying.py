"""Which failed rows are tried again: what may pass or was the agent's, never what a model made."""

import pytest

from star_pipeline.core.planning.retrying import candidates_to_try, in_words, pays_nothing_twice, verdicts_to_try
from star_pipeline.core.records import Candidate, JudgeVerdict


def candidate(pair="keep+a", kind=None, instruction="i", tokens=0):
    failed = kind is not None
    return Candidate(
        "c", "s", 0, pair, instruction, None if failed else "r", "failed" if failed else "ok", kind, kind, 1, tokens, tokens, 0.0, 0.0
    )  # fmt: skip  # read as a table


def verdict(verdict="tie", error=None, reply="[C]"):
    return JudgeVerdict("c", "s", None, "t", verdict, None, None, False, None, reply, reply, error, 1, 1, 1, 0.0, "j")


@pytest.mark.parametrize(
    "kind", ["timeout", "rate_limit", "connection", "server_error", "unavailable", "quota", "authentication"]
)
def test_what_may_pass_or_is_the_agents_is_tried_again(kind):
    assert candidates_to_try([candidate(), candidate(kind=kind)]) == {("a", kind): 1}
    assert verdicts_to_try([verdict(), verdict("failed", f"{kind}: m: it said so", None)]) == {("j", kind): 1}


@pytest.mark.parametrize("kind", ["echo", "empty_reply", "cut_off", "content_filter", "context_too_long", "empty_seed"])
def test_what_a_model_made_of_a_request_stays(kind):
    assert not candidates_to_try([candidate(kind=kind)])
    assert not verdicts_to_try(
        [verdict("failed", f"{kind}: m: timeout: no", None), verdict("unparsed", "no verdict in 2 replies")]
    )


def test_a_refused_request_is_the_agents_fault_only_where_it_answered_nothing():
    refused = candidate(kind="bad_request")
    assert candidates_to_try([refused, refused, candidate("keep+b")]) == {("a", "bad_request"): 2}
    assert not candidates_to_try([refused, candidate()])
    assert not candidates_to_try([refused, candidate(kind="echo")])
    assert not candidates_to_try([refused, candidate("a+b")])
    # what could not be rewritten is the instruction agent's
    assert candidates_to_try([candidate("b+a", "bad_request", None), candidate()]) == {("b", "bad_request"): 1}
    asked = verdict("failed", "bad_request: m: no", None)
    assert verdicts_to_try([asked, verdict("skipped", reply=None)]) == {("j", "bad_request"): 1}
    assert not verdicts_to_try([asked, verdict()])


def test_a_reply_that_was_paid_and_cannot_be_read_stays():
    assert candidates_to_try([candidate(kind="malformed_reply")]) == {("a", "malformed_reply"): 1}
    assert not candidates_to_try([candidate(kind="malformed_reply", tokens=5)])


def test_what_is_left_is_said_in_words():
    rows = [candidate(kind="timeout"), candidate(kind="timeout"), candidate("keep+b", "quota")]
    assert in_words(candidates_to_try(rows)) == "a: 2 timeout; b: 1 quota"


def test_under_other_settings_only_what_asks_the_same_is_tried_again():
    before = {
        "agents": {"a": 1, "b": 2},
        "sampling": {"response_mode": "answer"},
        "prompts": {},
        "judge": {"agent": "b"},
        "pairs": {},
    }
    assert pays_nothing_twice(before, before, {"a", "b", "keep"})
    changed = {**before, "agents": {"a": 9, "b": 2}}
    assert not pays_nothing_twice(before, changed, {"a", "b"})
    assert pays_nothing_twice(before, changed, {"b"})  # the other has answered nothing
    assert not pays_nothing_twice(before, {**before, "prompts": {"respond": "x"}}, {"b"})
    assert not pays_nothing_twice(None, before, set())
