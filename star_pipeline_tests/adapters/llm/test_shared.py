"""Asking ahead: one chat model for who works ahead and for the steps, against a real server."""

import asyncio
import contextlib
import threading
import time
from contextlib import contextmanager

import pytest

from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.llm.shared import AheadChat, SharedChat, StepChat
from star_pipeline.core.errors import AgentDown, BudgetReached, CallError
from star_pipeline_tests.adapters.llm.test_chat import agent, request
from star_pipeline_tests.llm_server import Reply, chat_server

TOO_LONG = Reply(status=400, body=b'{"error": {"message": "maximum context length is 8 tokens", "code": 400}}')


@contextmanager
def shared(folder, budget=None, **agents):
    found = SharedChat(
        lambda: AgentChat(agents, SqliteJournal(folder, "lake"), budget),
        lambda asked: request_key(asked, agents[asked.agent]),
        lambda name: agents[name].max_concurrency,
    )
    try:
        yield found
    finally:
        found.close()


def ahead(chat, rank, *requests):
    """The outcomes, once all are there."""

    async def all_of_them():
        asks = AheadChat(chat, rank)
        return await asyncio.gather(*(asks.complete(one) for one in requests), return_exceptions=True)

    return chat.start(all_of_them())


def step(chat, *requests):
    async def all_of_them():
        async with contextlib.aclosing(StepChat(chat)) as model:
            return await asyncio.gather(*(model.complete(one) for one in requests), return_exceptions=True)

    return asyncio.run(all_of_them())


def test_there_is_room_when_nothing_of_a_shard_or_of_earlier_ones_waits_for_its_turn(tmp_path):
    released = threading.Event()

    def script(asked):
        released.wait(120)
        return "words"

    async def room():
        while len(server.requests) < 1:
            await asyncio.sleep(0.01)
        return [AheadChat(chat, place).has_room() for place in (1, 2, 3)]

    with chat_server(script) as server, shared(tmp_path, a=agent(server, max_concurrency=1)) as chat:
        assert AheadChat(chat, 1).has_room()
        asked = ahead(chat, 2, *(request(purpose=f"{n}", sample=n) for n in range(9)))
        found = chat.start(room()).result()
        released.set()
        asked.result()
        assert (found, AheadChat(chat, 2).has_room()) == ([True, False, False], True)


def test_what_was_asked_ahead_is_not_asked_again_and_is_booked_on_the_first_step_that_needs_it(tmp_path):
    with chat_server(lambda asked: "words") as server, shared(tmp_path, a=agent(server)) as chat:
        later, earlier = request(purpose="shard 2"), request(purpose="shard 1")
        ahead(chat, 2, later).result()
        [first] = step(chat, earlier)
        [second] = step(chat, later)
        assert (first.booked, second.booked, len(server.requests)) == (True, False, 1)
        assert step(chat, earlier)[0].booked
    # also once the process is another one
    with chat_server(lambda asked: "words") as server, shared(tmp_path, a=agent(server)) as chat:
        [third] = step(chat, request("else", purpose="shard 3"))
        assert third.booked


def test_a_reply_that_was_asked_ahead_of_a_kill_is_booked_by_the_next_process(tmp_path):
    with chat_server(lambda asked: "words") as server:
        with shared(tmp_path, a=agent(server)) as chat:
            ahead(chat, 1, request(purpose="x")).result()

        async def alone():
            async with contextlib.aclosing(AgentChat({"a": agent(server)}, SqliteJournal(tmp_path, "lake"))) as model:
                return [await model.complete(request(purpose=name)) for name in ("x", "y")]

        first, second = asyncio.run(alone())
        assert (first.booked, second.booked, len(server.requests)) == (True, False, 1)


def test_a_step_takes_what_is_on_its_way(tmp_path):
    go = threading.Event()
    with chat_server(lambda asked: go.wait(120) and "words") as server, shared(tmp_path, a=agent(server)) as chat:
        pending = ahead(chat, 1, request(purpose="x"))
        threading.Timer(0.3, go.set).start()
        [reply] = step(chat, request(purpose="x"))
        assert (reply.text, reply.booked, len(server.requests)) == ("words", True, 1)
        assert pending.result()[0].text == "words"


