"""Answers, comparisons and grades by agents: a server on loopback, the journal, the study's rows."""

import asyncio
import contextlib
import re

import pytest

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.offline.provider import reply
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.study import answer_by_agent, compare, grade, serving
from star_pipeline.config.study import GradesConfig, PairwiseConfig
from star_pipeline.core.study.answers import Answer, Subject
from star_pipeline.core.study.grades import parse_grade
from star_pipeline_tests.adapters.study.conftest import QUESTIONS, question, settings
from star_pipeline_tests.llm_server import Reply, chat_server

STAR, RANDOM = Subject("base", "star", 0), Subject("base", "random", 0)
ASKED = [
    question("q1", "Say pear.", "Say plum.", category="fruit"),
    question("q2", "Say fig."),
    question("q3", "Say it."),
]


def said(name, *texts):
    return [Answer(name, turn, text, "ok" if text is not None else "failed") for turn, text in enumerate(texts, 1)]


GOOD = [*said("q1", "good pear", "good plum"), *said("q2", "good fig"), *said("q3", "same")]
POOR = [*said("q1", "pear", "plum"), *said("q2", None), *said("q3", "same")]


class Asking:
    """Work with agents a and b of a server, in a lake's journal."""

    def __init__(self, folder, server):
        self.folder = folder
        agents = {name: {"model": f"hosted_vllm/{name}", "api_base": server.url, "max_tries": 1} for name in "ab"}
        self.config = settings(agents=agents)

    def __call__(self, work, agents=None):
        async def inside():
            chat = AgentChat(agents or self.config.agents, SqliteJournal(self.folder, "lake"))
            async with contextlib.aclosing(chat):
                return await work(chat)

        return asyncio.run(inside())


@pytest.fixture
def asking(tmp_path):
    return lambda server: Asking(tmp_path / "journal", server)


def prefers_good(asked):
    """A judge that says in either order which side is good, by what stands in its answer."""
    shown = asked["messages"][-1]["content"]
    sides = re.findall(r"\[Start of Assistant ([AB])'s Answer\]\n(.*?)\n\[End", shown, re.DOTALL)
    return f"Compared.\n[{next((side for side, text in sides if 'good' in text), 'C')}]"


def test_comparisons_are_rows_by_the_judge_of_the_lake_in_both_orders(asking):
    with chat_server(prefers_good) as server:
        ask = asking(server)
        wanted = PairwiseConfig(baseline="random")

        def compared(chat):
            return compare(chat, ask.config, wanted, ASKED, GOOD, POOR, STAR, SilentProgress())

        rows = ask(compared)
        assert [(row.question, row.verdict, row.win) for row in rows] == [
            ("q1", "better", 1.0),
            ("q2", "failed", None),
            ("q3", "tie", 0.5),
        ]
        assert (rows[0].verdict_first, rows[0].verdict_swapped, rows[0].attempts) == ("better", "better", 2)
        assert (rows[0].length, rows[0].length_baseline) == (len("good pear" + "good plum"), len("pear" + "plum"))
        assert (rows[0].target, rows[0].arm, rows[0].seed, rows[0].baseline) == ("base", "star", 0, "random")
        assert (rows[0].source, rows[0].category, rows[0].judge_agent) == ("questions.jsonl", "fruit", "b")
        assert rows[1].error == "no answer of random"
        assert [row.attempts for row in rows[1:]] == [0, 0]
        assert len(server.requests) == 2
        shown = server.requests[0]["messages"][-1]["content"]
        assert "[User Question]\n[Turn 1]\nSay pear.\n\n[Turn 2]\nSay plum.\n" in shown
        assert server.requests[0]["temperature"] == 0.0
        again = ask(compared)
        assert len(server.requests) == 2
        assert again == rows


def test_a_judge_that_leans_on_position_shows_as_reversals_which_are_ties(asking):
    with chat_server(lambda asked: "[A]") as server:
        ask = asking(server)
        rows = ask(
            lambda chat: compare(
                chat, ask.config, PairwiseConfig(baseline="random"), ASKED, GOOD, POOR, STAR, SilentProgress()
            )
        )
    assert (rows[0].verdict, rows[0].win) == ("inconsistent", 0.5)


