"""Which journal a lake has: what the configuration names, else a file in the lake."""

from collections.abc import Iterator
from contextlib import contextmanager

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.journal.sqlite.reading import reading_file
from star_pipeline.adapters.lake import Lake
from star_pipeline.config.models import StarConfig
from star_pipeline.core.journal import Journal, JournalReader
from star_pipeline.core.records import AgentSpend


def open_journal(config: StarConfig, lake: Lake) -> Journal:
    """To write; made where none is. To be opened, and closed, in the event loop that uses it. Raises StorageTrouble."""
    return SqliteJournal(lake.journal_folder(config.journal), lake.lake_id)


@contextmanager
def reading_journal(config: StarConfig, lake: Lake) -> Iterator[JournalReader]:
    """To look, for as long as the block runs; nothing is made, neither a journal nor the lake's name in it. Raises StorageTrouble."""
    with reading_file(lake.journal_folder(config.journal), lake.known_id) as reader:
        yield reader


def read_spend(config: StarConfig, lake: Lake) -> list[AgentSpend]:
    """What the lake spent so far. Raises StorageTrouble."""
    with reading_journal(config, lake) as journal:
        return journal.spend()
