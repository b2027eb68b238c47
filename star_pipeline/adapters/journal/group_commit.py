"""Group commit: what arrives while one transaction is being flushed goes into the next, together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from star_pipeline.core.errors import CallError, StarError

C = TypeVar("C")


class GroupCommit(Generic[C]):
    """Changes of one event loop. ``commit`` makes some of them in one transaction, and returns the result of each once they are on disk;
    ``trouble`` says what went wrong where that is the storage's fault, and returns None where it is a change's. ``most`` are made together.
    """

    def __init__(
        self,
        commit: Callable[[list[C]], Awaitable[list[Any]]],  # Any: each change gives its own kind of result to who waits
        trouble: Callable[[BaseException], StarError | None],
        most: int = 2**31,
    ) -> None:
        self._commit, self._trouble, self._most = commit, trouble, most
        self._waiting: list[tuple[C, asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def write(self, change: C) -> Any:
        """Returns the change's result once it is on disk. It may be made twice, the first time in vain."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting())
        return await future

    async def done(self) -> None:
        """Wait until all that was written is on disk."""
        while self._committing and not self._committing.done():
            await asyncio.wait([self._committing])

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                await self._settle(batch)
            except BaseException as error:  # nobody may be left waiting, whatever happened
                failed = self._trouble(error) or StarError(f"the journal: {type(error).__name__} while writing")
                for _, future in (*batch, *self._waiting):
                    if not future.done():
                        future.set_exception(failed)
                self._waiting = []
                raise

    async def _settle(self, batch: list[tuple[C, asyncio.Future[Any]]]) -> None:
        """Commit what waits together; where one of them cannot be written, each alone, so that it takes no other along."""
        try:
            results = await self._commit([change for change, _ in batch])
        except Exception as error:
            failed: StarError | None = self._trouble(error)
            if failed is None and len(batch) > 1:
                for one in batch:
                    await self._settle([one])
                return
            if failed is None:
                reason = f"{type(error).__name__}: {error}"
                failed = CallError("malformed_reply", f"it cannot be written to the journal ({reason})")
            for _, future in batch:
                if not future.done():
                    future.set_exception(failed)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
