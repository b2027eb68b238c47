"""Dagster's storages in SQLite, on any path, and the event log's engines kept: named in the instance's ``dagster.yaml``."""

import functools
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import ClassVar

import dagster as dg
import sqlalchemy as db

from star_pipeline.instance.private import (
    INDEX_SHARD_NAME,
    ConfigurableClassData,
    SqlEventLogStorage,
    SqliteEventLogStorage,
    SqliteRunStorage,
    SqliteScheduleStorage,
    sqlite_run_storage,
    sqlite_schedule_storage,
)

_KEPT = 4
_BUSY_TIMEOUT_S = 30
_CONFIG = {"base_dir": dg.Field(dg.StringSource, is_required=False, description="default: below DAGSTER_HOME")}


def address(base_dir: str, name: str) -> str:
    """SQLAlchemy's address of a database in a folder of whatever name. Dagster joins texts, and a part such as ``a%2Fb`` of the
    path is then taken for ``a/b``."""
    path = os.path.join(os.path.abspath(base_dir), f"{name}.db")
    return db.URL.create("sqlite", database=path).render_as_string()


def _base_dir(config: Mapping[str, object], below_home: tuple[str, ...]) -> str:
    return str(config.get("base_dir") or os.path.join(os.environ.get("DAGSTER_HOME", ""), *below_home))


@contextmanager
def _addressing(module: ModuleType) -> Iterator[None]:
    """A module of Dagster's with our ``address`` in the place of its own, which no argument leads past."""
    own = module.create_db_conn_string
    module.create_db_conn_string = address  # type: ignore[attr-defined]  # of a module, seen only at run time
    try:
        yield
    finally:
        module.create_db_conn_string = own  # type: ignore[attr-defined]  # the same


class Runs(SqliteRunStorage):
    """The same file, on any path."""

    BELOW_HOME: ClassVar = ("history",)

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        return _CONFIG

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]) -> "Runs":
        with _addressing(sqlite_run_storage):
            return cls.from_local(_base_dir(config_value, cls.BELOW_HOME), inst_data)


class Schedules(SqliteScheduleStorage):
    """The same file, on any path."""

    BELOW_HOME: ClassVar = ("schedules",)

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        return _CONFIG

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]
    ) -> "Schedules":
        with _addressing(sqlite_schedule_storage):
            made = cls.from_local(_base_dir(config_value, cls.BELOW_HOME), inst_data)
        assert isinstance(made, Schedules)
        return made


class KnownPartitions(SqlEventLogStorage):
    """Dagster asks of each input of an asset six times whether its partition exists; keys of partitions are as good as never deleted."""

    @functools.cached_property
    def _there(self) -> set[tuple[str, str]]:
        return set()

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        asked = (partitions_def_name, partition_key)
        if asked not in self._there and super().has_dynamic_partition(*asked):
            self._there.add(asked)
        return asked in self._there

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> None:
        self._there.discard((partitions_def_name, partition_key))
        super().delete_dynamic_partition(partitions_def_name, partition_key)


class KeptEngines(KnownPartitions, SqliteEventLogStorage):
    """The same files, read and written alike.

    Dagster makes a SQLAlchemy engine, and so compiles every statement anew, for each event: most of what a run of Dagster costs.
    """

    BELOW_HOME: ClassVar = ("history", "runs")

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, db.Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        return _CONFIG

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]
    ) -> "KeptEngines":
        return cls(_base_dir(config_value, cls.BELOW_HOME), inst_data)

    def conn_string_for_shard(self, shard_name: str) -> str:
        return address(self._base_dir, shard_name)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[db.Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> db.Engine:
        """The shard's engine, with one connection that stays open; those of the runs before the last ones are closed."""
        if shard not in self._engines:
            self._engines[shard] = db.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=db.QueuePool,
                pool_size=1,
                connect_args={"timeout": _BUSY_TIMEOUT_S},
            )
            db.event.listen(self._engines[shard], "connect", _trust_the_system)
        self._engines.move_to_end(shard)
        if INDEX_SHARD_NAME in self._engines:
            self._engines.move_to_end(INDEX_SHARD_NAME)
        while len(self._engines) > _KEPT:
            self._engines.popitem(last=False)[1].dispose()
        return self._engines[shard]

    def dispose(self) -> None:
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()


def _trust_the_system(connection: sqlite3.Connection, _: object) -> None:
    """No wait for the disk at each event. A kill loses nothing; after a power cut the last events may be missing, and ``run``
    finds the tables that they told of in the lake."""
    connection.execute("PRAGMA synchronous=NORMAL")
