"""An agent out of reach: first one probe at a time, then the run stops with one line, instead of failing ten thousand times."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from star_pipeline.adapters.llm.failures import LOADING, Failure, remedy
from star_pipeline.adapters.llm.limits import AdaptiveSlots
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import AgentDown

_OUTAGE = {"connection", "timeout", "unavailable", "server_error", "malformed_reply"}
"""Tries that fail like this may fail because the server is gone, whatever was asked."""
_REFUSED_FOR_GOOD = {
    "authentication": 1,
    "permission": 1,
    "quota": 1,
    "redirected": 1,
    "cannot_load": 1,
    "no_logprobs": 1,
    "connection": 2,
    "not_found": 3,
}
"""How many requests may fail for good in this way before an agent that has never answered counts as dead."""
_LATER = 5
"""The same for an agent that has answered, and its requests in a row."""
_TIMEOUTS = 2
_FEWEST, _MOST = 5, 10
_LONGEST_PAUSE_S = 5.0
_LONGEST_LOADING_S = 1800.0
"""A server that has not loaded its model by then, and by ``patience_s``, is not waited for."""
_LONGEST_WISH_S, _CENTURY_S = 300.0, 100 * 365 * 86400.0
"""A server that asks to be left alone for longer than this, and than ``patience_s``, is not waited for."""


class Breaker:
    """One agent's, in whatever event loop. Suspect after 5 to 10 tries failed in a row, and dead once nothing was answered for
    ``patience_s`` besides.

    What concerns one request (bad request, too long, filtered) never counts; nor does a server that says 429: it lives.
    """

    def __init__(
        self,
        name: str,
        most_at_once: int,
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        agent: AgentConfig | None = None,
    ) -> None:
        self._name, self._agent = name, agent
        self._enough = min(_MOST, max(_FEWEST, most_at_once))
        self._patience_s = patience_s
        self._sleep, self._clock = sleep, clock
        self._answered = False
        self._failed_tries = 0
        self._refused_requests = 0
        self._since = 0.0
        self._pause_s = 0.0
        self._loading_since: float | None = None
        self._turn = AdaptiveSlots(1, False, clock)
        self._given_up: AgentDown | None = None
        self.answered_before = False
        """In another process: the few requests that a run has left may be those that always fail."""

    def try_anew(self) -> None:
        """A new stage begins: an agent that was given up gets another chance."""
        if self._given_up:
            self._given_up = None
            self._alive()

    @property
    def suspect(self) -> bool:
        return self._failed_tries >= self._enough

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """May send now; while the agent is suspect one try at a time, which is told True: such a probe is no try of its request."""
        if not self.suspect:
            yield False
            return
        await self._turn.acquire()
        try:
            if self.suspect:
                self._pause_s = min(max(2 * self._pause_s, 0.5), _LONGEST_PAUSE_S)
                await self._sleep(self._pause_s)
                yield True
                return
        finally:
            self._turn.release()
        yield False

    def answered(self) -> None:
        self._answered, self._loading_since = True, None
        self._alive()

    def failed(self, failure: Failure, began: float) -> None:
        """A try that was sent at ``began`` failed. Raises AgentDown."""
        wish_s = failure.retry_after or 0.0
        if wish_s > max(_LONGEST_WISH_S, self._patience_s):
            raise self._not_now(wish_s, failure)
        if failure.kind == LOADING:
            self._loading_since = began if self._loading_since is None else self._loading_since
            loading_s = self._clock() - self._loading_since
            if loading_s >= max(_LONGEST_LOADING_S, self._patience_s):
                raise self._down(f"it has been loading its model for {loading_s / 60:.0f} min", failure)
        if failure.kind not in _OUTAGE:
            if failure.kind not in _REFUSED_FOR_GOOD:
                self._alive()
            return
        self._since = min(self._since, began) if self._failed_tries else began
        self._failed_tries += 1
        silent_s = self._clock() - self._since
        never = not self._answered and failure.kind == "timeout" and self._failed_tries >= _TIMEOUTS
        if (self.suspect or never) and silent_s >= self._patience_s:
            raise self._down(f"{self._failed_tries} tries in {silent_s:.0f} s failed, none was answered", failure)

    def gave_up(self, failure: Failure) -> None:
        """A request failed for good. Raises AgentDown."""
        if failure.kind not in _REFUSED_FOR_GOOD:
            return
        self._refused_requests += 1
        answered = self._answered or (self.answered_before and failure.kind in _OUTAGE)
        if self._refused_requests >= (_LATER if answered else _REFUSED_FOR_GOOD[failure.kind]):
            times = f"its last {self._refused_requests} requests failed" if answered else "it has not answered once"
            raise self._down(times, failure)

    def _alive(self) -> None:
        self._failed_tries = self._refused_requests = 0
        self._pause_s = 0.0

    def _down(self, what: str, failure: Failure) -> AgentDown:
        self._given_up = AgentDown(
            f"agent {self._name}: {what} ({failure.kind}): {failure}; {remedy(failure.kind, self._agent)} (see star-pipeline "
            "doctor), then run again: what was answered stays"
        )
        return self._given_up

    def _not_now(self, wish_s: float, failure: Failure) -> AgentDown:
        long = f"{wish_s / 3600:,.1f} h" if wish_s >= 2 * 3600 else f"{wish_s / 60:,.0f} min"
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + min(wish_s, _CENTURY_S)))
        self._given_up = AgentDown(
            f"agent {self._name}: it asks to be left alone for {long} ({failure.kind}): {failure}; run again after {at}, or let "
            "another agent do its work: what was answered stays"
        )
        return self._given_up
