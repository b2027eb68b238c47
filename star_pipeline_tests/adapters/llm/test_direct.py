"""The direct way to a server and litellm's, held against each other request by request and reply by reply."""

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest

from star_pipeline.adapters.llm.answers import Answer
from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.senders import Senders
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.equations.reply_cleaning import spoken
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message
from star_pipeline_tests.hostile import hostile
from star_pipeline_tests.llm_server import Reply, chat_server

ASKED = (Message("system", "Be brief."), Message("user", "Why? \u00e9\u6f22"))
WAYS = ("direct", "litellm")


def both(server, count=1, form=RequestForm(), provider="hosted_vllm", params=None, **changes):
    """[(what the direct way gave, what litellm's did)] of ``count`` requests, each an Answer or a Failure."""
    found = []

    async def ask(way):
        agent = AgentConfig(model=f"{provider}/org/m", api_base=server.url, client=way, params=params or {}, **changes)
        async with contextlib.aclosing(Senders({"a": agent})) as senders:
            given = []
            for number in range(count):
                messages = (*ASKED, Message("assistant", "x"), Message("user", f"question {number}."))
                try:
                    given.append(await senders.send(ChatRequest("a", messages, "t", "v", {"temperature": 0.0}), form))
                except Failure as failure:
                    given.append(failure)
            return given

    found = [asyncio.run(ask(way)) for way in WAYS]
    return list(zip(*found, strict=True))


def alike(one, other):
    if isinstance(one, Failure) or isinstance(other, Failure):
        assert isinstance(one, Failure), (one, other)
        assert isinstance(other, Failure), (one, other)
        names = ("kind", "passing", "retry_after", "maybe_billed")
        assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names], (one, other)
        return
    assert isinstance(one, Answer)
    # litellm takes a block of reasoning off that stands before the text; here the journal keeps what came
    assert spoken(one.text) == spoken(other.text) or spoken(one.text).text == spoken(other.text).text
    for name in ("finish_reason", "prompt_tokens", "completion_tokens", "top_logprobs"):
        assert getattr(one, name) == getattr(other, name), name


PARAMS = {
    "temperature": 0.3, "max_tokens": 5, "top_k": 4, "top_p": 0.9, "seed": 3, "stop": ["x"], "logprobs": True, "top_logprobs": 3,
    "response_format": {"type": "json_object"}, "extra_body": {"foo": 1, "min_p": 0.2}, "logit_bias": {"1": 2},
    "frequency_penalty": 0.1, "chat_template_kwargs": {"enable_thinking": False}, "repetition_penalty": 1.1,
}  # fmt: skip  # read as a table


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai", "lm_studio", "litellm_proxy", "llamafile"])
def test_the_same_request_goes_out(provider, monkeypatch):
    for name in (
        "OPENAI_API_KEY",
        "HOSTED_VLLM_API_KEY",
        "LM_STUDIO_API_KEY",
        "LITELLM_PROXY_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    token = {"token": "A", "logprob": -0.1, "bytes": None}
    told = json.dumps(
        {
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A"},
                 "logprobs": {"content": [{**token, "top_logprobs": [token, {**token, "token": "B", "logprob": -2.5}]}]}}
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        }
    ).encode()  # fmt: skip  # as a server writes it
    forms = (RequestForm(), RequestForm(system_folded=True), RequestForm(renamed=frozenset({"max_tokens"})))
    with chat_server(lambda asked: Reply(body=told)) as server:
        for form in forms:
            [(direct, through)] = both(server, form=form, provider=provider, params=PARAMS)
            assert direct.text == "A"
            alike(direct, through)
            one, other = server.requests[-2:]
            keys = {one.pop("authorization"), other.pop("authorization")}
            assert keys <= {None, "Bearer none", "Bearer fake-api-key"}  # litellm sends a word where there is no key
            assert one == other
        monkeypatch.setenv("MY_KEY", "right")
        both(server, provider=provider, api_key_env="MY_KEY")
        assert [asked["authorization"] for asked in server.requests[-2:]] == ["Bearer right"] * 2
        monkeypatch.setenv(f"{provider.upper()}_API_KEY", "usual")
        both(server, provider=provider)
        assert [asked["authorization"] for asked in server.requests[-2:]] == ["Bearer usual"] * 2


STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 425, 429, 451, 500, 501, 502, 503, 504, 507, 520, 529)
SAID = (
        (429, "Rate limit reached, please try again in 2.5s", {}), (429, "slow down", {"Retry-After": "7"}),
        (429, "You exceeded your current quota", {}), (400, "This model's maximum context length is 4096 tokens", {}),
        (400, "The response was filtered: content management policy", {}), (400, "System role not supported", {}),
        (503, "Loading model", {}), (500, "model requires more system memory (5 GiB) than is available (3 GiB)", {}),
        (400, "Unrecognized request argument: top_k", {}), (404, "The model `m` does not exist.", {}),
)  # fmt: skip  # read as a table


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
def test_the_same_refusals_are_told_apart_alike(provider):
    bodies = [(status, f"scripted {status}", {}) for status in STATUSES] + list(SAID)

    def script(asked):
        number = int(asked["messages"][-1]["content"].split()[-1].rstrip("."))
        status, text, headers = bodies[number]
        return Reply(
            status=status, body=json.dumps({"error": {"message": text, "code": status}}).encode(), headers=headers
        )

    with chat_server(script) as server:
        for number, (direct, through) in enumerate(both(server, len(bodies), provider=provider)):
            assert isinstance(direct, Failure), bodies[number]
            alike(direct, through)
            assert bodies[number][1] in direct.said


def test_the_same_is_taken_of_what_no_sane_server_sends():
    numbers = [number for number in range(120) if not hostile(11, number, most=5000)[0].breaks]

    def script(asked):
        place = int(asked["messages"][-1]["content"].split()[-1].rstrip("."))
        return hostile(11, numbers[place], most=5000)[0]

    with chat_server(script) as server:
        for direct, through in both(server, len(numbers), timeout_s=120):
            # what kind of failure nonsense with status 200 is, litellm says now so and now so
            if not (isinstance(direct, Failure) and isinstance(through, Failure)):
                alike(direct, through)


@pytest.mark.parametrize("breaks", ["reset", "half"])
def test_a_broken_connection_may_pass_and_may_have_been_billed(breaks):
    with chat_server(lambda asked: Reply(breaks=breaks)) as server:
        [(direct, through)] = both(server)
        assert (direct.passing, direct.maybe_billed) == (through.passing, through.maybe_billed) == (True, True)


def test_an_error_in_place_of_a_reply_is_one_of_its_code():
    body = json.dumps({"error": {"message": "Rate limit reached", "code": 429}}).encode()
    with chat_server(lambda asked: Reply(body=body)) as server:
        [(direct, _)] = both(server)
        assert (direct.kind, direct.passing) == ("rate_limit", True)


def test_nobody_there_and_nobody_in_time():
    with chat_server(lambda asked: Reply("late", delay_s=60)) as server:
        for direct, through in both(server, timeout_s=0.5):
            alike(direct, through)
            assert direct.kind == "timeout"
    for direct, through in both(server):
        alike(direct, through)
        assert (direct.kind, direct.maybe_billed) == ("connection", False)


def test_a_run_whose_servers_speak_openais_api_never_loads_litellm(tmp_path):
    with chat_server(lambda asked: "fine") as server:
        code = f"""
import asyncio, contextlib, sys
from pathlib import Path
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message

async def main():
    agents = {{"a": AgentConfig(model="hosted_vllm/m", api_base="{server.url}", params={{"max_tokens": 9}}, **COST)}}
    for budget in BUDGETS:
        async with contextlib.aclosing(AgentChat(agents, SqliteJournal(Path({str(tmp_path)!r}), "lake"), budget)) as chat:
            reply = await chat.complete(ChatRequest("a", (Message("user", "Why?"),), "t", "v"))
            assert reply.text == "fine"
COST, BUDGETS = {{}}, (None,)
asyncio.run(main())
COST, BUDGETS = dict(input_cost_per_token=0.0, output_cost_per_token=0.0), (None, 1.0)
asyncio.run(main())
assert "litellm" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", code], check=True)


def test_a_client_that_cannot_be_is_refused():
    for model, base in (
        ("anthropic/claude", None),
        ("openai/gpt-4o-mini", None),
        ("ollama_chat/x", "http://127.0.0.1:1"),
    ):
        assert not AgentConfig(model=model, api_base=base).goes_directly
        with pytest.raises(ValueError, match="client: direct needs"):
            AgentConfig(model=model, api_base=base, client="direct")
    assert not AgentConfig(model="openai/gpt-5", api_base="https://api.openai.com/v1").goes_directly
    assert AgentConfig(model="openai/m", api_base="http://127.0.0.1:8000/v1").goes_directly
