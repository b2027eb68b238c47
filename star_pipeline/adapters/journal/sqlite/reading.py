"""What a journal's file tells of a lake to those who only look."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from star_pipeline.adapters.journal.sqlite import ledger, replies
from star_pipeline.adapters.journal.sqlite.errors import trouble
from star_pipeline.adapters.journal.sqlite.file import FILE, connect
from star_pipeline.core.journal import Entry, Spend
from star_pipeline.core.records import AgentSpend


class SqliteReader:
    """``core.journal.JournalReader``; without ``db`` there is no journal yet, and without ``lake`` it has no name there."""

    def __init__(self, path: Path, db: sqlite3.Connection | None, lake: str | None) -> None:
        self._path, self._db, self._lake = path, db, lake

    def find(self, key: bytes) -> Entry | None:
        return replies.find(self._db, key) if self._db else None

    def ledger(self) -> list[Spend]:
        return ledger.spend(self._db, self._lake) if self._db and self._lake else []

    def spend(self) -> list[AgentSpend]:
        return [row.in_usd for row in self.ledger()]

    def describe(self) -> str:
        return str(self._path)


@contextlib.contextmanager
def reading_file(folder: Path, lake: str | None) -> Iterator[SqliteReader]:
    """Raises StorageTrouble."""
    path = folder / FILE
    if not path.exists():
        yield SqliteReader(path, None, lake)
        return
    try:
        with contextlib.closing(connect(path, read_only=True)) as db:
            yield SqliteReader(path, db, lake)
    except sqlite3.Error as error:
        raise trouble(path, str(error)) from error
