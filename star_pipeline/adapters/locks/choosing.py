"""Which lock a lake has: where its journal is in a database, the lock is there as well."""

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks.file import FileLakeLock
from star_pipeline.config.models import JournalDatabase, StarConfig
from star_pipeline.core.locking import LakeLock


def lake_lock(config: StarConfig, lake: Lake) -> LakeLock:
    """Raises ConfigError."""
    return lock_in(config.journal.postgres_env if isinstance(config.journal, JournalDatabase) else "", lake)


def lock_in(variable: str, lake: Lake) -> LakeLock:
    """The lock in the database whose URL an environment variable holds; without one, the file. Raises ConfigError."""
    if not variable:
        return FileLakeLock(lake)
    from star_pipeline.adapters.locks.database import PostgresLakeLock
    from star_pipeline.adapters.postgres import Postgres

    return PostgresLakeLock(Postgres.of(variable), lake)