def test_a_failure_ahead_is_handed_to_the_step_that_needs_it_with_its_tries_and_to_no_later_one(tmp_path):
    replies = iter(["fine", TOO_LONG, TOO_LONG])
    with chat_server(lambda asked: next(replies)) as server, shared(tmp_path, a=agent(server)) as chat:
        step(chat, request("other"))
        [early] = ahead(chat, 1, request()).result()
        [again] = ahead(chat, 2, request()).result()
        assert isinstance(early, CallError)
        assert isinstance(again, CallError)
        first, beside = step(chat, request(), request())
        assert (first.kind, first.attempts, beside.attempts, len(server.requests)) == ("context_too_long", 1, 0, 2)
        [later] = step(chat, request())
        assert (later.attempts, len(server.requests)) == (1, 3)


def test_an_agent_that_is_down_ends_asking_ahead_and_not_the_step_that_needs_another_one(tmp_path):
    def script(asked):
        return Reply(status=401) if asked["model"] == "down" else "fine"

    with chat_server(script) as server:
        agents = {"a": agent(server), "b": agent(server, model="hosted_vllm/down")}
        with shared(tmp_path, **agents) as chat:
            [error] = ahead(chat, 1, request(agent="b")).result()
            assert isinstance(error, AgentDown)
            assert step(chat, request())[0].text == "fine"
            [own] = step(chat, request(agent="b"))
            assert isinstance(own, AgentDown)
            [ended] = step(chat, request("more"))
            assert isinstance(ended, AgentDown), "what a step has met ends the run"


def test_a_budget_that_is_used_up_ahead_is_met_by_the_step_that_needs_money(tmp_path):
    price = {"input_cost_per_token": 0.0, "output_cost_per_token": 1.0, "params": {"max_tokens": 4}}
    with chat_server(lambda asked: "w w w w") as server, shared(tmp_path, 9.0, a=agent(server, **price)) as chat:
        paid = ahead(chat, 1, request("1"), request("2")).result()
        assert [reply.cost_usd for reply in paid] == [4.0, 4.0]
        [error] = ahead(chat, 1, request("3")).result()
        assert isinstance(error, BudgetReached)
        assert step(chat, request("1"))[0].text == "w w w w"
        [error] = step(chat, request("3"))
        assert isinstance(error, BudgetReached)
        assert len(server.requests) == 2


def test_of_what_waits_the_earliest_shards_requests_go_first_and_what_is_answered_waits_for_nobody(tmp_path):
    go = threading.Event()
    with (
        chat_server(lambda asked: go.wait(120) and "x") as server,
        shared(tmp_path, a=agent(server, max_concurrency=1)) as chat,
    ):
        go.set()
        ahead(chat, 0, request("known")).result()
        go.clear()
        held = ahead(chat, 9, *(request(f"held {n}") for n in range(4)))
        while server.active < 1:  # one at a time: of two that are sent together either may arrive first
            time.sleep(0.005)
        third, second = (ahead(chat, rank, *(request(f"{rank}-{n}") for n in range(3))) for rank in (3, 2))
        assert ahead(chat, 9, request("known")).result()[0].text == "x"
        go.set()
        for waiting in (held, second, third):
            waiting.result()
        asked = [one["messages"][0]["content"] for one in server.requests if "-" in one["messages"][0]["content"]]
        assert [text[0] for text in asked] == ["2"] * 3 + ["3"] * 3


def test_what_is_withdrawn_is_not_sent(tmp_path):
    go = threading.Event()
    with (
        chat_server(lambda asked: go.wait(120) and "x") as server,
        shared(tmp_path, a=agent(server, max_concurrency=2)) as chat,
    ):
        asked = ahead(chat, 1, *(request(f"{n}") for n in range(20)))
        while server.active < 2:
            time.sleep(0.005)
        chat.loop.call_soon_threadsafe(chat.halt)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            raise next(one for one in asked.result() if isinstance(one, BaseException))
        # two on their way, two that waited for the agent's own limit
        assert len(server.requests) <= 4
