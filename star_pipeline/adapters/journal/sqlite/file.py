"""Opening the journal's file: made where none is, refused where it is another program's."""

import sqlite3
from pathlib import Path

from star_pipeline.adapters.journal.sqlite import batches, ledger, replies

FILE = "journal.sqlite"
PATIENCE_S = 60.0
_APPLICATION = 0x53544152
_VERSION = 1
_TABLES = replies.TABLE + ledger.TABLES


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
    if read_only:
        db.execute("PRAGMA query_only = ON")
    return db


def opened(path: Path) -> sqlite3.Connection:
    db = connect(path)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application == version == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            for statement in filter(str.strip, _TABLES.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
        elif (application, version) != (_APPLICATION, _VERSION):
            of = f"version {version}" if application == _APPLICATION else "another program's database"
            raise sqlite3.DatabaseError(f"{of}, expected a journal of version {_VERSION}")
        for statement in (replies.TOLD, *batches.TABLES):
            db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        db.close()
        raise
    return db
