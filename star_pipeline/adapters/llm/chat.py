"""All agents of a configuration behind one door: what was answered is never asked again, what is asked keeps every limit."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from star_pipeline.adapters.backoff import wait_s
from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.adapters.llm.answers import Answer
from star_pipeline.adapters.llm.batches import Batches
from star_pipeline.adapters.llm.budget import Budget
from star_pipeline.adapters.llm.failures import LOADING, Failure
from star_pipeline.adapters.llm.limits import Admission
from star_pipeline.adapters.llm.prices import (
    FREE,
    Price,
    max_tokens,
    price,
    prompt_bound,
    prompt_bytes,
    require_bounds,
    worst_pico,
)
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.senders import Senders
from star_pipeline.adapters.llm.servers import Server, Servers
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import CallError, StarError
from star_pipeline.core.journal import AHEAD, PICO, Entry, Journal, Paid
from star_pipeline.core.ports import ChatReply, ChatRequest

_GRACE_S, _LONG_WAIT_S = 10.0, 30.0
_LOADING_WAIT_S = 5.0


@dataclass(frozen=True)
class _Agent:
    config: AgentConfig
    price: Price
    server: Server


class AgentChat:
    """The port's chat model, for one event loop: made in it, and closed in it.

    What ``servers`` know outlives it. ``tell`` is told, in a line, what a user should know: how a server is humoured, long waits.
    Raises ConfigError where a key is not set, or ``budget_usd`` is and an agent has no price or no ``max_tokens``.
    """

    def __init__(
        self,
        agents: Mapping[str, AgentConfig],
        journal: Journal,
        budget_usd: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        servers: Servers | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._senders = Senders(agents)
        if budget_usd is not None:
            require_bounds(agents)
        self._journal = journal
        self._budget = Budget(journal, budget_usd) if budget_usd is not None else None
        self._sleep, self._clock = sleep, clock
        servers = servers or Servers(sleep, clock)
        self._agents = {
            name: _Agent(agent, price(agent) or FREE, servers.of(name, agent)) for name, agent in agents.items()
        }
        for row in journal.spend():
            if row.agent in self._agents and row.replies:
                self._agents[row.agent].server.breaker.answered_before = True
        self._tell, self._told_of_waits, self._told_of_loading = tell, set[str](), set[str]()
        self._asked: dict[bytes, asyncio.Task[Entry]] = {}
        self._sending: set[asyncio.Task[Entry]] = set()
        self._stopped: StarError | None = None
        self._batches: Batches | None = None
        # an agent that is live by now may have asked before in a batch, which is paid
        if any(agent.mode == "batch" for agent in agents.values()) or journal.any_open():
            live = lambda: len(self._asked) - (self._batches.waiting if self._batches else 0)  # noqa: E731
            self._batches = Batches(agents, journal, self._budget, sleep, tell, live)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply from the journal, or from the agent, on disk by then. Raises CallError once it has failed for good, and
        what ends the run: AgentDown, BudgetReached, LakeError."""
        key = request_key(request, self._agents[request.agent].config)
        if key not in self._asked:
            try:
                known = await self._journal.find(key)
            except StarError as error:
                self._stopped = self._stopped or error
                raise
            if known:
                return self._booked(await self._claimed(key, known, request), request)
        task = self._asked.get(key)  # somebody else may have asked while the journal was looked into
        first = task is None
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._answer(key, request))
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            # another asker may need the reply, and it is paid: a caller that is cancelled does not take it along
            entry = await asyncio.shield(task)
        except CallError as error:
            raise CallError(error.kind, str(error), error.attempts if first else 0) from None
        return self._booked(await self._claimed(key, entry, request), request)

    async def is_answered(self, request: ChatRequest) -> bool:
        """Whether the reply is in the journal."""
        return await self._journal.find(request_key(request, self._agents[request.agent].config)) is not None

    async def aclose(self) -> None:
        """Let what is in flight arrive, for a few seconds, since it is paid; then close the journal."""
        self._stopped = self._stopped or StarError("the run was stopped")
        for task in set(self._asked.values()) - self._sending:
            task.cancel()
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=_GRACE_S)
            for task in late:
                task.cancel()
        if self._batches:
            await self._batches.aclose()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        await self._senders.aclose()
        await self._journal.aclose()

    def _forget(self, key: bytes, task: asyncio.Task[Entry]) -> None:
        self._asked.pop(key, None)
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting for it any more

    async def _claimed(self, key: bytes, entry: Entry, request: ChatRequest) -> Entry:
        """The reply, which is this request's to pay where it was asked ahead, and nobody has needed it yet."""
        mine = entry.lake == self._journal.lake and entry.purpose.startswith(AHEAD)
        if not mine or request.purpose.startswith(AHEAD):
            return entry
        return await self._journal.claim(key, request.purpose) or entry

    def _booked(self, entry: Entry, request: ChatRequest) -> ChatReply:
        """Booked on what it was paid for; the same on every rerun, since the journal remembers who asked first."""
        return ChatReply(
            text=entry.text,
            finish_reason=entry.finish_reason,
            prompt_tokens=entry.prompt_tokens,
            completion_tokens=entry.completion_tokens,
            cost_usd=entry.pico / PICO,
            latency_s=entry.latency_s,
            attempts=entry.attempts,
            booked=(entry.lake, entry.purpose) == (self._journal.lake, request.purpose),
            top_logprobs=entry.top_logprobs,
        )

    async def _answer(self, key: bytes, request: ChatRequest) -> Entry:
        """Send, again if the failure may pass, at most ``max_tries`` times; probes of a suspect agent do not count, nor do
        requests that are put in another way, nor does a server that still loads its model."""
        agent = self._agents[request.agent]
        if self._batches and (entry := await self._in_batches(self._batches, key, request, agent)):
            return entry
        counted = sent = 0
        tried: list[RequestForm] = []
        first: Failure | None = None
        while True:
            try:
                async with agent.server.gate.slot() as leave, agent.server.breaker.turn() as probing:
                    if sent == 0 and (
                        known := await self._journal.find(key)
                    ):  # another process may have asked meanwhile
                        return known
                    counted += not probing
                    tried = tried or [agent.server.adaptation.form]
                    while True:  # in its slot, or all that wait would be refused as well
                        sent += 1
                        try:
                            return await self._try(key, request, agent, leave, sent, tried[-1])
                        except Failure as error:
                            failure = error
                        leave.failed(failure.kind)
                        agent.server.breaker.failed(failure, leave.began)
                        other = agent.server.adaptation.another(request, agent.config, tried, failure)
                        if other is None:
                            break
                        first = first or failure
                        tried.append(other)
                    loading = failure.kind == LOADING
                    counted -= loading and not probing
                    if not failure.passing or (counted >= agent.config.max_tries and not loading):
                        failure = first or failure
                        agent.server.breaker.gave_up(failure)
                        agent.server.adaptation.refused(request.agent, request, agent.config, tried[0], failure)
                        raise CallError(failure.kind, str(failure), sent)
            except CallError:
                raise
            except StarError as error:
                if not request.purpose.startswith(AHEAD):  # who asks ahead stops by itself; the steps may not need it
                    self._stopped = self._stopped or error
                raise
            if loading:
                if request.agent not in self._told_of_loading:
                    self._told_of_loading.add(request.agent)
                    self._tell(
                        f"agent {request.agent}: its server is still loading its model; waiting until it has ({failure})"
                    )
                await self._sleep(max(_LOADING_WAIT_S, failure.retry_after or 0.0))
                continue
            seconds = wait_s(counted, failure.retry_after)
            if seconds >= _LONG_WAIT_S and request.agent not in self._told_of_waits:
                self._told_of_waits.add(request.agent)
                self._tell(f"agent {request.agent} asks to be asked again in {seconds:.0f} s; waiting ({failure})")
            await self._sleep(seconds)

    async def _in_batches(self, batches: Batches, key: bytes, request: ChatRequest, agent: _Agent) -> Entry | None:
        """The same for an agent that asks in batches; None for one that does not, and has not before."""
        may_send = agent.config.mode == "batch"
        counted = sent = 0
        tried = [agent.server.adaptation.form]
        first: Failure | None = None
        try:
            while True:
                self._go_on()
                counted, sent = counted + 1, sent + 1
                try:
                    entry = await batches.ask(key, request, tried[-1], sent, may_send)
                except Failure as error:
                    failure = error
                else:
                    if entry:
                        agent.server.breaker.answered()
                        for news in agent.server.adaptation.took(request.agent, request, agent.config, tried[-1]):
                            self._tell(news)
                    return entry
                if not may_send:
                    return None
                if other := agent.server.adaptation.another(request, agent.config, tried, failure):
                    first, counted = first or failure, counted - 1
                    tried.append(other)
                    continue
                if not failure.passing or counted >= agent.config.max_tries:
                    failure = first or failure
                    agent.server.breaker.gave_up(failure)
                    agent.server.adaptation.refused(request.agent, request, agent.config, tried[0], failure)
                    raise CallError(failure.kind, str(failure), sent)
                await self._sleep(wait_s(counted, failure.retry_after))
        except CallError:
            raise
        except StarError as error:
            self._stopped = self._stopped or error
            raise

    async def _try(
        self, key: bytes, request: ChatRequest, agent: _Agent, leave: Admission, sent: int, form: RequestForm
    ) -> Entry:
        """One try, from its reservation to its settlement. Raises Failure. Only while it waits for its turn may it be cancelled."""
        self._go_on()
        this = _this_task()
        try:
            if self._budget is None or agent.price == FREE:
                await self._turn(request, agent, leave)
                return await self._send(key, request, agent, leave, sent, form, None)
            self._sending.add(this)
            worst = worst_pico(request, agent.config, agent.price)
            async with self._budget.reserved(request.agent, request.stage, worst) as reservation:
                self._sending.discard(this)
                try:
                    await self._turn(request, agent, leave)
                except BaseException:
                    self._sending.add(this)
                    await self._budget.release(reservation)
                    raise
                return await self._send(key, request, agent, leave, sent, form, reservation)
        finally:
            self._sending.discard(this)

    async def _turn(self, request: ChatRequest, agent: _Agent, leave: Admission) -> None:
        """Wait for the request's turn in the minute. Raises what has ended the run meanwhile."""
        await leave.turn(prompt_bytes(request), max_tokens({**agent.config.params, **request.params}))
        self._go_on()
        self._sending.add(_this_task())

    async def _send(
        self,
        key: bytes,
        request: ChatRequest,
        agent: _Agent,
        leave: Admission,
        sent: int,
        form: RequestForm,
        reservation: int | None,
    ) -> Entry:
        answer = await self._senders.send(request, form)
        agent.server.breaker.answered()
        for news in agent.server.adaptation.took(request.agent, request, agent.config, form):
            self._tell(news)
        entry = self._entry(request, agent, answer, sent)
        leave.answered(answer.latency_s, entry.prompt_tokens, entry.completion_tokens)
        paid = Paid.of(key, request, agent.config.model, prompt_bytes(request), entry)
        return await self._journal.add(paid, reservation)

    def _go_on(self) -> None:
        """Raises what has ended the run, if anything has; a copy, since each raising lengthens an error's traceback."""
        if self._stopped:
            raise type(self._stopped)(str(self._stopped))

    def _entry(self, request: ChatRequest, agent: _Agent, answer: Answer, sent: int) -> Entry:
        """The reply as it is booked. Where the server counts no tokens, the cost is the most that they can have cost."""
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            most = max_tokens({**agent.config.params, **request.params}) or len(answer.text.encode("utf-8", "replace"))
            pico = agent.price.pico(prompt_bound(request), most)
        else:
            pico = agent.price.pico(answer.prompt_tokens, answer.completion_tokens)
        return Entry(
            self._journal.lake,
            request.purpose,
            answer.text,
            answer.finish_reason,
            answer.prompt_tokens or 0,
            answer.completion_tokens or 0,
            pico,
            answer.latency_s,
            sent,
            answer.top_logprobs,
        )


def _this_task() -> "asyncio.Task[Any]":  # Any: whatever the task gives
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    return task