def test_each_turn_is_graded_and_an_unreadable_grade_is_asked_for_again(asking):
    asked = [question("q1", "Say pear.", "Say plum.", references=("pear", None)), question("q2", "Say fig.")]

    def script(request):
        shown = request["messages"][-1]["content"]
        if "good plum" in shown.split("[Start of Assistant's Answer]")[1]:
            return "It is what was asked for.\n\n[Grade]\n[[9]]" if len(server.requests) > 2 else "I cannot say."
        return "[[4]]"

    with chat_server(script) as server:
        ask = asking(server)

        def graded(chat):
            return grade(
                chat, ask.config, GradesConfig(judge="a"), asked, [*GOOD[:2], *POOR[2:3]], STAR, SilentProgress()
            )

        rows = ask(graded)
        assert [(row.question, row.turn, row.grade) for row in rows] == [
            ("q1", 1, 4.0),
            ("q1", 2, 9.0),
            ("q2", 1, None),
        ]
        assert [(row.judge_agent, row.attempts) for row in rows] == [("a", 1), ("a", 2), (None, 0)]
        assert rows[1].reply.endswith("[[9]]")
        assert rows[2].error == "no answer: failed"
        shown = [request["messages"][-1]["content"] for request in server.requests]
        answered = [text.split("[Start of Assistant's Answer]")[1] for text in shown]
        first, second = (
            next(text for text, said in zip(shown, answered, strict=True) if words in said)
            for words in ("good pear", "good plum")
        )
        assert "[Start of Reference Answer]\npear\n[End of Reference Answer]" in first
        assert "Reference" not in second
        assert "[Earlier Conversation]\nuser: Say pear.\nassistant: good pear\n\n[User Question]\nSay plum.\n" in second
        assert len(server.requests) == 3
        assert ask(graded) == rows
        assert len(server.requests) == 3


def test_no_grade_in_all_tries_is_told_and_is_no_number(asking):
    with chat_server(lambda asked: "fine") as server:
        ask = asking(server)
        rows = ask(
            lambda chat: grade(chat, ask.config, GradesConfig(attempts=3), ASKED[1:2], GOOD, STAR, SilentProgress())
        )
    assert [(row.grade, row.error, row.attempts) for row in rows] == [(None, "no grade from 1 to 10 in 3 replies", 3)]


def test_a_server_answers_turn_by_turn_and_is_asked_once_a_tuning(asking):
    def script(asked):
        last = asked["messages"][-1]["content"]
        if "fig" in last:
            return Reply("and so on and", finish_reason="length")
        return Reply("", status=400) if "Be short." in asked["messages"][0]["content"] else f"said: {last}"

    with chat_server(script) as server:
        ask = asking(server)
        agents = {"a": serving(ask.config, "a", "tuned-0123")}

        def answers(model_id, subject=STAR):
            return ask(
                lambda chat: answer_by_agent(chat, "a", QUESTIONS, subject, SilentProgress(), 50, 0.0, model_id), agents
            )

        found = answers("0123")
        assert [(one.question, one.turn, one.status) for one in found] == [
            ("q0", 1, "ok"),
            ("q1", 1, "ok"),
            ("q1", 2, "ok"),
            ("q2", 1, "cut_off"),
            ("q2", 2, "cut_off"),
            ("q3", 1, "failed"),
        ]
        assert found[3].text == "and so on and"
        assert found[5].text is None
        assert {request["model"] for request in server.requests} == {"tuned-0123"}
        assert {(request["max_tokens"], request["temperature"]) for request in server.requests} == {(50, 0.0)}
        two = next(request for request in server.requests if request["messages"][-1]["content"] == "Say plum.")
        assert [turn["content"] for turn in two["messages"]] == ["Say pear.", "said: Say pear.", "Say plum."]

        def asked():
            """Without what failed, which is not kept."""
            return sum("Be short." not in request["messages"][0]["content"] for request in server.requests)

        assert asked() == 5
        assert [one.text for one in answers("0123")] == [one.text for one in found]
        assert asked() == 5
        answers("4567")
        assert asked() == 10


def test_the_offline_judge_grades_what_is_better_higher():
    library = settings().prompt_library
    grades = []
    for text in (
        "A pear.",
        "A pear is a fruit that grows on trees. It is sweet, and it is eaten raw, cooked or dried.",
    ):
        given = {"system": None, "history": (), "question": "What is a pear?", "answer": text, "reference": None}
        messages = library.messages("grade_answer", given)
        told = reply("judge", [{"role": turn.role, "content": turn.content} for turn in messages], {})
        grades.append(parse_grade(told))
    assert None not in grades
    assert grades[0] < grades[1]
