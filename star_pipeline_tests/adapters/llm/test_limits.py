"""Slots that adapt to the server, and tokens a minute."""

import asyncio
import contextlib
import threading
import time
from contextlib import asynccontextmanager

import pytest

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.adapters.llm.limits import AdaptiveSlots, Gate, TokenWindow
from star_pipeline.adapters.llm.servers import Servers
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import AgentDown
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message
from star_pipeline_tests.llm_server import chat_server


@asynccontextmanager
async def entered(gate, prompt_bytes, max_tokens):
    """As the chat model does: wait for a slot, then for the turn in the minute."""
    async with gate.slot() as leave:
        await leave.turn(prompt_bytes, max_tokens)
        yield leave


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def simulate(server, most=64, rounds=400, adaptive=True):
    """Replies come one after the other; ``server(in flight) -> seconds`` says how long each has taken. Returns the limits."""
    clock = Clock()
    slots = AdaptiveSlots(most, adaptive, clock)

    async def run():
        waiting = {asyncio.ensure_future(slots.acquire()) for _ in range(most * 3)}
        limits = []
        for _ in range(rounds):
            await asyncio.sleep(0)
            latency = server(slots.in_flight)
            clock.now += latency / max(slots.in_flight, 1)
            if latency == float("inf"):
                clock.now += 1
                slots.congested(clock.now)
            else:
                slots.answered(latency)
            slots.release()
            waiting.add(asyncio.ensure_future(slots.acquire()))
            limits.append(slots.limit)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return limits

    return asyncio.run(run())


def test_a_server_that_keeps_up_soon_gets_all_that_is_allowed():
    limits = simulate(lambda in_flight: 0.2)
    assert limits[0] < 20
    assert limits[60:] == [64.0] * 340


def test_a_server_that_batches_is_slower_with_more_and_still_gets_all():
    assert simulate(lambda in_flight: 0.2 * in_flight**0.5, rounds=1500)[-1] == 64


def test_a_server_that_only_queues_gets_less_than_allowed():
    limits = simulate(lambda in_flight: 0.02 * max(in_flight, 8), most=256, rounds=6000)
    assert max(limits) > 150
    assert max(limits[-2000:]) < 200
    assert min(limits) > 8


def test_throttling_cuts_once_a_round_and_grows_back_by_one_a_round():
    clock = Clock()
    slots = AdaptiveSlots(100, True, clock)
    slots.limit = 100.0
    clock.now = 5.0
    for began in (1.0, 2.0, 3.0):
        slots.congested(began)
    assert slots.limit == pytest.approx(70.0)
    slots.congested(6.0)
    assert slots.limit == pytest.approx(49.0)


def test_it_never_stops_altogether_and_a_fixed_limit_stays():
    assert min(simulate(lambda in_flight: float("inf"), rounds=50)) == 1.0
    assert set(simulate(lambda in_flight: float("inf"), rounds=50, adaptive=False)) == {64.0}


def test_slots_go_to_the_first_in_the_queue_and_a_cancelled_one_is_passed_over():
    async def run():
        slots = AdaptiveSlots(1, True)
        await slots.acquire()
        order = []

        async def wait(name):
            await slots.acquire()
            order.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        for _ in range(3):
            slots.release()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        tasks[1].cancel()  # has run: nothing to cancel
        assert order == ["b", "c"]
        assert slots.in_flight == 0

    asyncio.run(run())


def test_a_slot_given_to_one_that_was_cancelled_in_the_same_moment_is_not_lost():
    async def run():
        slots = AdaptiveSlots(1, True)
        await slots.acquire()
        task = asyncio.create_task(slots.acquire())
        await asyncio.sleep(0)
        slots.release()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert slots.in_flight == 0

    asyncio.run(run())


def test_no_window_of_a_minute_holds_more_tokens_than_allowed_and_all_get_through():
    period = 0.3

    async def run():
        window = TokenWindow(100, period)
        loop = asyncio.get_running_loop()
        sent = []

        async def ask(tokens):
            entry = await window.acquire(tokens)
            sent.append((entry[0], min(tokens, 100)))

        await asyncio.gather(*(ask(tokens) for tokens in [40, 40, 40, 90, 30, 500, 60]))
        assert len(sent) == 7
        assert loop.time() > 0
        return sent

    sent = asyncio.run(run())
    assert [tokens for _, tokens in sent] == [40, 40, 40, 90, 30, 100, 60]  # first come, first served
    for begin, _ in sent:
        assert sum(tokens for at, tokens in sent if begin <= at < begin + period) <= 100


def test_what_a_reply_did_not_take_is_free_for_the_next_at_once():
    async def run():
        window = TokenWindow(100, period_s=3600.0)
        entry = await window.acquire(90)
        waiting = asyncio.create_task(window.acquire(50))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        window.correct(entry, 20)
        await asyncio.wait_for(waiting, 60)

    asyncio.run(run())


def test_without_max_tokens_the_mean_so_far_is_the_estimate():
    async def run():
        gate = Gate(AgentConfig(model="m", tokens_per_minute=100_000))
        async with entered(gate, 400, None) as leave:
            assert leave._entry[1] == 100 + 512
            leave.answered(0.1, 90, 30)
            assert leave._entry[1] == 120
        async with entered(gate, 400, None) as leave:
            assert leave._entry[1] == 100 + 30
        async with entered(gate, 400, 64) as leave:
            assert leave._entry[1] == 164

    asyncio.run(run())


