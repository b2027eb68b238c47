"""The journal's port on PostgreSQL.

What is asked, and what is written, at the same time goes over the network together. Once the database does not answer nothing more may
be asked; what became of those that were is kept on this machine's disk, and put into the journal when it is opened next.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from star_pipeline.adapters.journal.group_commit import GroupCommit
from star_pipeline.adapters.journal.postgres import queries, schema
from star_pipeline.adapters.journal.postgres.changes import (
    Add,
    Begin,
    Change,
    Claim,
    Created,
    Drop,
    Keep,
    Release,
    Reserve,
    Uploaded,
    storable,
    text,
)
from star_pipeline.adapters.journal.postgres.session import Session
from star_pipeline.adapters.journal.postgres.transaction import write
from star_pipeline.adapters.journal.postgres.unsent import Settled, Unsent
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.errors import StarError, StorageTrouble
from star_pipeline.core.journal import Batch, Begun, Entry, Paid, Sent, Spend

T = TypeVar("T")
_MOST = 500
"""Changes of one transaction."""


class PostgresJournal:
    """``core.journal.Journal`` in a database. ``unsent``: a folder on this machine for what is paid while it is out of reach.

    Raises StorageTrouble where it does not answer, or is not as it should be.
    """

    def __init__(self, postgres: Postgres, lake: str, unsent: Path) -> None:
        self.lake = lake
        self._postgres = postgres
        self._unsent = Unsent(unsent)
        self._stopped: StorageTrouble | None = None
        self._reading = Session(postgres, "star-pipeline journal, reading")
        self._writing = Session(postgres, "star-pipeline journal, writing")
        self._finding: GroupCommit[bytes] = GroupCommit(self._find_all, self._trouble, _MOST)
        self._group: GroupCommit[Change] = GroupCommit(self._write_all, self._trouble_of_a_change, _MOST)
        try:
            self._now(schema.prepare, self._writing)
            self._send_unsent()
        except BaseException:
            self.close()
            raise

    def describe(self) -> str:
        return str(self._postgres)

    async def find(self, key: bytes) -> Entry | None:
        if self._stopped:
            raise self._again(self._stopped)
        found: Entry | None = await self._finding.write(key)
        return found

    async def add(self, paid: Paid, reservation: int | None = None, batch: int | None = None) -> Entry:
        kept = storable(paid)
        mine = await self._write(Add(kept, reservation, batch))
        return kept.entry if mine else await self.find(kept.key) or kept.entry

    async def claim(self, key: bytes, purpose: str) -> Entry | None:
        await self._write(Claim(key, text(purpose)))
        return await self.find(key)

    async def reserve(self, agent: str, stage: str, pico: int, limit: int) -> int | None:
        granted: int | None = await self._write(Reserve(agent, stage, pico, limit))
        return granted

    async def release(self, reservation: int) -> None:
        await self._write(Release(reservation))

    async def keep(self, reservation: int, fate: str) -> None:
        await self._write(Keep(reservation, fate))

    async def begin_batch(
        self, marker: str, agent: str, owner: str, requests: Sequence[Sent], limit: int | None
    ) -> Begun:
        begun: Begun = await self._write(Begin(marker, agent, owner, requests, limit))
        return begun

    async def batch(self, batch: int) -> Batch | None:
        return await self._ask(lambda cursor: queries.batch(cursor, batch))

    async def uploaded(self, batch: int, file: str) -> None:
        await self._write(Uploaded(batch, file))

    async def created(self, batch: int, remote: str) -> None:
        await self._write(Created(batch, remote))

    async def holding(self, key: bytes) -> int | None:
        return await self._ask(lambda cursor: queries.holding(cursor, key))

    async def in_batches(self) -> set[bytes]:
        return await self._ask(queries.in_batches)

    async def sent_in(self, batch: int) -> list[Sent]:
        return await self._ask(lambda cursor: queries.sent_in(cursor, batch))

    async def drop(self, batch: int, sent: Sequence[Sent], billed_as: str | None = None) -> list[bool]:
        there: list[bool] = await self._write(Drop(batch, sent, billed_as))
        return there

    def any_open(self) -> bool:
        return self._now(queries.any_open, self._reading)

    def spend(self) -> list[Spend]:
        return self._now(lambda cursor: queries.spend(cursor, self.lake), self._reading)

    def replies(self) -> int:
        return self._now(queries.replies, self._reading)

    def recount(self) -> bool:
        return self._now(queries.recount, self._writing)

    async def aclose(self) -> None:
        await self._group.done()
        await self._finding.done()
        self.close()

    def close(self) -> None:
        self._reading.close()
        self._writing.close()
        self._unsent.close()

    async def _write(self, change: Change) -> Any:  # each kind of change has its own kind of result
        return await self._group.write(change)

    async def _find_all(self, keys: list[bytes]) -> list[Any]:
        return await self._reading.ask(lambda cursor: queries.find(cursor, keys))

    async def _write_all(self, changes: list[Change]) -> list[Any]:
        try:
            if self._stopped:
                raise self._again(self._stopped)
            return await self._writing.ask(lambda cursor: write(cursor, self.lake, changes))
        except Exception as error:
            if trouble := self._trouble_of_a_change(error):
                self._stopped = self._stopped or trouble
                if settled := [change for change in changes if isinstance(change, Settled)]:
                    self._unsent.keep(settled)
            raise

    async def _ask(self, work: Callable[[Any], T]) -> T:
        try:
            return await self._reading.ask(work)
        except Exception as error:
            raise self._trouble(error) from error

    def _now(self, work: Callable[[Any], T], session: Session) -> T:
        try:
            return session.ask_now(work)
        except StarError:
            raise
        except Exception as error:
            raise self._trouble(error) from error

    def _send_unsent(self) -> None:
        for path, changes in self._unsent.waiting():
            for start in range(0, len(changes), _MOST):
                part = changes[start : start + _MOST]
                self._now(lambda cursor, part=part: write(cursor, self.lake, part), self._writing)  # type: ignore[misc]
            path.unlink(missing_ok=True)

    def _trouble(self, error: BaseException) -> StarError:
        return error if isinstance(error, StarError) else self._postgres.trouble(error)

    def _trouble_of_a_change(self, error: BaseException) -> StorageTrouble | None:
        """None where the change is at fault, and not the database."""
        import psycopg2

        if isinstance(error, StorageTrouble):
            return error
        if isinstance(error, psycopg2.DataError | psycopg2.IntegrityError) or not isinstance(error, psycopg2.Error):
            return None if isinstance(error, Exception) else self._postgres.trouble(error)
        return self._postgres.trouble(error)

    @staticmethod
    def _again(error: StorageTrouble) -> StorageTrouble:
        """A copy, since each raising lengthens an error's traceback."""
        return StorageTrouble(str(error))
