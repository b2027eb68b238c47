"""Slots that adapt to the server, and tokens a minute."""

import asyncio

import pytest

from star_pipeline.adapters.llm.limits import AdaptiveSlots, Gate, TokenWindow
from star_pipeline.config.models import AgentConfig


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
        await asyncio.wait_for(waiting, 5)

    asyncio.run(run())


def test_without_max_tokens_the_mean_so_far_is_the_estimate():
    async def run():
        gate = Gate(AgentConfig(model="m", tokens_per_minute=100_000))
        async with gate.enter(400, None) as leave:
            assert leave._entry[1] == 100 + 512
            leave.answered(0.1, 90, 30)
            assert leave._entry[1] == 120
        async with gate.enter(400, None) as leave:
            assert leave._entry[1] == 100 + 30
        async with gate.enter(400, 64) as leave:
            assert leave._entry[1] == 164

    asyncio.run(run())
