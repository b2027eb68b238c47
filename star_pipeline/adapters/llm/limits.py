"""An agent's limits: requests in flight, requests and tokens a minute. They queue and never reject."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiolimiter

from star_pipeline.config.models import AgentConfig

_FEWEST_AT_FIRST = 8
_CUT = 0.7
_FEWEST_A_ROUND = 8
_MUCH_SLOWER, _NO_MORE = 2.0, 1.05
_SLOW_ROUNDS = 2
_CONGESTION = {"rate_limit", "unavailable", "timeout"}
_UNKNOWN_TOKENS = 512


class AdaptiveSlots:
    """At most ``most`` requests in flight; with ``adaptive`` fewer where the server cannot take as many (AIMD).

    It begins with a quarter and doubles each round of replies until ``most`` or the first sign of congestion; from there on one
    more a round (additive increase). Each sign cuts to 0.7 (multiplicative decrease), once for the requests sent before it.
    Signs are 429, 503 and timeouts, and two rounds of replies that took twice as long as the fastest round, while no more of
    them came a second than with fewer in flight: a server that batches answers more slowly too, but more.
    """

    def __init__(self, most: int, adaptive: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._adaptive, self._clock = most, adaptive, clock
        self.limit = float(min(most, max(_FEWEST_AT_FIRST, most // 4)) if adaptive else most)
        self.in_flight = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._doubling = True
        self._last_cut = -float("inf")
        self._fastest_s = float("inf")
        self._slow_rounds = 0
        self._best_rate, self._best_limit = 0.0, self.limit
        self._begin_round()

    async def acquire(self) -> None:
        if self.in_flight < int(self.limit) and not self._queue:
            self.in_flight += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release()
            raise

    def release(self) -> None:
        self.in_flight -= 1
        self._admit()

    def answered(self, latency_s: float) -> None:
        """A reply came, in ``latency_s`` seconds."""
        if not (self._adaptive and self._queue):
            self._begin_round()  # not all slots are wanted: nothing to be learnt
            return
        if self.limit < self._most:
            self.limit = min(self._most, self.limit + (1.0 if self._doubling else 1.0 / self.limit))
        self._replies += 1
        self._seconds += latency_s
        if self._replies >= max(_FEWEST_A_ROUND, int(self._round_limit)):
            self._end_round()
        self._admit()

    def congested(self, began: float) -> None:
        """The server showed that it is overloaded, on a request that was sent at ``began``."""
        self._doubling = False
        if self._adaptive and began >= self._last_cut:
            self._last_cut = self._clock()
            self.limit = max(1.0, self.limit * _CUT)
            self._begin_round()

    def _end_round(self) -> None:
        mean_s, rate = self._seconds / self._replies, self._replies / max(self._clock() - self._round_began, 1e-9)
        self._fastest_s = min(self._fastest_s, mean_s)
        more = rate > self._best_rate * _NO_MORE
        slow = not more and self._round_limit > self._best_limit and mean_s > self._fastest_s * _MUCH_SLOWER
        self._slow_rounds = self._slow_rounds + 1 if slow else 0
        if self._slow_rounds >= _SLOW_ROUNDS:
            self._slow_rounds = 0
            self.congested(self._round_began)
        if more:
            self._best_rate, self._best_limit = rate, self._round_limit
        self._begin_round()

    def _begin_round(self) -> None:
        self._replies, self._seconds, self._round_began, self._round_limit = 0, 0.0, self._clock(), self.limit

    def _admit(self) -> None:
        while self._queue and self.in_flight < int(self.limit):
            future = self._queue.popleft()
            if not future.done():
                self.in_flight += 1
                future.set_result(None)


class TokenWindow:
    """At most ``most`` tokens in any ``period_s`` seconds, by the estimates until the replies tell better."""

    def __init__(self, most: int, period_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._period_s, self._clock = most, period_s, clock
        self._sent: deque[list[float]] = deque()
        self._used = 0.0
        self._turn = asyncio.Lock()
        self._corrected = asyncio.Event()

    async def acquire(self, tokens: int) -> list[float]:
        """Wait for room for ``tokens``, first come first served; returns the entry to correct. More than fits counts as all."""
        async with self._turn:
            while self._forget() + min(tokens, self._most) > self._most:
                self._corrected.clear()
                left_s = self._sent[0][0] + self._period_s - self._clock()
                try:
                    await asyncio.wait_for(self._corrected.wait(), max(left_s, 0.001))
                except TimeoutError:
                    continue
            entry = [self._clock(), float(min(tokens, self._most))]
            self._sent.append(entry)
            self._used += entry[1]
            return entry

    def correct(self, entry: list[float], tokens: int) -> None:
        """What the request really took."""
        if self._clock() - entry[0] < self._period_s:
            self._used += tokens - entry[1]
            entry[1] = tokens
            self._corrected.set()

    def _forget(self) -> float:
        now = self._clock()
        while self._sent and now - self._sent[0][0] >= self._period_s:
            self._used -= self._sent.popleft()[1]
        return self._used


class Pass:
    """Leave to send one request; told how it went."""

    def __init__(self, gate: "Gate", entry: list[float] | None) -> None:
        self._gate, self._entry = gate, entry
        self.began = gate.clock()

    def answered(self, latency_s: float, prompt_tokens: int, completion_tokens: int) -> None:
        self._gate.slots.answered(latency_s)
        self._gate.seen(completion_tokens)
        self._correct(prompt_tokens + completion_tokens)

    def failed(self, kind: str) -> None:
        if kind in _CONGESTION:
            self._gate.slots.congested(self.began)

    def _correct(self, tokens: int) -> None:
        if self._entry and self._gate.window and tokens:
            self._gate.window.correct(self._entry, tokens)


class Gate:
    """All limits of one agent."""

    def __init__(self, agent: AgentConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.slots = AdaptiveSlots(agent.max_concurrency, agent.adaptive_concurrency, clock)
        self.window = TokenWindow(agent.tokens_per_minute, clock=clock) if agent.tokens_per_minute else None
        self._rate = aiolimiter.AsyncLimiter(1, 60 / agent.requests_per_minute) if agent.requests_per_minute else None
        self._replies, self._tokens = 0, 0

    @asynccontextmanager
    async def enter(self, prompt_bytes: int, max_tokens: int | None) -> AsyncIterator[Pass]:
        """Wait for a slot, then for its turn in the minute."""
        await self.slots.acquire()
        try:
            entry = await self.window.acquire(prompt_bytes // 4 + self._expected(max_tokens)) if self.window else None
            if self._rate:
                await self._rate.acquire()
            yield Pass(self, entry)
        finally:
            self.slots.release()

    def seen(self, completion_tokens: int) -> None:
        self._replies += 1
        self._tokens += completion_tokens

    def _expected(self, max_tokens: int | None) -> int:
        """Providers count ``max_tokens`` until the reply is there; without it, the mean so far is the best guess."""
        return max_tokens or (self._tokens // self._replies if self._replies else _UNKNOWN_TOKENS)
