"""Eq. 2: who is asked what, what is shared, and how every failure ends as a row."""

import asyncio
from dataclasses import replace

import pytest

from star_pipeline.adapters.fakes import ScriptedChat
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.core.equations.generation import AgentPrompts, Generator
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.equations.replies import MASKED, Reading, read_reply
from star_pipeline.core.errors import CallError
from star_pipeline.core.planning.retrying import candidates_to_try
from star_pipeline.core.ports import ChatReply
from star_pipeline.core.records import Message, Pair, PlanRow, Seed

SEED = Seed("s", "f", 1, "be kind", (Message("user", "hi"), Message("assistant", "hello")), "the question", "the draft")
AGENTS = {name: AgentPrompts("deepen", "respond") for name in "abc"}


def plan(*pair_ids):
    rows = []
    for slot, pair_id in enumerate(pair_ids):
        pair = Pair.parse(pair_id)
        rows.append(
            PlanRow(
                f"c{slot}",
                "s",
                slot,
                pair_id,
                pair.instruction_agent,
                pair.response_agent,
                "explore",
                0.1,
                "x",
                (),
                (),
                (),
            )
        )
    return rows


def generate(script, rows, mode="answer", seed=SEED):
    chat = ScriptedChat(script)
    generator = Generator(chat, PromptLibrary({}), AGENTS, mode)
    return asyncio.run(generator.candidates(rows, [seed], SilentProgress())), chat.requests


def reply(request):
    return f"{request.agent} says {request.template} #{len(request.messages)}"


def test_keep_leaves_the_instruction_and_the_responder_sees_system_and_history_as_chat():
    [candidate], requests = generate(reply, plan("keep+a"))
    assert (candidate.instruction, candidate.response, candidate.status) == ("the question", "a says respond #4", "ok")
    assert [(m.role, m.content) for m in requests[0].messages] == [
        ("system", "be kind"),
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "the question"),
    ]


def test_pairs_that_share_an_instruction_agent_share_its_one_call_booked_on_the_lowest_slot():
    candidates, requests = generate(reply, plan("keep+c", "b+a", "b+c"))
    assert [request.template for request in requests].count("deepen") == 1
    assert [c.instruction for c in candidates] == ["the question", "b says deepen #2", "b says deepen #2"]
    rewrite = next(request for request in requests if request.template == "deepen")
    responses = {(r.agent, r.messages[-1].content): r for r in requests if r.template == "respond"}
    words = lambda request: sum(len(m.content.split()) for m in request.messages)  # noqa: E731
    assert candidates[1].prompt_tokens == words(rewrite) + words(responses["a", "b says deepen #2"])
    assert candidates[2].prompt_tokens == words(responses["c", "b says deepen #2"])
    assert [c.attempts for c in candidates] == [1, 2, 1]


def test_the_seed_pair_costs_no_call():
    [candidate], requests = generate(reply, plan("seed"))
    assert (candidate.response, candidate.attempts, candidate.cost_usd, requests) == ("the draft", 0, 0, [])


def test_an_empty_seed_response_is_a_failed_candidate():
    empty = Seed("s", "f", 1, None, (), "q", " ")
    [candidate], _ = generate(reply, plan("seed"), seed=empty)
    assert (candidate.status, candidate.error_kind, candidate.response) == ("failed", "empty_seed", None)


