"""Log-probabilities through real litellm against a real HTTP server on loopback, and through the journal."""

import asyncio
import contextlib
import json
import math
import sqlite3
from dataclasses import replace

import pytest

from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.journal.sqlite.reading import reading_file
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.llm.logprobs import logprobs_problem
from star_pipeline.adapters.llm.wire import first_token, tidy
from star_pipeline.adapters.preflight import check_agents
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.doctor import _agents
from star_pipeline.config import load_config
from star_pipeline.config.models import AgentConfig, StarConfig
from star_pipeline.core.equations.judging import Judge, JudgeRules
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.errors import AgentDown, ConfigError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Candidate, IfdScore, Message, Seed
from star_pipeline_tests.llm_server import Reply, chat_server

PARAMS = JudgeRules("a", 1, "tie", True, {"temperature": 0.0}, mode="logprobs").request_params
REQUEST = ChatRequest("a", (Message("user", "A or B?"),), "t", "v", PARAMS)
LIKELY = {"A": math.log(0.6), " B": math.log(0.3), "The": math.log(0.1)}
SEED = Seed("s", "f", 1, None, (), "the question", "own response")


def agent(server, **changes):
    return AgentConfig(
        **{"model": "hosted_vllm/m", "api_base": server.url, "max_tries": 2, "params": {"max_tokens": 500}, **changes}
    )


def talk(folder, config, work):
    """What ``work`` makes of a chat model, and what the chat model told the user."""
    news = []

    async def within():
        chat = AgentChat({"a": config}, SqliteJournal(folder, "lake"), tell=news.append)
        async with contextlib.aclosing(chat):
            return await work(chat)

    return asyncio.run(within()), news


def judged(chat, **rules):
    rows = [
        Candidate(f"c{n}", "s", n, "a+b", SEED.instruction, text, "ok", None, None, 1, 1, 1, 0.0, 0.0)
        for n, text in enumerate(("plain", "good"))
    ]
    scores = [IfdScore(row.candidate_id, "s", "ok", False, gap=0.1) for row in rows]
    return Judge(chat, PromptLibrary({}), JudgeRules("a", 1, "tie", True, **rules)).verdicts(
        rows, [SEED], scores, SilentProgress()
    )


def test_what_a_server_tells_of_the_first_token_comes_back_and_is_kept(tmp_path):
    with chat_server(lambda asked: Reply("A", finish_reason="length", logprobs=LIKELY)) as server:
        reply, _ = talk(tmp_path, agent(server), lambda chat: chat.complete(REQUEST))
        assert dict(reply.top_logprobs) == pytest.approx(LIKELY)
        assert [token for token, _ in reply.top_logprobs] == ["A", " B", "The"]
        again, _ = talk(tmp_path, agent(server), lambda chat: chat.complete(REQUEST))
        assert again.top_logprobs == reply.top_logprobs
        assert len(server.requests) == 1
        [asked] = server.requests
        assert (asked["logprobs"], asked["top_logprobs"], asked["max_tokens"], asked["temperature"]) == (
            True,
            20,
            1,
            0.0,
        )
        with reading_file(tmp_path, "lake") as journal:
            assert journal.find(request_key(REQUEST, agent(server))).top_logprobs == reply.top_logprobs


def test_a_journal_of_an_earlier_version_is_read_and_written(tmp_path):
    with chat_server(lambda asked: Reply("A", logprobs=LIKELY)) as server:
        plain = replace(REQUEST, params={"temperature": 0.0})
        talk(tmp_path, agent(server), lambda chat: chat.complete(plain))
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
            db.execute("DROP TABLE told")
        with reading_file(tmp_path, "lake") as journal:
            assert journal.find(request_key(plain, agent(server))).text == "A"
        reply, _ = talk(tmp_path, agent(server), lambda chat: chat.complete(REQUEST))
        assert reply.top_logprobs


def test_the_judge_hears_the_answer_that_it_prefers_through_a_lean_on_position(tmp_path):
    def script(asked):
        good_first = asked["messages"][-1]["content"].index("good") < asked["messages"][-1]["content"].index("plain")
        p = 1 / (1 + math.exp(-(3.0 + (1.0 if good_first else -1.0))))
        return Reply("A", logprobs={"A": math.log(p), "B": math.log(1 - p)})

    with chat_server(script) as server:
        [row], _ = talk(tmp_path, agent(server), lambda chat: judged(chat, mode="logprobs"))
    assert (row.verdict, row.flipped, row.margin) == ("better", True, pytest.approx(1))


def test_a_judge_that_tells_no_log_probabilities_stops_the_run_with_the_remedy_and_its_reply_is_not_kept(tmp_path):
    silent = [True]
    with chat_server(lambda asked: Reply("A", logprobs=None if silent[0] else LIKELY)) as server:
        with pytest.raises(AgentDown, match=r"tells no log-probabilities.*judge\.mode: written or json"):
            talk(tmp_path, agent(server), lambda chat: judged(chat, mode="logprobs"))
        silent[0] = False
        [row], _ = talk(tmp_path, agent(server), lambda chat: judged(chat, mode="logprobs"))
        assert row.margin is not None


