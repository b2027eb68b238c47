"""Every reply on disk before anything uses it: an SQLite database that survives kills, torn writes and full disks.

Writes of many requests share a transaction (group commit): what arrives while one is being flushed to disk goes into the
next. Statements run on the event loop's thread, in microseconds; only the flush, which waits for the disk, has a thread of
its own.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from star_pipeline.adapters.llm import batch_store, ledger
from star_pipeline.adapters.llm.prices import PICO
from star_pipeline.adapters.llm.storage_errors import is_of_the_storage, remedy
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import CallError, LakeError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import AgentSpend

T = TypeVar("T")
FILE = "journal.sqlite"
_BALLAST = ".ballast"
_BALLAST_BYTES = 8 * 2**20
_APPLICATION = 0x53544152
_VERSION = 1
_PATIENCE_S = 60.0
_TABLES = (
    """
CREATE TABLE reply(
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, lake TEXT NOT NULL, agent TEXT NOT NULL, stage TEXT NOT NULL,
    purpose TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL, sample INTEGER NOT NULL, text BLOB NOT NULL,
    finish_reason TEXT NOT NULL, prompt_bytes INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, pico INTEGER NOT NULL, latency_s REAL NOT NULL, attempts INTEGER NOT NULL,
    at REAL NOT NULL
);
"""
    + ledger.TABLES
)
_TOLD = "CREATE TABLE IF NOT EXISTS told(reply INTEGER PRIMARY KEY, top_logprobs TEXT NOT NULL)"
"""Beside the replies, and not among them: earlier versions read and write these journals too, and made them without it."""
_ENTRY = "lake, purpose, text, finish_reason, prompt_tokens, completion_tokens, pico, latency_s, attempts"


@dataclass(frozen=True)
class Entry:
    """A reply as it was paid: by which lake and for what, tokens and cost (1e-12 USD), seconds, tries."""

    lake: str
    purpose: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    pico: int
    latency_s: float
    attempts: int
    top_logprobs: tuple[tuple[str, float], ...] = ()


def request_key(request: ChatRequest, agent: AgentConfig) -> bytes:
    """Names a request by all that decides its reply: model, endpoint, messages, parameters, template and its version, sample.

    The agent's name, limits and key do not: they change nothing.
    """
    whole = [
        agent.model,
        agent.api_base,
        [(message.role, message.content) for message in request.messages],
        {**agent.params, **request.params},
        request.template,
        request.template_version,
        request.sample,
    ]
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:20]


_Change = Callable[[sqlite3.Connection], object]
_Waiting = tuple[_Change, asyncio.Future[Any]]  # Any: each change gives its own kind of result to who waits for it


class Journal:
    """The replies of one or more lakes, for use by one event loop; other processes may use the same file at the same time.

    Raises LakeError where the file is no journal, is of another version, or cannot be written.
    """

    def __init__(self, folder: Path, lake: str) -> None:
        self.lake = lake
        self.path = folder / FILE
        self._ballast = folder / _BALLAST
        self._full = False
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = _open(self.path)
            self._reader = _connect(self.path, read_only=True)
            self._load_ballast()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    def find(self, key: bytes) -> Entry | None:
        """The reply to a request that was answered before. Raises LakeError once the disk is full: nothing more may be asked."""
        if self._full:
            raise self._trouble("database or disk is full")
        return self.read(lambda db: _find(db, key))

    async def add(
        self,
        key: bytes,
        request: ChatRequest,
        model: str,
        prompt_bytes: int,
        entry: Entry,
        reservation: int | None,
        take: Callable[[sqlite3.Connection], bool] = lambda db: True,
    ) -> Entry:
        """Store a reply, book its cost and settle its reservation, at once; returns the reply to use, once it is on disk.

        Where another process has answered the same request meanwhile, its reply is the one to use; ours is booked all the same, unless
        ``take`` says, in the same transaction, that it is the very same and booked. Raises CallError where this reply alone cannot be
        stored.
        """
        entry = _storable(entry)
        mine = await self.write(lambda db: take(db) and _add(db, key, request, model, prompt_bytes, entry, reservation))
        return entry if mine else self.find(key) or entry

    async def claim(self, key: bytes, purpose: str) -> Entry | None:
        """Book a reply that was asked ahead on ``purpose``, unless another one has claimed it; returns it as it is then."""
        await self.write(lambda db: ledger.claim(db, key, self.lake, ledger.words(purpose)))
        return self.find(key)

    def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """What the database says now."""
        with self._told():
            return ask(self._reader)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``change`` in a transaction; returns its result once that is on disk. It may be run twice, the first time in vain."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting())
        return await future

    def spend(self) -> list[ledger.Spend]:
        return self.read(lambda db: ledger.spend(db, self.lake))

    def recount(self) -> bool:
        """Rebuild what was spent from the replies and reservations; returns whether the running totals were right."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            right = ledger.recount(self._db)
            self._db.execute("COMMIT")
        return right

    def replies(self) -> int:
        return self.read(lambda db: int(db.execute("SELECT count(key) FROM reply").fetchone()[0]))

    async def aclose(self) -> None:
        """Wait until all that was written is on disk, then close."""
        while self._committing and not self._committing.done():
            await asyncio.wait([self._committing])
        self.close()

    def close(self) -> None:
        self._thread.shutdown()
        self._reader.close()
        self._db.close()

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._settle(batch)
            except BaseException as error:  # nobody may be left waiting, whatever happened
                for _, future in (*batch, *self._waiting):
                    if not future.done():
                        future.set_exception(LakeError(f"journal {self.path}: {type(error).__name__} while writing"))
                self._waiting = []
                raise

    async def _settle(self, batch: list[_Waiting]) -> None:
        """Commit what waits together; where one of them cannot be written, each alone, so that it takes no other along."""
        try:
            results = await self._commit([change for change, _ in batch])
        except Exception as error:
            if is_of_the_storage(error):
                failed: Exception = self._trouble(str(error))
            elif len(batch) > 1:
                for one in batch:
                    await self._settle([one])
                return
            else:
                reason = f"{type(error).__name__}: {error}"
                failed = CallError("malformed_reply", f"it cannot be written to the journal ({reason})")
            for _, future in batch:
                if not future.done():
                    future.set_exception(failed)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

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
        until = time.monotonic() + _PATIENCE_S
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
            raise self._trouble(str(error)) from error

    def _trouble(self, reason: str) -> LakeError:
        return LakeError(f"journal {self.path}: {reason}; {remedy(reason)}")