class Stages:
    """Stages one after the other, each with a chat and an event loop of its own, over one ``Servers`` and a clock that waiting moves."""

    def __init__(self, folder, agent):
        self.folder, self.agent, self.now, self.sent = folder, agent, 0.0, []
        self.servers = Servers(self.sleep, lambda: self.now, self.pause)

    async def sleep(self, seconds):
        self.now += seconds

    async def pause(self, corrected, seconds):
        self.now += seconds + 1e-6

    def stage(self, number, count):
        async def ask():
            journal = SqliteJournal(self.folder / str(number), "lake")
            chat = AgentChat({"a": self.agent}, journal, None, self.sleep, lambda: self.now, self.servers)
            async with contextlib.aclosing(chat):
                messages = [(Message("user", f"{number} {n} " + "x" * 88),) for n in range(count)]
                await asyncio.gather(*(chat.complete(ChatRequest("a", said, "t", "v")) for said in messages))

        asyncio.run(ask())


@pytest.mark.parametrize(("limit", "most"), [({"requests_per_minute": 6}, 6), ({"tokens_per_minute": 300}, 300)])
def test_no_minute_holds_more_than_allowed_over_the_border_of_stages(limit, most, tmp_path):
    def script(asked):
        stages.sent.append(stages.now)
        return "a b"

    with chat_server(script) as server:
        agent = AgentConfig(
            model="hosted_vllm/m", api_base=server.url, max_concurrency=1, params={"max_tokens": 25}, **limit
        )
        stages = Stages(tmp_path, agent)
        for number in range(3):
            stages.stage(number, 5)
    cost = 1 if "requests_per_minute" in limit else 5  # 3 tokens sent, 2 received; the estimate, 50, is corrected
    assert len(stages.sent) == 15
    for begin in stages.sent:
        assert sum(cost for at in stages.sent if begin <= at < begin + 60) <= most
    if "requests_per_minute" in limit:
        assert stages.now >= 14 * 10 - 1


def test_a_real_server_sees_the_minutes_pace_over_two_stages(tmp_path):
    times = []

    def script(asked):
        times.append(time.monotonic())
        return "x"

    with chat_server(script) as server:
        agent = AgentConfig(model="hosted_vllm/m", api_base=server.url, requests_per_minute=100)
        servers, began = Servers(), time.monotonic()

        async def stage(number):
            chat = AgentChat({"a": agent}, SqliteJournal(tmp_path / str(number), "lake"), servers=servers)
            async with contextlib.aclosing(chat):
                asked = [ChatRequest("a", (Message("user", f"{number} {n}"),), "t", "v") for n in range(2)]
                await asyncio.gather(*map(chat.complete, asked))

        asyncio.run(stage(0))
        asyncio.run(stage(1))
    assert len(times) == 4
    # from before the first: how long one takes on its way is nobody's promise
    assert all(at - began >= number * 0.6 for number, at in enumerate(sorted(times)))


def test_slots_and_minutes_are_shared_by_event_loops_that_run_at_the_same_time():
    gate = Gate(AgentConfig(model="m", max_concurrency=3, adaptive_concurrency=False, requests_per_minute=60_000))
    most = now = 0
    guard = threading.Lock()

    async def work():
        async def one():
            nonlocal most, now
            async with entered(gate, 4, 4):
                with guard:
                    now += 1
                    most = max(most, now)
                await asyncio.sleep(0.01)
                with guard:
                    now -= 1

        await asyncio.gather(*(one() for _ in range(40)))

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert 1 < most <= 3
    assert gate.slots.in_flight == 0


def test_what_was_learnt_of_a_server_outlives_a_stage_and_other_limits_are_another_server():
    servers = Servers()
    agent = AgentConfig(model="m", tokens_per_minute=10)
    assert servers.of("a", agent) is servers.of("a", agent.model_copy(update={"max_tries": 2}))
    others = ({"tokens_per_minute": 11}, {"api_base": "http://x/v1"}, {"model": "n"}, {"max_concurrency": 2})
    assert len({id(servers.of("a", agent.model_copy(update=change))) for change in ({}, *others)}) == 5


def test_an_agent_that_was_given_up_gets_another_chance_in_the_next_stage():
    servers = Servers(clock=lambda: 1000.0)
    agent = AgentConfig(model="m")
    breaker = servers.of("a", agent).breaker
    with pytest.raises(AgentDown):
        breaker.gave_up(Failure("quota", "spent", False))
    assert servers.of("a", agent).breaker is breaker
    breaker.failed(Failure("connection", "reset", True), 1000.0)
    assert not breaker.suspect


def test_several_processes_that_ask_at_once_part_the_limits():
    servers = Servers()
    agent = AgentConfig(model="openai/m", max_concurrency=8, requests_per_minute=90, adaptive_concurrency=False)
    servers.share = 3
    gate = servers.of("a", agent).gate
    assert gate.slots.limit == 2
    assert gate is servers.of("a", agent).gate
    servers.share = 1
    assert servers.of("a", agent).gate.slots.limit == 8
