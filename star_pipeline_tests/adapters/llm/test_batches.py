"""Batch agents against a real server with OpenAI's files and batches endpoints on loopback."""

import asyncio
import contextlib
import json
import re
import socket
import sqlite3

import pytest

from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm import batches
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.llm.endpoint import describe_endpoint
from star_pipeline.adapters.llm.prices import Price, price
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import AgentDown, BudgetReached, CallError
from star_pipeline.core.journal import Sent
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message
from star_pipeline_tests.batch_server import Fate, batch_server
from star_pipeline_tests.journals import read_spend, run
from star_pipeline_tests.llm_server import Reply

PRICES = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-2, "params": {"max_tokens": 9}}


def agent(server, **changes):
    return AgentConfig(**{"model": "hosted_vllm/m", "api_base": server.url, "max_tries": 3, "mode": "batch", **changes})


def request(text="hello", **changes):
    return ChatRequest(
        **{
            "agent": "a", "messages": (Message("user", text),), "template": "t", "template_version": "v", "stage": "respond",
            "purpose": text, **changes,
        }
    )  # fmt: skip  # read as a table


async def quickly(seconds):
    await asyncio.sleep(min(seconds, 0.02))


@pytest.fixture
def ask(tmp_path):
    """Asks through a journal, and returns (replies or errors, what was told)."""

    def asked(config, *requests, budget=None, lake="lake"):
        told = []

        async def together():
            agents = config if isinstance(config, dict) else {"a": config}
            chat = AgentChat(agents, SqliteJournal(tmp_path, lake), budget, quickly, tell=told.append)
            async with contextlib.aclosing(chat):
                return await asyncio.gather(*(chat.complete(one) for one in requests), return_exceptions=True)

        return asyncio.run(together()), told

    asked.folder = tmp_path
    return asked


def spent(folder, lake="lake"):
    rows = read_spend(folder, lake)
    return sum(row.replies for row in rows), sum(row.cost_usd for row in rows), sum(row.reserved_usd for row in rows)


def test_a_stage_goes_out_as_one_batch_whose_replies_find_their_place_at_half_the_price(ask):
    with batch_server(lambda asked: asked["messages"][0]["content"].upper()) as server:
        asked = [request(f"one two {number}") for number in range(30)]
        replies, told = ask(agent(server, **PRICES), *asked, budget=20.0)
        assert [reply.text for reply in replies] == [f"ONE TWO {number}" for number in range(30)]
        assert len(server.batches) == 1
        assert server.requests == []
        keys = [request_key(one, agent(server, **PRICES)).hex() for one in asked]
        assert sorted(server.keys) == sorted(keys)
        assert all(reply.cost_usd == pytest.approx((3e-3 + 3e-2) / 2) for reply in replies)
        assert {reply.latency_s for reply in replies} == {7.0}
        assert "30 requests sent as batch batch_0" in told[0]
        assert "30 of 30 done" in told[-1]
        replies, cost, reserved = spent(ask.folder)
        assert (replies, cost, reserved) == (30, pytest.approx(30 * (3e-3 + 3e-2) / 2), 0)
        again, _ = ask(agent(server, **PRICES), *asked, budget=20.0)
        assert [reply.text for reply in again] == [f"ONE TWO {number}" for number in range(30)]
        assert len(server.batches) == 1


@pytest.mark.parametrize("client", ["direct", "litellm"])
def test_a_line_is_the_request_that_goes_out_live(ask, client):
    params = {"temperature": 0.3, "max_tokens": 5, "stop": ["x"], "extra_body": {"min_p": 0.2}, "top_p": 0.9}
    with batch_server(lambda asked: "x") as server:
        for mode in ("live", "batch"):
            config = agent(server, model="openai/org/m", mode=mode, client=client, params=params)
            messages = (Message("system", "Be brief."), Message("user", f"Why? {mode}"))
            ask(config, request(messages=messages, sample=2, params={"temperature": 0.0}))
        [live] = server.requests
        [line] = server.asked
        for beside in ("authorization", "path"):
            live.pop(beside)
        assert json.loads(json.dumps(line).replace("Why? batch", "Why? live")) == live


def test_openais_newer_models_are_asked_as_litellm_asks_them(ask):
    with batch_server(lambda asked: "x") as server:
        ask(
            agent(server, model="openai/o3-mini", client="litellm", params={"max_tokens": 5, "temperature": 0.2}),
            request(),
        )
        [line] = server.asked
        assert line["max_completion_tokens"] == 5
        assert "temperature" not in line