def test_refine_shows_the_draft_and_its_echo_is_a_failure():
    [candidate], requests = generate(reply, plan("keep+a"), "refine")
    assert candidate.response == "a says refine #4"
    assert "the draft" in requests[0].messages[-1].content
    assert requests[0].messages[1:-1] == SEED.history
    [echo], _ = generate(lambda request: "the  draft", plan("keep+a"), "refine")
    assert echo.error_kind == "echo"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", "empty_reply"),
        (" \n", "empty_reply"),
        ("the   question\n", "echo"),
        (ChatReply("half a", "length", 5, 7, 0.25, 1.0), "cut_off"),
        (CallError("rate_limit", "too many", 5), "rate_limit"),
        (ChatReply("half a text", "content_filter", 5, 7, 0.25, 1.0), "content_filter"),
        (ChatReply("half a text", "model_length", 5, 7, 0.25, 1.0), "cut_off"),
        (ChatReply("half a text", "MAX_TOKENS", 5, 7, 0.25, 1.0), "cut_off"),
        (ChatReply("half a text", "abort", 5, 7, 0.25, 1.0), "broken_off"),
        (ChatReply("half a text", "who knows", 5, 7, 0.25, 1.0), "unfinished"),
        (ChatReply("", "tool_calls", 5, 7, 0.25, 1.0), "tool_call"),
        (ChatReply("<think>hm</think>", "length", 5, 7, 0.25, 1.0), "only_reasoning"),
        ("<think>hm", "unclosed_reasoning"),
        ("<think>hm</think>", "only_reasoning"),
        (f"the key is {MASKED}", "quoted_key"),
        ("<think>hm</think>the question<|im_end|>", "echo"),
    ],
)
def test_a_reply_that_is_none_is_a_failed_row_with_its_reason(said, kind):
    [candidate], _ = generate(lambda request: said, plan("keep+a"))
    assert (candidate.status, candidate.response, candidate.error_kind) == ("failed", None, kind)
    assert candidate.error.startswith("a: ")
    if kind == "rate_limit":
        assert candidate.attempts == 5
    if kind == "cut_off":
        assert candidate.cost_usd == 0.25


def test_a_failed_rewrite_fails_the_pairs_that_need_it_and_no_other():
    def script(request):
        return CallError("timeout", "no reply", 3) if request.template == "deepen" else reply(request)

    candidates, requests = generate(script, plan("keep+a", "b+a", "b+c"))
    assert [c.status for c in candidates] == ["ok", "failed", "failed"]
    assert [c.attempts for c in candidates] == [1, 3, 0]
    assert candidates[1].instruction is None
    assert "b made no instruction" in candidates[2].error
    assert len(requests) == 2


def test_a_good_reply_has_no_reason_against_it():
    assert read_reply(ChatReply("fine", "stop", 1, 1, 0, 0), "other") == Reading("fine")


def test_one_agent_that_is_asked_the_same_twice_is_asked_once_and_the_lowest_slot_bears_it():
    def script(request):
        if request.template == "deepen":
            return "the same rewriting"
        return ChatReply("an answer", "stop", 10, 20, 0.5, 1.0, 2)

    rows, requests = generate(script, plan("keep+b", "a+b", "c+b", "a+a"))
    assert [request.stage for request in requests].count("respond") == 3
    assert [(row.attempts - row.rewrite_attempts, row.cost_usd) for row in rows] == [
        (2, 0.5),
        (2, 0.5),
        (0, 0.0),
        (2, 0.5),
    ]
    assert [row.rewrite_attempts for row in rows] == [0, 1, 1, 0]
    assert {row.response for row in rows} == {"an answer"}


def test_a_reply_that_another_paid_for_costs_nothing_here_but_says_what_it_says():
    paid = ChatReply("cut sho", "length", 10, 20, 0.5, 1.0, 3, booked=False)
    [row], _ = generate(lambda request: paid, plan("keep+a"))
    assert (row.attempts, row.prompt_tokens, row.completion_tokens, row.cost_usd, row.latency_s) == (0, 0, 0, 0, 0)
    assert "cut off at 20 tokens" in row.error


def test_every_request_has_a_purpose_of_its_own_whatever_pair_and_snapshot_it_is_for():
    rows = plan("keep+a", "b+a", "b+c")
    _, requests = generate(reply, rows)
    purposes = [request.purpose for request in requests]
    assert len(set(purposes)) == len(purposes) == 4
    _, again = generate(reply, [replace(row, candidate_id=f"other{row.slot}", snapshot_id="y") for row in rows])
    assert {request.purpose for request in again} == set(purposes)


