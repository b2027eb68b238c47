"""Which lock a lake has: where its journal is in a database, the lock is there as well."""

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.config.models import JournalDatabase, StarConfig
from star_pipeline.core.locking import LakeLock


def lake_lock(config: StarConfig, lake: Lake) -> LakeLock:
    """Raises ConfigError."""
    return lock_in(config.journal.postgres_env if isinstance(config.journal, JournalDatabase) else None, lake)


def lock_in(database: str | None, lake: Lake) -> LakeLock:
    """The same, from the environment variable with the database's URL; None where the lock is a file. Raises ConfigError."""
    if not database:
        return FileLakeLock(lake)
    from star_pipeline.adapters.locks.database import PostgresLakeLock
    from star_pipeline.adapters.postgres import Postgres

    return PostgresLakeLock(Postgres.of(database), lake)