def test_azure_has_batches_of_its_own(ask, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret-of-azure-1234")
    with batch_server(lambda asked: "x") as server:
        config = agent(server, model="azure/mine", api_base=server.url.removesuffix("/v1"), api_key_env="SOME_KEY")
        [reply], _ = ask(config, request())
        assert reply.text == "x"
        assert server.asked[0]["model"] == "mine"
        assert server.batches[0].lines[0]["url"] == "/chat/completions"
        assert {call["api-key"] for call in server.seen} == {"secret-of-azure-1234"}
        assert all("/openai/" in call["path"] and "api-version=" in call["path"] for call in server.seen)


def test_no_key_of_openais_is_sent_to_a_server_of_ones_own(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real-0123456789abcdef")
    with batch_server(lambda asked: "x") as server:
        ask(agent(server), request())
        assert not any("sk-real" in str(call) for call in server.seen)


def test_errors_in_lines_are_told_apart_and_those_that_may_pass_are_asked_again(ask):
    tries = {}

    def script(asked):
        text = asked["messages"][0]["content"]
        tries[text] = tries.get(text, 0) + 1
        if text == "busy" and tries[text] == 1:
            return Reply(status=429)
        if text == "always":
            return Reply(status=500)
        if text == "bad":
            return Reply("content_filter", status=400)
        return "fine"

    with batch_server(script) as server:
        texts = ["busy", "always", "bad", "good"]
        replies, _ = ask(agent(server, **PRICES), *map(request, texts), budget=9.0)
        assert replies[0].text == replies[3].text == "fine"
        assert replies[0].attempts == 2
        assert (replies[1].kind, replies[1].attempts) == ("server_error", 3)
        assert replies[2].kind == "content_filter"
        assert tries == {"busy": 2, "always": 3, "bad": 1, "good": 1}
        counts = [sorted(line["body"]["messages"][0]["content"] for line in batch.lines) for batch in server.batches]
        assert counts == [sorted(texts), ["always", "busy"], ["always"]]
        _, _, reserved = spent(ask.folder)
        assert 0 < reserved < 0.2  # the filtered one may have been billed, the others were not


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_a_batch_left_undone_is_asked_anew(ask, status):
    with batch_server(lambda asked: "fine") as server:
        server.fate = lambda number: Fate(status, 3) if number == 0 else Fate()
        replies, _ = ask(agent(server, **PRICES), *(request(f"q {number}") for number in range(5)), budget=9.0)
        assert [reply.text for reply in replies] == ["fine"] * 5
        assert [len(batch.lines) for batch in server.batches] == [5, 2]
        assert spent(ask.folder)[0::2] == (5, 0)


def test_batches_that_always_expire_end_as_rows_with_their_reason(ask):
    with batch_server(lambda asked: "fine") as server:
        server.fate = lambda number: Fate("expired", 0)
        [error], _ = ask(agent(server, **PRICES), request(), budget=9.0)
        assert isinstance(error, CallError)
        assert (error.kind, error.attempts, len(server.batches)) == ("batch_expired", 3, 3)
        assert spent(ask.folder) == (0, 0, 0)


def test_a_batch_that_is_refused_says_why_and_costs_nothing(ask):
    with batch_server(lambda asked: "fine") as server:
        error = {"code": "model_not_found", "message": "The provided model 'm' is not supported.", "line": 1}
        server.fate = lambda number: Fate("failed", errors=(error,))
        [failed], _ = ask(agent(server, **PRICES), request(), budget=9.0)
        assert "batch batch_0 was refused: model_not_found: The provided model 'm' is not supported. (line 1)" in str(
            failed
        )
        assert len(server.batches) == 1
        assert spent(ask.folder) == (0, 0, 0)


def test_a_batch_too_large_for_the_tokens_that_may_wait_is_sent_in_parts(ask):
    with batch_server(lambda asked: "fine") as server:
        error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m."}
        server.fate = lambda number: Fate("failed", errors=(error,)) if number == 0 else Fate()
        replies, _ = ask(agent(server), *(request(f"q {number}") for number in range(8)))
        assert [reply.text for reply in replies] == ["fine"] * 8
        assert [len(batch.lines) for batch in server.batches] == [8, 4, 4]


@pytest.mark.parametrize(("limit", "most"), [("MOST_REQUESTS", 3), ("MOST_BYTES", 600)])
def test_a_file_holds_no_more_than_a_provider_takes(ask, monkeypatch, limit, most):
    monkeypatch.setattr(batches, limit, most)
    with batch_server(lambda asked: "fine") as server:
        replies, _ = ask(agent(server), *(request(f"q {number}") for number in range(8)))
        assert [reply.text for reply in replies] == ["fine"] * 8
        assert sorted(len(batch.lines) for batch in server.batches) == [2, 3, 3]


def test_the_worst_case_is_reserved_and_what_the_budget_does_not_cover_waits_for_what_comes_back(ask):
    with batch_server(lambda asked: "fine") as server:
        config = agent(server, **PRICES)
        # the worst case of one is (278 * 1e-3 + 9 * 1e-2) / 2 USD, what it costs 0.0055
        replies, _ = ask(config, *(request(f"q {number}") for number in range(5)), budget=0.5)
        assert [reply.text for reply in replies] == ["fine"] * 5
        assert [len(batch.lines) for batch in server.batches] == [2, 2, 1]
    with batch_server(lambda asked: "fine") as server:
        errors, _ = ask(agent(server, **PRICES), *(request(f"r {number}") for number in range(3)), budget=0.1)
        assert all(isinstance(error, BudgetReached) for error in errors)
        assert server.batches == []


@pytest.mark.parametrize("missing", ["file", "batch"])
def test_a_server_without_batches_ends_in_one_line_and_live_goes_on_from_there(ask, missing):
    with batch_server(lambda asked: "fine") as server:
        server.without = {missing, "list"}
        [error], _ = ask(agent(server, **PRICES), request(), budget=9.0)
        assert isinstance(error, AgentDown)
        assert re.search(r"agent a: its server has no batches.*set agents.a.mode: live", str(error))
        assert "\n" not in str(error)
        assert spent(ask.folder) == (0, 0, 0)
        [reply], _ = ask(agent(server, mode="live", **PRICES), request(), budget=9.0)
        assert reply.text == "fine"


def test_a_rejected_key_ends_the_run_in_one_line(ask, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-wrong-0123456789abcdef")
    with batch_server(lambda asked: "fine") as server:
        monkeypatch.setattr(
            server.RequestHandlerClass,
            "_answer",
            lambda self, call, work: self._send(401, b'{"error": {"message": "no: sk-wrong-0123456789abcdef"}}', {}),
        )
        [error], _ = ask(agent(server, api_key_env="SOME_KEY"), request())
        assert "put a valid key into SOME_KEY" in str(error)
        assert "sk-wrong" not in str(error)


def test_two_lakes_that_share_a_journal_share_a_batch(ask):
    with batch_server(lambda asked: "fine") as server:
        server.fate = lambda number: Fate(after_s=0.3, looks=0)
        config = agent(server, **PRICES)

        async def both():
            chats = [AgentChat({"a": config}, SqliteJournal(ask.folder, lake), 9.0, quickly) for lake in ("one", "two")]
            async with contextlib.AsyncExitStack() as stack:
                for chat in chats:
                    await stack.enter_async_context(contextlib.aclosing(chat))
                return await asyncio.gather(*(chat.complete(request()) for chat in chats))

        replies = asyncio.run(both())
        assert [reply.text for reply in replies] == ["fine", "fine"]
        assert sorted(reply.booked for reply in replies) == [False, True]
        assert len(server.batches) == 1
        assert spent(ask.folder, "one")[0] + spent(ask.folder, "two")[0] == 1


def stopped_while(ask, server, config, event, *requests):
    """Ask, and stop once the server has heard ``event``, before it answers."""
    heard, told = asyncio.Event(), []

    async def until():
        loop = asyncio.get_running_loop()
        server.meanwhile = lambda call: loop.call_soon_threadsafe(heard.set) if call == event else None
        chat = AgentChat({"a": config}, SqliteJournal(ask.folder, "lake"), 9.0, quickly, tell=told.append)
        asking = [asyncio.ensure_future(chat.complete(one)) for one in requests]
        await heard.wait()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await chat.aclose()

    asyncio.run(until())
    server.meanwhile = lambda call: None
    return told


@pytest.mark.parametrize("event", ["file", "batch", "look"])
@pytest.mark.parametrize("mode", ["batch", "live"])
def test_a_batch_that_was_left_is_waited_for_by_the_next_run_even_one_that_asks_live(ask, event, mode):
    with batch_server(lambda asked: "fine") as server:
        server.fate = lambda number: Fate(looks=2)
        requests = [request(f"q {number}") for number in range(4)]
        left = stopped_while(ask, server, agent(server, **PRICES), event, *requests)
        if event == "look":
            assert left[-1] == "agent a: batch batch_0 stays with its server; the next run goes on with it"
        replies, told = ask(agent(server, mode=mode, **PRICES), *requests, budget=9.0)
        assert [reply.text for reply in replies] == ["fine"] * 4
        assert len(server.batches) == 1
        assert server.requests == []
        assert spent(ask.folder) == (4, pytest.approx(4 * (2e-3 + 1e-2) / 2), 0)
        assert any("going on with batch batch_0" in text for text in told)


@pytest.mark.parametrize("state", ["written", "uploaded", "created", "created, elsewhere marked"])
def test_whatever_moment_a_process_was_killed_at_its_requests_are_sent_once(ask, monkeypatch, state):
    monkeypatch.setattr(batches, "UNSURE_S", 0.3)
    with batch_server(lambda asked: "fine") as server:
        config, asked = agent(server, **PRICES), [request(f"q {number}") for number in range(3)]
        ask(config, *asked, request("other"), budget=9.0)  # for a file of the very lines
        [old] = server.batches
        server.batches.clear()
        keys = [request_key(one, config) for one in asked]
        with contextlib.closing(sqlite3.connect(ask.folder / FILE)) as db, db:
            db.execute("DELETE FROM reply WHERE key IN (?, ?, ?)", keys)
        rows = [
            Sent(key, "lake", "a", "respond", one.purpose, "t", 0, {}, 3, 300, 1, worst=10**11)
            for key, one in zip(keys, asked, strict=True)
        ]
        dead = f"{socket.gethostname()} 999999999 1.00"

        async def begin(journal):
            begun = await journal.begin_batch("marker", "a", dead, rows, 9 * 10**12)
            assert begun.taken == keys
            if state != "written":
                await journal.uploaded(begun.batch, old.file)

        run(ask.folder, begin)
        if state.startswith("created"):
            metadata = {} if "elsewhere" in state else {"star_pipeline": "marker"}
            server.create({"input_file_id": old.file, "metadata": metadata})
            server.files["file_9"] = b""
            for _ in range(5):
                server.create({"input_file_id": "file_9"})
        replies, told = ask(config, *asked, budget=9.0)
        assert [reply.text for reply in replies] == ["fine"] * 3
        assert len([batch for batch in server.batches if batch.lines]) == 1
        assert any("going on with batch batch_0" in text for text in told) == state.startswith("created")
        assert spent(ask.folder)[2] == 0
        assert (
            len({line["custom_id"] for batch in server.batches for line in batch.lines} & {key.hex() for key in keys})
            == 3
        )


def test_doctor_tells_a_server_without_batches(monkeypatch):
    monkeypatch.delenv("HOSTED_VLLM_API_KEY", raising=False)
    with batch_server(lambda asked: "fine") as server:
        assert describe_endpoint(agent(server))[0]
        server.without = {"list"}
        assert describe_endpoint(agent(server)) == (False, "has no batches (HTTP 404 at /batches); set mode: live")
        assert describe_endpoint(agent(server, mode="live"))[0]


@pytest.mark.parametrize(
    ("changes", "share"),
    [({}, 0.5), ({"batch_discount": 0.25}, 0.75), ({"batch_discount": 0.0}, 1.0), ({"mode": "live"}, 1.0)],
)
def test_what_a_batch_costs(changes, share):
    for model in ("openai/gpt-4o-mini", "azure/gpt-4o-mini", "openai/nobody-knows-it"):
        own = {} if "gpt" in model else {"input_cost_per_token": 2e-6, "output_cost_per_token": 4e-6}
        live = price(AgentConfig(model=model, **own))
        found = price(AgentConfig(model=model, **{"mode": "batch", **own, **changes}))
        assert found == Price(pytest.approx(live.prompt * share), pytest.approx(live.completion * share))
