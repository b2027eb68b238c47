"""LLM calls through real litellm against a real HTTP server on loopback."""

import asyncio
import contextlib
import time

import pytest

from star_pipeline.adapters import loop
from star_pipeline.adapters.llm.chat import LitellmChat
from star_pipeline.adapters.llm.journal import Journal
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import AgentDown, CallError, ConfigError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message
from star_pipeline_tests.llm_server import Reply, chat_server


def agent(server, **changes):
    return AgentConfig(**{"model": "hosted_vllm/m", "api_base": server.url, "max_tries": 3, **changes})


def request(text="hello", **changes):
    return ChatRequest(
        **{"agent": "a", "messages": (Message("user", text),), "template": "t", "template_version": "v", **changes}
    )


class Asker:
    """Asks through a journal of its own, with a clock that only sleeping moves."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, config, *requests, budget=None, lake="lake", journal="journal"):
        waits = []

        async def sleep(seconds):
            waits.append(seconds)

        async def together():
            chat = LitellmChat({"a": config}, Journal(self.folder / journal, lake), budget, sleep, lambda: sum(waits))
            async with contextlib.aclosing(chat):
                return await asyncio.gather(*(chat.complete(r) for r in requests), return_exceptions=True)

        return asyncio.run(together()), waits


@pytest.fixture
def ask(tmp_path):
    return Asker(tmp_path)


def test_a_reply_comes_back_with_tokens_cost_and_parameters_sent(ask):
    with chat_server(lambda asked: "fine words") as server:
        config = agent(
            server, params={"temperature": 0.3, "max_tokens": 9}, input_cost_per_token=1e-3, output_cost_per_token=1e-2
        )
        [reply], _ = ask(config, request("one two three", params={"temperature": 0.0}))
        assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == (
            "fine words",
            "stop",
            3,
            2,
        )
        assert reply.cost_usd == pytest.approx(3e-3 + 2e-2)
        sent = server.requests[0]
        assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0.0, 9, "m")
        assert "seed" not in sent


def test_a_re_ask_sends_its_number_as_seed(ask):
    with chat_server(lambda asked: "x") as server:
        ask(agent(server), request(sample=2))
        assert server.requests[0]["seed"] == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_tried_again_and_only_as_often_as_allowed(status, ask):
    with chat_server(lambda asked: Reply(status=status)) as server:
        [error], waits = ask(agent(server), request())
        assert isinstance(error, CallError)
        assert error.attempts == 3
        assert len(server.requests) == 3
        assert len(waits) == 2
    if status == 429:
        assert error.kind == "rate_limit"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "authentication"), (403, "permission"), (404, "not_found"), (400, "bad_request"), (422, "bad_request")],
)
def test_permanent_failures_are_not_tried_again(status, kind, ask):
    replies = iter([Reply("fine"), Reply(status=status)])
    with chat_server(lambda asked: next(replies)) as server:
        _, error = ask(agent(server, max_concurrency=1), request("one"), request("two"))[0]
        assert (error.kind, error.attempts, len(server.requests)) == (kind, 1, 2)


def test_an_agent_that_rejects_the_key_and_never_answered_stops_the_run_at_once(ask):
    with chat_server(lambda asked: Reply(status=401)) as server:
        [error], _ = ask(agent(server), request())
        assert isinstance(error, AgentDown)
        assert all(words in str(error) for words in ("agent a", "authentication", "doctor"))


def test_an_agent_whose_model_or_server_is_not_there_stops_the_run_after_a_few_calls(ask):
    with chat_server(lambda asked: Reply(status=404)) as server:
        errors, _ = ask(agent(server, max_concurrency=1), *(request(f"q{n}") for n in range(4)))
        assert [type(error).__name__ for error in errors] == ["CallError", "CallError", "AgentDown", "AgentDown"]
        gone = agent(server, max_tries=2, max_concurrency=1)
    errors, waits = ask(gone, request("a"), request("b"))
    assert [type(error).__name__ for error in errors] == ["CallError", "AgentDown"]
    assert "nobody answers" in str(errors[0])
    assert len(waits) == 2  # a server may be starting: refused connections are tried again


def test_a_server_that_fails_is_not_dead(ask):
    with chat_server(lambda asked: Reply(status=500)) as server:
        errors, _ = ask(agent(server, max_tries=1), *(request(f"q{n}") for n in range(10)))
        assert {type(error).__name__ for error in errors} == {"CallError"}


def test_after_a_passing_failure_the_reply_tells_its_attempts(ask):
    replies = iter([Reply(status=500), Reply("at last")])
    with chat_server(lambda asked: next(replies)) as server:
        [reply], _ = ask(agent(server), request())
        assert (reply.text, reply.attempts) == ("at last", 2)


def test_retry_after_is_honoured(ask):
    replies = iter([Reply(status=429, headers={"Retry-After": "7"}), Reply("ok")])
    with chat_server(lambda asked: next(replies)) as server:
        _, waits = ask(agent(server), request())
        assert waits[0] >= 7


def test_broken_json_is_a_failure_with_its_reason(ask):
    with chat_server(lambda asked: Reply(body=b"{not json")) as server:
        [error], _ = ask(agent(server), request())
        assert isinstance(error, CallError)
        assert "hosted_vllm/m" in str(error)


def test_a_reply_without_choices_is_malformed(ask):
    with chat_server(
        lambda asked: Reply(body=b'{"id": "x", "choices": [], "model": "m", "object": "chat.completion"}')
    ) as server:
        [error], _ = ask(agent(server), request())
        assert isinstance(error, CallError)
        assert len(server.requests) == 3


def test_a_server_that_is_too_slow_is_a_timeout(ask):
    with chat_server(lambda asked: Reply("late", delay_s=3)) as server:
        began = time.monotonic()
        [error], _ = ask(agent(server, timeout_s=0.4, max_tries=1), request())
        assert (error.kind, error.attempts) == ("timeout", 1)
        assert time.monotonic() - began < 2.5


def test_no_more_requests_in_flight_than_the_agent_allows(ask):
    def slow(asked):
        time.sleep(0.03)
        return "x"

    with chat_server(slow) as server:
        results, _ = ask(agent(server, max_concurrency=4), *(request(f"q{n}") for n in range(24)))
        assert all(reply.text == "x" for reply in results)
        assert 2 <= server.most_at_once <= 4


def test_requests_a_minute_are_spread(ask):
    with chat_server(lambda asked: "x") as server:
        began = time.monotonic()
        ask(agent(server, requests_per_minute=600), *(request(f"q{n}") for n in range(6)))
        assert time.monotonic() - began >= 0.45


def test_the_key_comes_from_the_environment_and_shows_nowhere_else(monkeypatch, ask):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    echo = b'{"error": {"message": "bad key sk-secret", "code": 400}}'
    with chat_server(lambda asked: Reply(status=400, body=echo)) as server:
        [error], _ = ask(agent(server, api_key_env="MY_KEY"), request())
        assert server.requests[0]["authorization"] == "Bearer sk-secret"
        assert "bad key [key]" in str(error)
        assert "sk-secret" not in str(error)


def test_a_missing_key_is_said_before_the_first_call(monkeypatch, ask):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for config in (
        AgentConfig(model="openai/gpt-4o-mini"),
        AgentConfig(model="hosted_vllm/m", api_key_env="STAR_NO_KEY"),
    ):
        with pytest.raises(ConfigError, match=r"agent a .* is not set in the environment"):
            ask(config)


def test_stage_after_stage_uses_the_same_sockets(tmp_path):
    """Each asset runs its own round of calls; none may leave connections behind."""
    import psutil

    def round_of_calls(config, number):
        async def together():
            async with contextlib.aclosing(LitellmChat({"a": config}, Journal(tmp_path / str(number), "lake"))) as chat:
                await asyncio.gather(*(chat.complete(request(f"q{n}")) for n in range(16)))

        loop.run(together())

    with chat_server(lambda asked: "x") as server:
        config = agent(server, max_concurrency=16)
        for number in range(2):
            round_of_calls(config, number)
        before = psutil.Process().num_fds()
        for number in range(2, 8):
            round_of_calls(config, number)
        assert psutil.Process().num_fds() <= before + 16
