"""The requests of batch agents: gathered while a stage asks, sent as batch jobs, waited for, and put into the journal.

A batch is on disk before it is sent, with the reservations of its requests, and its name at the provider before it is waited for. So
whoever asks for one of its requests next, in whatever process, goes on waiting for it; nothing is sent twice.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from star_pipeline.adapters.llm.batch_booking import book
from star_pipeline.adapters.llm.batch_lines import MOST_BYTES, MOST_REQUESTS, Outcomes, line
from star_pipeline.adapters.llm.batch_owners import SENDING, is_alive, this_process
from star_pipeline.adapters.llm.batch_service import FORGOTTEN_S, UNSURE_S, BatchService, NotCreated, State
from star_pipeline.adapters.llm.budget import Budget
from star_pipeline.adapters.llm.failures import Failure, classify
from star_pipeline.adapters.llm.prices import FREE, price, prompt_bound, prompt_bytes, worst_pico
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.secrets import key_masker, masker
from star_pipeline.adapters.progress import in_words
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import AgentDown, CallError, StarError
from star_pipeline.core.journal import Batch, Begun, Entry, Journal, Sent
from star_pipeline.core.ports import ChatRequest

_QUIET_S, _LONGEST_HOLD_S = 0.5, 600.0
"""A batch is sent once no request has come for the one, and no live one is under way that could bring more; after the other anyway."""
_FIRST_LOOK_S, _LONGEST_LOOK_S, _OF_ITS_AGE = 1.0, 60.0, 0.05
_WAITING = "waiting for it (Ctrl-C leaves it with its server, and the next run goes on with it)"
_TELL_EVERY_S, _CROWDED_S, _GRACE_S = 60.0, 60.0, 10.0


@dataclass(eq=False)
class _Waiter:
    key: bytes
    request: ChatRequest
    line: bytes
    sent: Sent
    future: asyncio.Future[Entry | None]


class Batches:
    """For one event loop. ``live`` counts the requests under way that are in no batch; ``tell`` is told, in a line, how far a batch is."""

    def __init__(
        self,
        agents: Mapping[str, AgentConfig],
        journal: Journal,
        budget: Budget | None,
        sleep: Callable[[float], Awaitable[None]],
        tell: Callable[[str], None],
        live: Callable[[], int],
    ) -> None:
        self._agents, self._journal, self._budget = agents, journal, budget
        self._sleep, self._tell, self._live = sleep, tell, live
        self._prices = {name: price(agent, batch=True) or FREE for name, agent in agents.items()}
        self._service = BatchService(agents, sleep)
        self._mask, self._mask_key = masker(agents), key_masker(agents)
        self._waiters: dict[bytes, _Waiter] = {}
        self._queues: dict[str, list[_Waiter]] = {name: [] for name in agents}
        self._most = dict.fromkeys(agents, MOST_REQUESTS)
        self._collecting: dict[str, asyncio.Task[None]] = {}
        self._following: dict[int, asyncio.Task[None]] = {}
        self._creating: set[asyncio.Task[str]] = set()
        self._left: set[str] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def ask(self, key: bytes, request: ChatRequest, form: RequestForm, tries: int, send: bool) -> Entry | None:
        """The reply, on disk. Raises Failure, and what ends the run; None where the request is in no batch and ``send`` is False."""
        while True:
            if known := await self._journal.find(key):
                return known
            batch = await self._journal.holding(key)
            if batch is None and not send:
                return None
            future: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
            text = self._line(key, request, form) if batch is None else b""
            waiter = self._waiters[key] = _Waiter(key, request, text, self._sent(key, request, tries), future)
            if batch is not None:
                self._follow(batch, request.agent)
            else:
                self._enqueue(waiter)
            try:
                if entry := await future:
                    return entry
            finally:
                self._waiters.pop(key, None)

    async def aclose(self) -> None:
        """Let batches that are being created get their names; those that are waited for stay with their providers."""
        for task in self._collecting.values():
            task.cancel()
        if self._creating:
            await asyncio.wait(self._creating, timeout=_GRACE_S)
        for created in self._creating:
            created.cancel()
        tasks = [*self._collecting.values(), *self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._service.aclose()
        for told in sorted(self._left):
            self._tell(f"{told} stays with its server; the next run goes on with it")

    def _line(self, key: bytes, request: ChatRequest, form: RequestForm) -> bytes:
        agent = self._agents[request.agent]
        try:
            return line(key, request, form, agent)
        except Exception as error:  # litellm's word on what its provider takes
            raise classify(error, agent, self._mask) from None

    def _sent(self, key: bytes, request: ChatRequest, tries: int) -> Sent:
        agent, cost = self._agents[request.agent], self._prices[request.agent]
        worst = worst_pico(request, agent, cost) if self._budget and cost != FREE else None
        return Sent(
            key, self._journal.lake, request.agent, request.stage, request.purpose, request.template, request.sample, request.params,
            prompt_bytes(request), prompt_bound(request), tries, worst=worst,
        )  # fmt: skip  # a field's value each

    def _enqueue(self, waiter: _Waiter) -> None:
        name = waiter.request.agent
        self._queues[name].append(waiter)
        if name not in self._collecting or self._collecting[name].done():
            self._collecting[name] = asyncio.create_task(self._collect(name))

    async def _collect(self, name: str) -> None:
        """Send what is gathered, in files of what a provider takes, as long as there is something."""
        try:
            while self._queues[name]:
                began, arrived = time.monotonic(), -1
                while not self._is_enough(name):
                    quiet = arrived == len(self._queues[name])
                    if quiet and (not self._live() or time.monotonic() - began >= _LONGEST_HOLD_S):
                        break
                    arrived = len(self._queues[name])
                    await self._sleep(_QUIET_S)
                await self._send(name, self._next_file(name))
        except Exception as error:
            self._fail(self._queues[name], error)
            self._queues[name] = []

    def _is_enough(self, name: str) -> bool:
        queue = self._queues[name]
        return len(queue) >= self._most[name] or sum(len(waiter.line) for waiter in queue) >= MOST_BYTES

    def _next_file(self, name: str) -> list[_Waiter]:
        taken, size = list[_Waiter](), 0
        for waiter in self._queues[name][: self._most[name]]:
            size += len(waiter.line)
            if taken and size > MOST_BYTES:
                break
            taken.append(waiter)
        self._queues[name] = self._queues[name][len(taken) :]
        return taken

    async def _send(self, name: str, waiters: list[_Waiter]) -> None:
        """As one batch, or, where the budget does not cover all at once, as several that follow each other."""
        while waiters := [waiter for waiter in waiters if not waiter.future.done()]:
            marker, of = uuid.uuid4().hex, {waiter.key: waiter for waiter in waiters}
            SENDING.add(marker)
            self._begins()
            try:
                begun = await self._begin(name, marker, [waiter.sent for waiter in waiters])
            except BaseException as error:
                SENDING.discard(marker)
                self._ended()
                if isinstance(error, Exception):
                    self._fail(waiters, error)
                raise
            if begun.batch is None:
                SENDING.discard(marker)
                self._ended()
            else:
                taken = [of[key] for key in begun.taken]
                self._following[begun.batch] = asyncio.create_task(self._carry_out(begun.batch, name, marker, taken))
            for key in begun.elsewhere:
                if not of[key].future.done():
                    of[key].future.set_result(None)
            waiters = [of[key] for key in begun.beyond_budget]
            if waiters and self._budget:
                try:
                    await self._budget.room(sum(waiter.sent.worst or 0 for waiter in waiters))
                except StarError as error:
                    self._fail(waiters, error)
                    return

    async def _begin(self, name: str, marker: str, sent: list[Sent]) -> Begun:
        limit = self._budget.limit if self._budget else None
        return await self._journal.begin_batch(marker, name, this_process(), sent, limit)

    async def _create(self, number: int, name: str, lines: list[bytes]) -> str:
        """From what is on disk alone to a batch at the provider; its name there. Where it certainly is not there, nothing is kept."""
        batch = await self._journal.batch(number)
        assert batch is not None, "it was written a moment ago"
        try:
            file = await self._service.upload(name, lines)
            await self._journal.uploaded(number, file)
            remote = await self._service.create(name, batch, file)
        except NotCreated:
            await self._forget(number)
            raise
        await self._journal.created(number, remote)
        return remote

    async def _carry_out(self, number: int, name: str, marker: str, taken: list[_Waiter]) -> None:
        """Create a batch, and wait for it."""
        creation = asyncio.create_task(self._create(number, name, [waiter.line for waiter in taken]))
        self._creating.add(creation)
        try:
            try:
                remote = await asyncio.shield(creation)
            finally:
                creation.add_done_callback(lambda done: self._is_created(done, marker))
            self._tell(
                f"agent {name}: {len(taken):,} {'request' if len(taken) == 1 else 'requests'} sent as batch {remote}; "
                f"{_WAITING}"
            )
            await self._wait(number, name)
            await self._again()
        except Exception as error:
            await self._fail_all(number, error, taken)
        finally:
            self._ended()
            self._following.pop(number, None)

    def _is_created(self, creation: asyncio.Task[str], marker: str) -> None:
        self._creating.discard(creation)
        SENDING.discard(marker)
        if not creation.cancelled():
            creation.exception()  # seen: who waits may be gone

    def _follow(self, number: int, name: str) -> None:
        """Wait for a batch that somebody else sent: this process before, or another one."""
        if number not in self._following:
            self._begins()
            self._following[number] = asyncio.create_task(self._go_on(number, name))

    async def _go_on(self, number: int, name: str) -> None:
        try:
            while (batch := await self._journal.batch(number)) and batch.remote is None:
                if is_alive(batch):
                    await self._sleep(_FIRST_LOOK_S)
                elif batch.file is None:  # nobody has been asked to work on it
                    await self._forget(number)
                elif found := await self._look_for(name, batch, batch.file):
                    await self._journal.created(number, found)
                elif time.time() - batch.at < UNSURE_S:
                    await self._sleep(_FIRST_LOOK_S)
                else:
                    await self._forget(number)
            if batch is not None:
                old = in_words(max(time.time() - batch.at, 0))
                self._tell(f"agent {name}: going on with batch {batch.remote}, which was sent {old} ago; {_WAITING}")
                await self._wait(number, name)
            await self._again()
        except Exception as error:
            await self._fail_all(number, error)
        finally:
            self._ended()
            self._following.pop(number, None)

    async def _look_for(self, name: str, batch: Batch, file: str) -> str | None:
        try:
            return await self._service.find(name, batch, file)
        except AgentDown:
            if time.time() - batch.at < FORGOTTEN_S:
                raise
            return None

    async def _forget(self, number: int) -> None:
        """It was never sent: nothing of it is kept."""
        await self._journal.drop(number, await self._journal.sent_in(number))

    async def _wait(self, number: int, name: str) -> None:
        """Until the batch has ended, and its replies are in the journal."""
        batch = await self._journal.batch(number)
        if batch is None:
            return
        who, told_at, counts = f"agent {name}: batch {batch.remote}", time.monotonic(), (0, 0)
        self._left.add(who)
        while True:
            state = await self._service.look(name, batch)
            if state is None or state.ended:
                break
            age, now = time.time() - batch.at, time.monotonic()
            silent_s = now - told_at
            if silent_s >= _TELL_EVERY_S and (silent_s >= age / 10 or counts != (state.done, state.failed)):
                told_at, counts = now, (state.done, state.failed)
                self._tell(f"{who}: {_far(state)}, waiting for {in_words(age)}")
            await self._sleep(min(max(_FIRST_LOOK_S, age * _OF_ITS_AGE), _LONGEST_LOOK_S))
        state = state or State("forgotten", 0, 0, 0)
        outcomes = Outcomes(self._agents[name], self._mask, self._mask_key)
        outcomes.read([await self._service.content(name, file) for file in state.files])
        outcomes.ended(state.status, state.errors, str(batch.remote))
        await self._settle(number, name, batch, state, outcomes)
        self._left.discard(who)

    async def _settle(self, number: int, name: str, batch: Batch, state: State, outcomes: Outcomes) -> None:
        """Book every reply, and release or keep the reservation of every request without one; then tell who waits, in their order."""
        sent = await self._journal.sent_in(number)
        waiting = {waiter.key: waiter for waiter in await self._waiting_for(number)}
        if outcomes.crowded and len(sent) > 1:
            if list(self._following) == [number]:  # alone it was too much
                self._most[name] = max(min(self._most[name], len(sent)) // 2, 1)
            self._tell(
                f"agent {name}: its provider has too many tokens waiting for so many requests at once; trying with fewer, later"
            )
            await self._forget(number)
            await self._sleep(_CROWDED_S)
            return
        took_s = state.took_s if state.took_s is not None else time.time() - batch.at
        agent, cost = self._agents[name], self._prices[name]
        results = await asyncio.gather(
            *(book(self._journal, number, agent, cost, one, outcomes, took_s) for one in sent)
        )
        self._tell(
            f"agent {name}: batch {batch.remote} {state.status} after {in_words(max(time.time() - batch.at, 0))}: {_far(state)}"
        )
        for one, result in zip(sent, results, strict=True):
            waiter = waiting.get(one.key)
            if waiter is None or waiter.future.done():
                continue
            if isinstance(result, Failure):
                waiter.future.set_exception(result)
            else:
                waiter.future.set_result(result)

    async def _waiting_for(self, number: int) -> list[_Waiter]:
        """Who waits for a request of this batch."""
        keys = {one.key for one in await self._journal.sent_in(number)}
        return [waiter for waiter in self._waiters.values() if waiter.key in keys]

    async def _again(self) -> None:
        """Whoever waits for a batch that was given up, or that another process has dealt with, looks anew."""
        held = await self._journal.in_batches()
        queued = {waiter.key for queue in self._queues.values() for waiter in queue}
        for waiter in self._waiters.values():
            if not waiter.future.done() and waiter.key not in queued and waiter.key not in held:
                waiter.future.set_result(None)

    async def _fail_all(self, number: int, error: Exception, also: Sequence[_Waiter] = ()) -> None:
        """Tell whoever waits for a request of this batch, and everybody where the journal does not tell who that is."""
        try:
            waiters = await self._waiting_for(number)
        except StarError:
            waiters = list(self._waiters.values())
        self._fail([*also, *waiters], error)

    def _fail(self, waiters: list[_Waiter], error: Exception) -> None:
        for waiter in waiters:
            if not waiter.future.done():
                anew = isinstance(error, StarError) and not isinstance(error, CallError)
                waiter.future.set_exception(type(error)(str(error)) if anew else error)

    def _begins(self) -> None:
        if self._budget:
            self._budget.begins()

    def _ended(self) -> None:
        if self._budget:
            self._budget.ended()


def _far(state: State) -> str:
    if not state.total:
        return state.status
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{state.done:,} of {state.total:,} done{failed}"