@contextlib.contextmanager
def reader(folder: Path) -> Iterator[Callable[[bytes], Entry | None]]:
    """A function that finds replies, without making a journal where there is none. Raises LakeError."""
    with _opened(folder) as db:
        yield lambda key: _find(db, key) if db else None


def read_spend(folder: Path, lake: str) -> list[AgentSpend]:
    """What a lake spent, in USD, without making a journal where there is none. Raises LakeError."""
    return [
        AgentSpend(
            row.agent, row.stage, row.replies, row.prompt_tokens, row.completion_tokens, row.spent / PICO,
            row.reservations, row.reserved / PICO,
        )
        for row in read_ledger(folder, lake)
    ]  # fmt: skip  # a column's value each, in the table's order


def read_ledger(folder: Path, lake: str) -> list[ledger.Spend]:
    """The same, as it is kept."""
    with _opened(folder) as db:
        return ledger.spend(db, lake) if db else []


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection | None]:
    if not (folder / FILE).exists():
        yield None
        return
    try:
        with contextlib.closing(_connect(folder / FILE, read_only=True)) as db:
            yield db
    except sqlite3.Error as error:
        raise LakeError(f"journal {folder / FILE}: {error}; {remedy(str(error))}") from error


def _connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)
    if read_only:
        db.execute("PRAGMA query_only = ON")
    return db


def _open(path: Path) -> sqlite3.Connection:
    db = _connect(path)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application == version == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            for statement in filter(str.strip, _TABLES.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
        elif (application, version) != (_APPLICATION, _VERSION):
            of = f"version {version}" if application == _APPLICATION else "another program's database"
            raise sqlite3.DatabaseError(f"{of}, expected a journal of version {_VERSION}")
        for statement in (_TOLD, *batch_store.TABLES):
            db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        db.close()
        raise
    return db


def _add(
    db: sqlite3.Connection,
    key: bytes,
    request: ChatRequest,
    model: str,
    prompt_bytes: int,
    entry: Entry,
    held: int | None,
) -> bool:
    row = (
        entry.lake, request.agent, request.stage, entry.purpose, ledger.words(model), request.template, request.sample,
        entry.text.encode("utf-8", "surrogatepass"), entry.finish_reason, prompt_bytes, entry.prompt_tokens,
        entry.completion_tokens, entry.pico, entry.latency_s, entry.attempts, time.time(),
    )  # fmt: skip  # a column's value each, in the table's order
    insert = f"INSERT OR IGNORE INTO reply VALUES (NULL, {', '.join('?' * 17)})"
    added = db.execute(insert, (key, *row))
    mine = added.rowcount == 1
    if mine and entry.top_logprobs:
        db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (added.lastrowid, json.dumps(entry.top_logprobs)))
    if not mine:
        db.execute(insert, (None, *row))  # paid, and never to be found: the other reply is the one
    if held is not None:
        ledger.release(db, held)
    numbers = (prompt_bytes, entry.prompt_tokens, entry.completion_tokens, entry.pico)
    ledger.book(db, entry.lake, request.agent, request.stage, numbers)
    return mine


def _storable(entry: Entry) -> Entry:
    """Numbers that fit into 64 bits and are none below 0, words without half characters; the text is kept as it is."""
    return replace(
        entry,
        finish_reason=ledger.words(entry.finish_reason),
        purpose=ledger.words(entry.purpose),
        prompt_tokens=ledger.number(entry.prompt_tokens),
        completion_tokens=ledger.number(entry.completion_tokens),
        pico=ledger.number(entry.pico),
    )


def _find(db: sqlite3.Connection, key: bytes) -> Entry | None:
    row = db.execute(f"SELECT {_ENTRY}, id FROM reply WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    lake, purpose, text, *rest, number = row
    try:
        told = db.execute("SELECT top_logprobs FROM told WHERE reply = ?", (number,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # a journal that an earlier version made, opened to be read only
            raise
        told = None
    alternatives = tuple((str(token), float(logprob)) for token, logprob in json.loads(told[0])) if told else ()
    return replace(Entry(lake, purpose, text.decode("utf-8", "surrogatepass"), *rest), top_logprobs=alternatives)
