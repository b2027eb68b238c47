"""What a journal in PostgreSQL tells of a lake to those who only look."""

import contextlib
from collections.abc import Iterator
from typing import Any

from star_pipeline.adapters.journal.postgres import queries, schema
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.journal import Entry, Spend
from star_pipeline.core.records import AgentSpend


class PostgresReader:
    """``core.journal.JournalReader``; without ``cursor`` there is no journal yet, and without ``lake`` it has no name there."""

    def __init__(self, postgres: Postgres, cursor: Any, lake: str | None) -> None:
        self._postgres, self._cursor, self._lake = postgres, cursor, lake

    def find(self, key: bytes) -> Entry | None:
        if self._cursor is None:
            return None
        with self._postgres.told():
            return queries.find(self._cursor, [key])[0]

    def ledger(self) -> list[Spend]:
        if self._cursor is None or self._lake is None:
            return []
        with self._postgres.told():
            return queries.spend(self._cursor, self._lake)

    def spend(self) -> list[AgentSpend]:
        return [row.in_usd for row in self.ledger()]

    def describe(self) -> str:
        return str(self._postgres)


@contextlib.contextmanager
def reading_database(postgres: Postgres, lake: str | None) -> Iterator[PostgresReader]:
    """Raises StorageTrouble, ConfigError."""
    with contextlib.closing(postgres.connect("star-pipeline, reading")) as connection:
        with postgres.told():
            cursor = connection.cursor()
            there = schema.is_there(cursor)
        yield PostgresReader(postgres, cursor if there else None, lake)
