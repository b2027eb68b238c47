"""``star-pipeline journal copy``: what was paid before a lake's journal was in PostgreSQL is not paid again."""

from pathlib import Path

from star_pipeline.adapters.journal.copying import copy_journal
from star_pipeline.adapters.journal.older import note_copied
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.config import load_config
from star_pipeline.config.models import JournalDatabase
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.journal import PICO
from star_pipeline.core.ports import Progress


def run_copy(config: str, lake: Lake, source: str | None, progress: Progress) -> str:
    """What was copied, in a line. Raises StarError."""
    settings = load_config(config)
    if not isinstance(settings.journal, JournalDatabase):
        raise ConfigError(
            f"{config}: its journal is no database; set journal: {{postgres_env: STAR_DATABASE}} to say where to copy to"
        )
    folder = Path(source) if source else lake.journal_folder(None)
    postgres = Postgres.of(settings.journal.postgres_env)
    with lake_lock(settings, lake).hold("star-pipeline journal copy"):
        told = 0

        def tell(done: int, total: int) -> None:
            nonlocal told
            if told == 0:
                progress.stage("replies copied", total)
            progress.advance(done - told)
            told = done

        copied = copy_journal(folder, postgres, tell)
        note_copied(lake, postgres)
    beside = f", {copied.reservations:,} open reservations" if copied.reservations else ""
    beside += f", {copied.batches:,} open batches" if copied.batches else ""
    return (
        f"{copied.replies:,} replies ({copied.replies - copied.new:,} were there before), {copied.pico / PICO:.4f} USD{beside}: from "
        f"{folder} to {postgres}; counts and sums agree"
    )
