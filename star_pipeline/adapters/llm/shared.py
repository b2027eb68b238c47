"""One chat model for a whole run, in a thread and an event loop of its own: what is asked ahead, and what steps ask, meet in it.

A step's request waits for the same one that was asked ahead, and takes its reply, or its failure; what has ended asking ahead (an agent
that is down, a budget that is used up) it does not take, but asks itself, and meets it there if it is still so. Asked ahead is no more
than the agents' limits let through at once, and of what waits the earliest shard's first, so that a step of today waits for nothing
that is only needed tomorrow; and of one shard what more hangs on: rewrites, then responses, then verdicts.
"""

import asyncio
import heapq
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from star_pipeline.core.errors import CallError
from star_pipeline.core.journal import AHEAD
from star_pipeline.core.ports import ChatModel, ChatReply, ChatRequest

T = TypeVar("T")
Rank = tuple[int, int]
"""The shard's place, and the stage's in it."""
_STAGES = {"rewrite": 0, "respond": 1, "judge": 2}


class JournalledChat(ChatModel, Protocol):
    """A chat model that can tell what it has a reply to."""

    async def is_answered(self, request: ChatRequest) -> bool: ...


class _Turns:
    """At most ``most`` at once; of those that wait, the one of the lowest rank goes first."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: list[tuple[Rank, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    @asynccontextmanager
    async def turn(self, rank: Rank) -> AsyncIterator[None]:
        if self._free and not self._waiting:
            self._free -= 1
        else:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (rank, next(self._count), mine))
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._release()
                raise
        try:
            yield
        finally:
            self._release()

    def waits(self, rank: Rank) -> bool:
        """Whether one of this rank or a lower one waits."""
        return any(other <= rank and not mine.done() for other, _, mine in self._waiting)

    def _release(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            *_, first = heapq.heappop(self._waiting)
            if not first.done():
                self._free -= 1
                first.set_result(None)


class SharedChat:
    """``open_chat`` makes the chat model, in the loop that it is used in; ``key`` names a request by what decides its reply; ``limit``
    tells an agent's ``max_concurrency``."""

    def __init__(
        self,
        open_chat: Callable[[], JournalledChat],
        key: Callable[[ChatRequest], bytes],
        limit: Callable[[str], int],
    ) -> None:
        self._open, self._key, self._limit = open_chat, key, limit
        self._turns: dict[str, _Turns] = {}
        self._under_way: dict[bytes, asyncio.Task[ChatReply]] = {}
        self._failed: dict[bytes, CallError] = {}
        self._told: set[bytes] = set()
        self._own: set[bytes] = set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="working ahead", daemon=True)
        self._thread.start()
        try:
            self._chat = self.start(self._opened()).result()
        except BaseException:
            self._stop()
            raise

    def start(self, work: Coroutine[object, object, T]) -> "Future[T]":
        """Run a coroutine in the chat's loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def close(self) -> None:
        """Let what is in flight arrive, for a few seconds, and close the journal."""
        try:
            self.start(self._close()).result()
        finally:
            self._stop()

    async def ahead(self, request: ChatRequest, rank: Rank) -> ChatReply:
        """In the loop: ask ahead of the step that needs it. Raises as the chat model does."""
        key = self._key(request)
        if failed := self._failed.get(key):
            raise _copy(failed, 0)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._send(key, request, rank))
            task.add_done_callback(lambda done: self._over(key, done))
        return await asyncio.shield(task)

    def has_room(self, rank: Rank) -> bool:
        """In the loop: whether nothing of this rank or a lower one waits for its turn, with whichever agent."""
        return not any(turns.waits(rank) for turns in self._turns.values())

    def halt(self) -> None:
        """In the loop: withdraw what was asked ahead and is not on its way yet; what is, arrives in the journal."""
        for task in list(self._under_way.values()):
            task.cancel()

    async def answer(self, request: ChatRequest) -> ChatReply:
        """In the loop: a step's request."""
        key = self._key(request)
        if ahead := self._under_way.get(key):
            await asyncio.wait([ahead])
        if failed := self._failed.get(key):
            first = key not in self._told
            self._told.add(key)
            raise _copy(failed, failed.attempts if first else 0)
        self._own.add(key)
        return await self._chat.complete(request)

    async def step_over(self) -> None:
        """In the loop: a step has taken what it needs; a failure that it was told holds for it alone."""
        for key in self._told:
            self._failed.pop(key, None)
        self._told.clear()
        self._own.clear()

    async def _send(self, key: bytes, request: ChatRequest, rank: Rank) -> ChatReply:
        asked = replace(request, purpose=AHEAD + request.purpose)
        try:
            if await self._chat.is_answered(request):
                return await self._chat.complete(asked)
            most = self._limit(request.agent)
            # some more than the limit, so that a slot that is free finds one waiting
            turns = self._turns.setdefault(request.agent, _Turns(most + max(2, most // 8)))
            async with turns.turn(rank):
                return await self._chat.complete(asked)
        except CallError as error:
            if key not in self._own:
                self._failed[key] = error
            raise

    def _over(self, key: bytes, task: "asyncio.Task[ChatReply]") -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting for it any more

    async def _opened(self) -> JournalledChat:
        return self._open()

    async def _close(self) -> None:
        self.halt()
        await self._chat.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


def _copy(error: CallError, attempts: int) -> CallError:
    """Each raising lengthens an error's traceback."""
    return CallError(error.kind, str(error), attempts)


class StepChat:
    """The port's chat model for a step, in whatever event loop the step has. ``closed`` is called when it is done with it."""

    def __init__(self, shared: SharedChat, closed: Callable[[], None] = lambda: None) -> None:
        self._shared, self._closed = shared, closed

    async def complete(self, request: ChatRequest) -> ChatReply:
        return await asyncio.wrap_future(self._shared.start(self._shared.answer(request)))

    async def aclose(self) -> None:
        with suppress(RuntimeError):  # the run has ended, and its loop with it
            await asyncio.wrap_future(self._shared.start(self._shared.step_over()))
        self._closed()


class AheadChat:
    """The port's chat model for who works ahead, in the shared chat's own loop: requests of the shard at ``place``."""

    def __init__(self, shared: SharedChat, place: int) -> None:
        self._shared, self._place = shared, place

    async def complete(self, request: ChatRequest) -> ChatReply:
        return await self._shared.ahead(request, (self._place, _STAGES.get(request.stage, 0)))

    def has_room(self) -> bool:
        """Whether all of the shard's requests so far are on their way: what more there is to ask keeps none of them waiting."""
        return self._shared.has_room((self._place, _STAGES["judge"]))

    async def aclose(self) -> None: ...
