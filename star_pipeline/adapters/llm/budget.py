"""The budget: the worst case of every try is reserved on disk before it is sent, so that the spend never exceeds it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.core.errors import BudgetReached
from star_pipeline.core.journal import PICO, Journal


class Budget:
    """``usd`` for one lake, whatever was spent before it was set. One instance a journal and event loop.

    A try that was refused is released, one that was answered is settled with its reply; one whose fate nobody knows (timeout,
    reset, kill) counts in full for good, also when another try is answered: the provider may have billed both.
    """

    def __init__(self, journal: Journal, usd: float) -> None:
        self._journal = journal
        self._usd = usd
        self._limit = int(usd * PICO)
        self._busy = 0  # tries, and batches, that may settle for less than they reserved
        self._waiting = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def reserved(self, agent: str, stage: str, pico: int) -> AsyncIterator[int]:
        """The reservation's id, for the block that sends one try and settles it where a reply came.

        Waits while tries in flight may settle for less than they reserved; raises BudgetReached once none is in flight.
        """
        reservation = await self._reserve(agent, stage, pico)
        try:
            yield reservation
        except Failure as failure:
            if failure.maybe_billed:
                await self._journal.keep(reservation, failure.kind)
            else:
                await self.release(reservation)
            raise
        finally:
            self.ended()

    async def release(self, reservation: int) -> None:
        """Its try cost nothing."""
        await self._journal.release(reservation)

    @property
    def limit(self) -> int:
        """In 1e-12 USD."""
        return self._limit

    def begins(self) -> None:
        """A batch is in flight, whose reservations are made elsewhere, until ``ended``."""
        self._busy += 1

    def ended(self) -> None:
        self._busy -= 1
        self._wake()

    async def room(self, pico: int) -> None:
        """Wait until something in flight has settled, for requests that need ``pico``. Raises BudgetReached where nothing is."""
        if not self._busy:
            raise await self._reached(pico)
        await self._changed.wait()

    async def _reserve(self, agent: str, stage: str, pico: int) -> int:
        self._waiting += 1
        try:
            while True:
                changed = self._changed
                self._busy += 1  # asked for, then in flight
                granted: int | None = None
                try:
                    granted = await self._journal.reserve(agent, stage, pico, self._limit)
                finally:
                    if granted is None:
                        self._busy -= 1
                if granted is not None:
                    return granted
                if not self._busy:
                    self._wake()
                    raise await self._reached(pico * max(self._waiting, 1))
                await changed.wait()
        finally:
            self._waiting -= 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _reached(self, pico: int) -> BudgetReached:
        rows = await asyncio.to_thread(self._journal.spend)
        spent, reserved = (sum(getattr(row, name) for row in rows) / PICO for name in ("spent", "reserved"))
        kept = f", {_usd(reserved)} reserved for requests whose fate nobody knows" if reserved else ""
        least = spent + reserved + pico / PICO
        return BudgetReached(
            f"the budget is used up: {_usd(spent)} of {_usd(self._usd)} USD spent{kept}; the requests waiting now need a budget "
            f"of {_usd(least)} at most (star-pipeline estimate tells what the whole run needs); raise budget.usd and run again: "
            "nothing is paid twice"
        )


def _usd(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
