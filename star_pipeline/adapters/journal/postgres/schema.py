"""The journal's tables in PostgreSQL, in a schema of their own, so that the database may be Dagster's as well."""

from typing import Any

from star_pipeline.core.errors import StorageTrouble

VERSION = 1
LOCK = 0x53544152
"""The advisory lock of who writes: one transaction after the other, as in a file."""
TABLES = f"""
CREATE SCHEMA IF NOT EXISTS star_journal;
CREATE TABLE star_journal.reply(
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key BYTEA UNIQUE, once UUID NOT NULL UNIQUE, lake TEXT NOT NULL,
    agent TEXT NOT NULL, stage TEXT NOT NULL, purpose TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL,
    sample BIGINT NOT NULL, text BYTEA NOT NULL, finish_reason TEXT NOT NULL, prompt_bytes BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, pico BIGINT NOT NULL, latency_s DOUBLE PRECISION NOT NULL,
    attempts BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL, top_logprobs TEXT
);
CREATE TABLE star_journal.reservation(
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, once UUID NOT NULL UNIQUE, lake TEXT NOT NULL, agent TEXT NOT NULL,
    stage TEXT NOT NULL, pico BIGINT NOT NULL, fate TEXT NOT NULL, at DOUBLE PRECISION NOT NULL
);
CREATE TABLE star_journal.ledger(
    lake TEXT, agent TEXT, stage TEXT, replies BIGINT NOT NULL, prompt_bytes BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL, spent BIGINT NOT NULL, reserved BIGINT NOT NULL, PRIMARY KEY(lake, agent, stage)
);
CREATE TABLE star_journal.batch(
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, marker TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, owner TEXT NOT NULL,
    file TEXT, remote TEXT, at DOUBLE PRECISION NOT NULL
);
CREATE TABLE star_journal.batch_request(
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key BYTEA NOT NULL UNIQUE, batch BIGINT NOT NULL, reservation BIGINT,
    lake TEXT NOT NULL, agent TEXT NOT NULL, stage TEXT NOT NULL, purpose TEXT NOT NULL, template TEXT NOT NULL,
    sample BIGINT NOT NULL, params TEXT NOT NULL, prompt_bytes BIGINT NOT NULL, prompt_bound BIGINT NOT NULL, tries BIGINT NOT NULL
);
CREATE INDEX batch_requests ON star_journal.batch_request(batch);
CREATE TABLE star_journal.copied(
    source UUID PRIMARY KEY, at DOUBLE PRECISION NOT NULL
);
CREATE TABLE star_journal.holder(
    lake TEXT, kind TEXT, owner TEXT NOT NULL, pid BIGINT NOT NULL, host TEXT NOT NULL, since TEXT NOT NULL, backend INTEGER NOT NULL,
    PRIMARY KEY(lake, kind)
);
CREATE TABLE star_journal.version(version INTEGER NOT NULL);
INSERT INTO star_journal.version VALUES ({VERSION});
"""
"""``once`` names a change by who asked for it: made again after a connection was lost, it is made once. ``copied`` tells which files of
SQLite were copied here, and when last; ``holder`` who took which lock of a lake last, which holds as long as
the session ``backend`` has it."""


def is_there(cursor: Any) -> bool:
    """Whether there is a journal. Raises StorageTrouble where it is of another version."""
    cursor.execute("SELECT to_regclass('star_journal.version') IS NOT NULL")
    if not cursor.fetchone()[0]:
        return False
    cursor.execute("SELECT max(version) FROM star_journal.version")
    [found] = cursor.fetchone()
    if found != VERSION:
        raise StorageTrouble(
            f"the journal in PostgreSQL is of version {found}, expected {VERSION}: use the version of star-pipeline that made it, or "
            "another database"
        )
    return True


def prepare(cursor: Any) -> None:
    """Make the tables where there are none."""
    if is_there(cursor):
        return
    cursor.execute("BEGIN")
    try:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if not is_there(cursor):  # another process may have made them meanwhile
            cursor.execute(TABLES)
        cursor.execute("COMMIT")
    except BaseException:
        if not cursor.connection.closed:
            cursor.execute("ROLLBACK")
        raise
