"""What is known of each agent's server, for as long as the process lives: limits, whether it lives, what it refuses.

Stages and shards share it: a minute does not begin anew with a stage. It belongs to no event loop.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from star_pipeline.adapters.llm.breaker import Breaker
from star_pipeline.adapters.llm.limits import Gate, Waiter
from star_pipeline.adapters.llm.request_forms import Adaptation
from star_pipeline.config.models import AgentConfig


@dataclass(frozen=True)
class Server:
    """One agent's server, under the agent's limits."""

    gate: Gate
    breaker: Breaker
    adaptation: Adaptation = field(default_factory=Adaptation)


class Servers:
    """The servers by the agents that speak to them; an agent of other limits, or at another address, is another one."""

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Waiter, float], Awaitable[None]] | None = None,
    ) -> None:
        self.sleep, self.clock, self._pause = sleep, clock, pause
        self._known: dict[tuple[object, ...], Server] = {}
        self.share = 1
        """Of how many processes that ask at the same time this is one: each takes its part of the limits."""
        self._guard = threading.Lock()

    def of(self, name: str, agent: AgentConfig) -> Server:
        """The server of an agent; one that was given up is given another chance."""
        agent = _part_of(agent, self.share)
        limits = (agent.max_concurrency, agent.requests_per_minute, agent.tokens_per_minute, agent.adaptive_concurrency)
        key = (name, agent.model, agent.api_base, agent.api_key_env, agent.patience_s, *limits)
        with self._guard:
            if key not in self._known:
                breaker = Breaker(name, agent.max_concurrency, agent.patience_s, self.sleep, self.clock, agent)
                self._known[key] = Server(Gate(agent, self.clock, self._pause), breaker)
            server = self._known[key]
        server.breaker.try_anew()
        return server


def _part_of(agent: AgentConfig, share: int) -> AgentConfig:
    names = ("max_concurrency", "requests_per_minute", "tokens_per_minute")
    limits = {name: limit for name in names if (limit := getattr(agent, name))}
    if share == 1:
        return agent
    return agent.model_copy(update={name: max(1, limit // share) for name, limit in limits.items()})


OF_THIS_PROCESS = Servers()
