"""Which journal a lake has: what the configuration names, else a file in the lake."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_pipeline.adapters.journal.older import require_copied
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.journal.sqlite.reading import reading_file
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.config.models import JournalDatabase, StarConfig
from star_pipeline.core.journal import Journal, JournalReader
from star_pipeline.core.records import AgentSpend


def open_journal(config: StarConfig, lake: Lake) -> Journal:
    """To write; made where none is. To be opened, and closed, in the event loop that uses it.

    Raises StorageTrouble, ConfigError; LakeError where an older journal of the lake would not be looked for (``older``).
    """
    if isinstance(config.journal, JournalDatabase):
        require_copied(config, lake)
        from star_pipeline.adapters.journal.postgres.journal import PostgresJournal

        return PostgresJournal(Postgres.of(config.journal.postgres_env), lake.lake_id, unsent_folder(lake))
    return SqliteJournal(lake.journal_folder(config.journal, pays=True), lake.lake_id)


@contextmanager
def reading_journal(config: StarConfig, lake: Lake) -> Iterator[JournalReader]:
    """To look, for as long as the block runs; nothing is made, neither a journal nor the lake's name in it. Raises StorageTrouble,
    ConfigError."""
    if isinstance(config.journal, JournalDatabase):
        from star_pipeline.adapters.journal.postgres.reading import reading_database

        with reading_database(Postgres.of(config.journal.postgres_env), lake.known_id) as database:
            yield database
        return
    with reading_file(lake.journal_folder(config.journal), lake.known_id) as file:
        yield file


def read_spend(config: StarConfig, lake: Lake) -> list[AgentSpend]:
    """What the lake spent so far. Raises StorageTrouble, ConfigError."""
    with reading_journal(config, lake) as journal:
        return journal.spend()


def unsent_folder(lake: Lake) -> Path:
    """Where on this machine the replies are that were paid while the database was out of reach."""
    return Path(lake.local(lake.journal)) / "unsent"
