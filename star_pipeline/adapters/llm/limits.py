"""An agent's limits: requests in flight, requests and tokens a minute. They queue and never reject.

They belong to no event loop: stages that run one after the other, or at the same time in other threads, share them.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from star_pipeline.config.models import AgentConfig

_FEWEST_AT_FIRST = 8
_CUT = 0.7
_FEWEST_A_ROUND = 8
_MUCH_SLOWER, _NO_MORE = 2.0, 1.05
_SLOW_ROUNDS = 2
_CONGESTION = {"rate_limit", "unavailable", "timeout"}
_UNKNOWN_TOKENS = 512
_MINUTE_S = 60.0
Waiter = asyncio.Future[None]


def wake(waiter: Waiter, lost: Callable[[], None] = lambda: None) -> None:
    """Let the waiter go on in its own event loop; ``lost`` is called where it waits no longer."""

    def now() -> None:
        if waiter.done():
            lost()
        else:
            waiter.set_result(None)

    loop = waiter.get_loop()
    if asyncio._get_running_loop() is loop:
        now()
        return
    try:
        loop.call_soon_threadsafe(now)
    except RuntimeError:  # its loop is closed
        lost()


async def pause(corrected: Waiter, seconds: float) -> None:
    """Until the waiter is woken, at most so many seconds."""
    await asyncio.wait({corrected}, timeout=seconds)


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
        self._queue: deque[Waiter] = deque()
        self._guard = threading.RLock()
        self._doubling = True
        self._last_cut = -float("inf")
        self._fastest_s = float("inf")
        self._slow_rounds = 0
        self._best_rate, self._best_limit = 0.0, self.limit
        self._begin_round()

    async def acquire(self) -> None:
        with self._guard:
            if self.in_flight < int(self.limit) and not self._queue:
                self.in_flight += 1
                return
            waiter: Waiter = asyncio.get_running_loop().create_future()
            self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            else:
                with self._guard, suppress(ValueError):
                    self._queue.remove(waiter)
            raise

    def release(self) -> None:
        with self._guard:
            self.in_flight -= 1
            self._admit()

    def answered(self, latency_s: float) -> None:
        """A reply came, in ``latency_s`` seconds."""
        with self._guard:
            self._learn(latency_s)

    def _learn(self, latency_s: float) -> None:
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
        with self._guard:
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
            waiter = self._queue.popleft()
            if not waiter.done():
                self.in_flight += 1
                wake(waiter, lost=self.release)


class TokenWindow:
    """At most ``most`` tokens in any ``period_s`` seconds, by the estimates until the replies tell better; ``apart_s`` seconds
    at least from one request to the next."""

    def __init__(
        self,
        most: float,
        period_s: float = _MINUTE_S,
        clock: Callable[[], float] = time.monotonic,
        apart_s: float = 0.0,
        pause: Callable[[Waiter, float], Awaitable[None]] = pause,
    ) -> None:
        self._most, self._period_s, self._clock, self._apart_s, self._pause = most, period_s, clock, apart_s, pause
        self._sent: deque[list[float]] = deque()
        self._used = 0.0
        self._next = -float("inf")
        self._guard = threading.Lock()
        self._turn = AdaptiveSlots(1, False, clock)
        self._corrected: Waiter | None = None

    async def acquire(self, tokens: int) -> list[float]:
        """Wait for room for ``tokens``, first come first served; returns the entry to correct. More than fits counts as all."""
        wanted = float(min(tokens, self._most))
        await self._turn.acquire()
        try:
            while True:
                with self._guard:
                    now = self._clock()
                    wait_s = self._wait_s(wanted, now)
                    if wait_s <= 0:
                        entry = [now, wanted]
                        self._sent.append(entry)
                        self._used += wanted
                        self._next = now + self._apart_s
                        return entry
                    corrected = self._corrected = asyncio.get_running_loop().create_future()
                await self._pause(corrected, wait_s)
        finally:
            self._turn.release()

    def correct(self, entry: list[float], tokens: int) -> None:
        """What the request really took."""
        with self._guard:
            if self._clock() - entry[0] < self._period_s:
                self._used += tokens - entry[1]
                entry[1] = tokens
                if self._corrected:
                    wake(self._corrected)
                    self._corrected = None

    def _wait_s(self, wanted: float, now: float) -> float:
        while self._sent and now - self._sent[0][0] >= self._period_s:
            self._used -= self._sent.popleft()[1]
        early_s = self._next - now
        if self._used + wanted <= self._most or not self._sent:
            return early_s
        return max(self._sent[0][0] + self._period_s - now, early_s, 0.001)


class Admission:
    """Leave to send one request; told how it went."""

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate
        self._entry: list[float] | None = None
        self.began = gate.clock()

    async def turn(self, prompt_bytes: int, max_tokens: int | None) -> None:
        """Wait for the request's turn in the minute: the last thing before it is sent, or the minute would be another."""
        if self._gate.window:
            self._entry = await self._gate.window.acquire(prompt_bytes // 4 + self._gate.expected(max_tokens))
        self.began = self._gate.clock()

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
    """All limits of one agent. Its minute is one of the real clock, unless ``pause`` goes with another ``clock``."""

    def __init__(
        self,
        agent: AgentConfig,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Waiter, float], Awaitable[None]] | None = None,
    ) -> None:
        self.clock = clock
        self.slots = AdaptiveSlots(agent.max_concurrency, agent.adaptive_concurrency, clock)
        self.window: TokenWindow | None = None
        if agent.tokens_per_minute or agent.requests_per_minute:
            apart_s = _MINUTE_S / agent.requests_per_minute if agent.requests_per_minute else 0.0
            timed = (clock, apart_s, pause) if pause else (time.monotonic, apart_s)
            self.window = TokenWindow(agent.tokens_per_minute or float("inf"), _MINUTE_S, *timed)
        self._replies, self._tokens = 0, 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Admission]:
        """Wait for a slot, and hold it."""
        await self.slots.acquire()
        try:
            yield Admission(self)
        finally:
            self.slots.release()

    def seen(self, completion_tokens: int) -> None:
        self._replies += 1
        self._tokens += completion_tokens

    def expected(self, max_tokens: int | None) -> int:
        """Providers count ``max_tokens`` until the reply is there; without it, the mean so far is the best guess."""
        return max_tokens or (self._tokens // self._replies if self._replies else _UNKNOWN_TOKENS)
