"""When an agent counts as gone, and when it only had a bad moment."""

import asyncio

import pytest

from star_pipeline.adapters.llm.breaker import Breaker
from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.core.errors import AgentDown


class Endpoint:
    """A breaker with a clock that only sleeping moves."""

    def __init__(self, patience_s=30.0, most_at_once=16):
        self.now = 0.0
        self.breaker = Breaker("a", most_at_once, patience_s, self.sleep, lambda: self.now)

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)

    def fail(self, kind, times=1, began=None):
        for _ in range(times):
            self.breaker.failed(Failure(kind, "said so", True), self.now if began is None else began)


def test_a_dead_endpoint_is_probed_one_at_a_time_and_given_up_after_its_patience():
    async def run():
        end = Endpoint()
        at_once = most = probes = 0

        async def request():
            nonlocal at_once, most, probes
            while True:
                async with end.breaker.turn() as probing:
                    at_once += probing
                    most = max(most, at_once)
                    probes += probing
                    await asyncio.sleep(0)
                    at_once -= probing
                    end.fail("connection")

        results = await asyncio.gather(*(request() for _ in range(16)), return_exceptions=True)
        return results, most, probes, end.now

    results, most, probes, seconds = asyncio.run(run())
    assert {type(error) for error in results} == {AgentDown}
    assert all(words in str(results[0]) for words in ("agent a", "connection", "none was answered", "doctor"))
    assert most == 1
    assert probes < 40
    assert 30 <= seconds < 120


def test_an_endpoint_that_comes_back_in_time_goes_on_at_full_width():
    async def run():
        end = Endpoint()
        end.fail("unavailable", 12)
        assert end.breaker.suspect
        async with end.breaker.turn() as probing:
            assert probing
            end.breaker.answered()
        assert not end.breaker.suspect
        async with end.breaker.turn() as one, end.breaker.turn() as other:
            assert (one, other) == (False, False)

    asyncio.run(run())


def test_timeouts_count_from_when_they_were_sent():
    async def run():
        end = Endpoint()
        end.now = 120.0
        end.fail("timeout", began=0.0)
        with pytest.raises(AgentDown, match="2 tries in 120 s failed"):
            end.fail("timeout", began=0.0)
        living = Endpoint()
        living.breaker.answered()
        living.now = 120.0
        living.fail("timeout", 9, began=0.0)
        with pytest.raises(AgentDown):
            living.fail("timeout", began=0.0)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["bad_request", "context_too_long", "content_filter", "rate_limit", "unexpected"])
def test_what_concerns_one_request_or_proves_that_the_server_lives_never_trips_it(kind):
    async def run():
        end = Endpoint(patience_s=0)
        for _ in range(100):
            end.fail("server_error", 4)
            end.fail(kind)
            end.breaker.gave_up(Failure(kind, "said so", False))
        assert not end.breaker.suspect

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["authentication", "permission", "quota", "not_found"])
def test_a_key_that_stops_working_in_the_middle_stops_the_run_after_a_few_requests(kind):
    async def run():
        end = Endpoint()
        end.breaker.answered()
        failure = Failure(kind, "said so", False)
        for _ in range(4):
            end.breaker.gave_up(failure)
        end.breaker.answered()
        for _ in range(4):
            end.breaker.gave_up(failure)
        with pytest.raises(AgentDown, match="its last 5 requests failed"):
            end.breaker.gave_up(failure)

    asyncio.run(run())
