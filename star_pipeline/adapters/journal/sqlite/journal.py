"""The journal's port on an SQLite file, which survives kills, torn writes and full disks.

Writes of many requests share a transaction (group commit). Statements run on the event loop's thread, in microseconds; only the
flush, which waits for the disk, has a thread of its own.
"""

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from star_pipeline.adapters.journal.group_commit import GroupCommit
from star_pipeline.adapters.journal.sqlite import batches, ledger, replies
from star_pipeline.adapters.journal.sqlite.errors import is_of_the_storage, trouble
from star_pipeline.adapters.journal.sqlite.file import FILE, PATIENCE_S, connect, opened
from star_pipeline.core.errors import StorageTrouble
from star_pipeline.core.journal import Batch, Begun, Entry, Paid, Sent, Spend, words

T = TypeVar("T")
_BALLAST = ".ballast"
_BALLAST_BYTES = 8 * 2**20
_Change = Callable[[sqlite3.Connection], object]


class SqliteJournal:
    """``core.journal.Journal`` in a folder. Raises StorageTrouble where the file is no journal, is of another version, or cannot be
    written.
    """

    def __init__(self, folder: Path, lake: str) -> None:
        self.lake = lake
        self.path = folder / FILE
        self._ballast = folder / _BALLAST
        self._full = False
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = opened(self.path)
            self._reader = connect(self.path, read_only=True)
            self._load_ballast()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._group: GroupCommit[_Change] = GroupCommit(self._commit, self._trouble_of)

    def describe(self) -> str:
        return str(self.path)

    async def find(self, key: bytes) -> Entry | None:
        if self._full:
            raise trouble(self.path, "database or disk is full")
        return self._read(lambda db: replies.find(db, key))

    async def add(self, paid: Paid, reservation: int | None = None, batch: int | None = None) -> Entry:
        mine = await self._write(lambda db: replies.add(db, paid, reservation, batch))
        return paid.entry if mine else await self.find(paid.key) or paid.entry

    async def claim(self, key: bytes, purpose: str) -> Entry | None:
        await self._write(lambda db: ledger.claim(db, key, self.lake, words(purpose)))
        return await self.find(key)

    async def reserve(self, agent: str, stage: str, pico: int, limit: int) -> int | None:
        return await self._write(lambda db: ledger.reserve(db, self.lake, agent, stage, pico, limit))

    async def release(self, reservation: int) -> None:
        await self._write(lambda db: ledger.release(db, reservation))

    async def keep(self, reservation: int, fate: str) -> None:
        await self._write(lambda db: ledger.keep(db, reservation, fate))

    async def begin_batch(
        self, marker: str, agent: str, owner: str, requests: Sequence[Sent], limit: int | None
    ) -> Begun:
        return await self._write(lambda db: batches.begin(db, marker, agent, owner, requests, limit))

    async def batch(self, batch: int) -> Batch | None:
        return self._read(lambda db: batches.read(db, batch))

    async def uploaded(self, batch: int, file: str) -> None:
        await self._write(lambda db: batches.uploaded(db, batch, file))

    async def created(self, batch: int, remote: str) -> None:
        await self._write(lambda db: batches.created(db, batch, remote))

    async def holding(self, key: bytes) -> int | None:
        return self._read(lambda db: batches.holding(db, key))

    async def in_batches(self) -> set[bytes]:
        return self._read(batches.keys)

    async def sent_in(self, batch: int) -> list[Sent]:
        return self._read(lambda db: batches.sent_in(db, batch))

    async def drop(self, batch: int, sent: Sequence[Sent], billed_as: str | None = None) -> list[bool]:
        return await self._write(lambda db: [batches.drop(db, batch, one, billed_as) for one in sent])

    def any_open(self) -> bool:
        return self._read(batches.any_open)

    def spend(self) -> list[Spend]:
        return self._read(lambda db: ledger.spend(db, self.lake))

    def replies(self) -> int:
        return self._read(lambda db: int(db.execute("SELECT count(key) FROM reply").fetchone()[0]))

    def recount(self) -> bool:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            right = ledger.recount(self._db)
            self._db.execute("COMMIT")
        return right

    async def aclose(self) -> None:
        await self._group.done()
        self.close()

    def close(self) -> None:
        self._thread.shutdown()
        self._reader.close()
        self._db.close()

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """What the database says now."""
        with self._told():
            return ask(self._reader)

    async def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``change`` in a transaction; returns its result once that is on disk. It may be run twice, the first time in vain."""
        written: T = await self._group.write(change)
        return written

    async def _commit(self, changes: list[_Change]) -> list[object]:
        await self._begin()
        try:
            return await self._run(changes)
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            # what is paid shall not be lost: the ballast makes room for it, and nothing more is asked
            self._full = True
            self._ballast.unlink(missing_ok=True)
            await self._begin()
            return await self._run(changes)

    async def _run(self, changes: list[_Change]) -> list[object]:
        try:
            results = [change(self._db) for change in changes]
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.execute, "COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return results

    async def _begin(self) -> None:
        """Begin to write; another process that is writing is waited for without holding up the event loop."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
            await asyncio.sleep(random.uniform(0.001, 0.01))

    def _load_ballast(self) -> None:
        """Keep some room: it is given up when the disk is full, for the replies that are in flight then."""
        if self._ballast.exists() and self._ballast.stat().st_size == _BALLAST_BYTES:
            return
        try:
            self._ballast.write_bytes(b"\1" * _BALLAST_BYTES)
        except OSError:
            self._ballast.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise trouble(self.path, str(error)) from error

    def _trouble_of(self, error: BaseException) -> StorageTrouble | None:
        if isinstance(error, Exception) and not is_of_the_storage(error):
            return None
        return trouble(self.path, str(error) or type(error).__name__)