@pytest.mark.parametrize("finish", ["stop", "STOP", "eos", "end_turn", "stop_sequence", "COMPLETE", ""])
def test_every_servers_word_for_a_natural_end_is_one(finish):
    assert read_reply(ChatReply("<think>hm</think>\n fine</s>", finish, 1, 1, 0, 0)) == Reading("fine")


def test_what_took_all_the_tokens_is_said_with_the_remedy():
    thought = read_reply(ChatReply("<think>hm</think>", "length", 1, 512, 0, 0)).reason
    assert "reasoning took all of the 512 tokens" in thought
    assert "max_tokens" in thought
    assert "reasoning" in read_reply(ChatReply("", "length", 1, 512, 0, 0)).reason


def test_the_responder_is_sent_what_is_stored_blanks_and_all():
    seed = replace(SEED, instruction="    x = 1\n    y = 2\n\n", system="  S ")
    [candidate], [request] = generate(reply, plan("keep+a"), seed=seed)
    assert candidate.instruction == request.messages[-1].content == seed.instruction
    assert request.messages[0].content == seed.system


LIST = replace(
    SEED, instruction="Rank these towns by the number of their bridges.\nGhent, Bruges, Leuven", system=None, history=()
)


def test_a_wrapper_comes_off_before_the_responder_is_asked_and_both_texts_are_bare():
    def script(request):
        if request.template == "deepen":
            return "Rewritten instruction:\n<instruction>\nRank Ghent, Bruges and Leuven by bridges.\n</instruction>"
        return "### Response:\nGhent, Bruges, Leuven."

    [candidate], requests = generate(script, plan("a+b"), seed=LIST)
    assert candidate.instruction == requests[1].messages[-1].content == "Rank Ghent, Bruges and Leuven by bridges."
    assert (candidate.response, candidate.warnings) == ("Ghent, Bruges, Leuven.", None)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (f"<instruction>\n{LIST.instruction}\n</instruction>", "echo"),
        ("<instruction>\n</instruction>", "empty_reply"),
        ("Please provide the towns.", "lost_input"),
        ("Ghent has the most bridges, before Bruges and Leuven.", "answered"),
        ("I'm sorry, but I can't help with that.", "refused"),
        (f"{LIST.instruction}\n\nReply with the rewritten instruction and nothing else.", "repeats_prompt"),
        ("按桥梁数量对根特、布鲁日和鲁汶这几座城市进行排名，并说明理由。", "other_script"),
        (f"{LIST.instruction}\n" + "Name the longest bridge. " * 20, "loop"),
    ],
)
def test_a_broken_rewrite_costs_no_answer_and_is_never_asked_for_again(said, kind):
    [candidate], requests = generate(lambda request: said, plan("a+b"), seed=LIST)
    assert (candidate.status, candidate.error_kind, candidate.instruction, candidate.response) == (
        "failed",
        kind,
        None,
        None,
    )
    assert candidate.error.startswith("a made no instruction: a: the re")
    assert [request.template for request in requests] == ["deepen"]
    assert candidate.rewrite_completion_tokens == candidate.completion_tokens > 0
    assert not candidates_to_try([candidate])


def test_what_may_be_wrong_is_kept_beside_a_candidate_that_did_not_fail():
    seed = replace(
        LIST,
        instruction="Sum this up.\nThe ferry crosses at dawn, carries oats and rye, and returns with salt before the tide.",
    )

    def script(request):
        if request.template == "deepen":
            return "Sum this up for a child.\nThe ferry crosses at dawn and carries oats."
        return "I'm sorry, but I cannot assist with that."

    [candidate], _ = generate(script, plan("a+b"), seed=seed)
    assert (candidate.status, candidate.warnings) == ("ok", ("partial_input", "refused_answer"))


def test_a_response_that_loops_fails():
    [candidate], _ = generate(lambda request: "Rye bread. " + "Oat cake and butter. " * 20, plan("keep+a"))
    assert (candidate.status, candidate.error_kind) == ("failed", "loop")
    assert not candidates_to_try([candidate])