def test_a_server_that_refuses_them_is_named_with_the_remedy(tmp_path):
    said = json.dumps(
        {"error": {"message": "Unsupported parameter: 'logprobs'", "type": "invalid_request_error"}}
    ).encode()
    refused = pytest.raises(AgentDown, match=r"refuses logprobs.*judge\.mode: written or json")
    with chat_server(lambda asked: Reply(status=400, body=said)) as server, refused:
        talk(tmp_path, agent(server), lambda chat: judged(chat, mode="logprobs"))


def test_a_server_that_takes_no_schema_is_asked_without_and_its_reply_read_as_strictly(tmp_path):
    def script(asked):
        if "response_format" in asked:
            return Reply(
                status=400, body=b'{"error": {"message": "\'response_format\' is not supported by this model"}}'
            )
        return '{"comparison": "short", "verdict": "C"}'

    with chat_server(script) as server:
        [row], news = talk(
            tmp_path, agent(server), lambda chat: judged(chat, mode="json", optional=frozenset({"response_format"}))
        )
    assert row.verdict == "tie"
    assert any("response_format" in line for line in news)


def config(server, **changes):
    settings = load_config("offline").model_dump(mode="json")
    settings["agents"]["judge"] = agent(server, **changes).model_dump(mode="json")
    settings["judge"] |= {"mode": "logprobs"}
    return StarConfig.model_validate(settings)


@pytest.mark.parametrize(("likely", "words"), [
    (LIKELY, None), (None, "judge.mode: written or json"), ({"<think>": -0.1, "Okay": -3.0}, "it begins with '<think>', 'Okay'"),
])  # fmt: skip  # read as a table
def test_whether_a_judge_can_be_asked_for_one_letter_is_said_before_the_run(likely, words):
    with chat_server(lambda asked: Reply("A", logprobs=likely)) as server:
        if words is None:
            check_agents(config(server))
        else:
            with pytest.raises(ConfigError, match="agent judge"):
                check_agents(config(server))
            assert words in logprobs_problem(config(server), "judge")
        assert {asked["max_tokens"] for asked in server.requests} == {1}


def test_doctor_says_it_beside_the_agent():
    with chat_server(lambda asked: Reply("A")) as server:
        wrong = [text for well, text in _agents(config(server)) if not well]
    assert len(wrong) == 1
    assert "agent judge" in wrong[0]
    assert "judge.mode: written or json" in wrong[0]


def test_a_server_with_a_price_is_not_asked_and_a_provider_that_takes_none_is_named():
    with chat_server(lambda asked: "A") as server:
        assert logprobs_problem(config(server, input_cost_per_token=1e-6), "judge") is None
        assert server.requests == []
        assert "takes no logprobs" in logprobs_problem(config(server, model="ollama_chat/m"), "judge")


@pytest.mark.parametrize("odd", [
    None, [], "x", {"content": None}, {"content": []}, {"content": ["A"]}, {"content": [{"token": 1, "logprob": -1}]},
    {"content": [{"token": "A", "logprob": float("nan")}]}, {"content": [{"token": "A", "logprob": True}]},
])  # fmt: skip  # read as a table
def test_odd_log_probabilities_are_none(odd):
    assert first_token(odd) is None


def test_of_log_probabilities_only_what_can_be_read_is_kept():
    told = {
        "content": [
            {"token": "A", "logprob": 1e-7, "top_logprobs": [{"token": "B", "logprob": -99999}, {"token": None}, 3]},
            {},
        ]
    }
    said = {"choices": [{"message": {"content": "A"}, "finish_reason": "stop", "logprobs": told}]}
    kept = tidy(said)["choices"][0]["logprobs"]["content"]
    assert kept == [
        {"token": "A", "logprob": 0.0, "bytes": None, "top_logprobs": [{"token": "B", "logprob": -1e4, "bytes": None}]}
    ]


@pytest.mark.parametrize("mode", ["written", "json", "logprobs"])
def test_the_offline_judge_can_be_asked_in_each_mode(tmp_path, mode):
    config = AgentConfig(model="offline/judge")
    texts = (
        "Yes.",
        "Bread rises because yeast turns sugar into gas; knead the dough, let it rest for an hour, then bake it hot.",
    )
    question = "How does bread rise, and how is it baked?"
    rows = [
        Candidate(f"c{n}", "s", n, "a+b", question, text, "ok", None, None, 1, 1, 1, 0.0, 0.0)
        for n, text in enumerate(texts)
    ]
    scores = [IfdScore(row.candidate_id, "s", "ok", False, gap=0.1) for row in rows]
    seed = replace(SEED, instruction=question)
    rules = JudgeRules("a", 2, "tie", True, mode=mode)
    work = lambda chat: Judge(chat, PromptLibrary({}), rules).verdicts(rows, [seed], scores, SilentProgress())  # noqa: E731
    [row], _ = talk(tmp_path, config, work)
    assert (row.verdict, row.pi_llm, row.margin is not None) == ("better", 1.0, mode == "logprobs")
