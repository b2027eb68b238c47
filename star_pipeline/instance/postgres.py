"""Dagster's storages in PostgreSQL, over connections that stay open: named in the instance's ``dagster.yaml``.

Dagster's own connect for each statement: 324 times in a run of nine assets, which then takes three times as long.
"""

import functools
import logging
import os
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
import sqlalchemy as db
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage

from star_pipeline.instance.private import ConfigurableClassData, require
from star_pipeline.instance.storage import KnownPartitions

_CONFIG = {"postgres_url": dg.Field(dg.StringSource, description="postgresql://user:password@host:port/database")}
_KEPT, _AT_MOST = 4, 24
"""Connections of a process that stay open, and that there are at once where many threads ask."""
_RENEWED_AFTER_S = 1800
_CONNECT_WITHIN_S = 10
_SAID_AGAIN_S = 60

for _storage in (PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage):
    require([(_storage, ("_engine", "postgres_url"))])


def psycopg2_url(url: str) -> str:
    """The URL with the driver that is installed: what ``postgresql://`` alone stands for changes with SQLAlchemy's version."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg2{separator}{rest}" if scheme in ("postgres", "postgresql") else url


def shared_engine(url: str) -> db.Engine:
    """The process's engine for a database: the three storages, and instances that are opened anew, share its connections and its
    compiled statements."""
    return _engine(psycopg2_url(url))


@functools.cache
def _engine(url: str) -> db.Engine:
    return db.create_engine(
        url,
        **({} if "connect_timeout=" in url else {"connect_args": {"connect_timeout": _CONNECT_WITHIN_S}}),
        isolation_level="AUTOCOMMIT",
        pool_size=_KEPT,
        max_overflow=_AT_MOST - _KEPT,
        pool_recycle=_RENEWED_AFTER_S,
        pool_pre_ping=True,  # a connection may have died with a server that is there again
    )


# a forked process must not speak over its parent's connections
os.register_at_fork(after_in_child=_engine.cache_clear)


class _SaidOnce(logging.Filter):
    """Dagster logs each of its tries to connect, with SQLAlchemy's paragraph, for each thread: here a line, once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.funcName != "retry_pg_connection_fn":
            return True
        if record.created - self._said < _SAID_AGAIN_S:
            return False
        self._said = record.created
        record.msg, record.args = (
            f"Dagster's PostgreSQL does not answer, and is tried again: {record.getMessage()}".split("\n")[0],
            (),
        )
        return True


logging.getLogger().addFilter(_SaidOnce())


class _Pooled:
    """Mixed into one of Dagster's storages."""

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        return _CONFIG

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        made: Any = cls
        storage = made(postgres_url=psycopg2_url(config_value["postgres_url"]), inst_data=inst_data)
        storage._engine = shared_engine(storage.postgres_url)
        return storage  # type: ignore[no-any-return]  # one of cls, which is mixed into a class that mypy does not see


class Runs(_Pooled, PostgresRunStorage):  # type: ignore[misc]  # mypy does not see dagster-postgres
    """Dagster's tables, over the process's connections."""


class Schedules(_Pooled, PostgresScheduleStorage):  # type: ignore[misc]  # the same
    """Dagster's tables, over the process's connections."""


class Events(_Pooled, KnownPartitions, PostgresEventLogStorage):  # type: ignore[misc]  # the same
    """Dagster's tables, over the process's connections; a partition that was there once is not asked for again."""
