"""A lake's own journal that its configuration does not name: what is in it would be paid again, so that it is told of before."""

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_pipeline.adapters.journal.sqlite.errors import trouble
from star_pipeline.adapters.journal.sqlite.file import FILE, connect
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.adapters.stores.keeper import keeper_elsewhere
from star_pipeline.config.models import JournalDatabase, StarConfig
from star_pipeline.core.errors import LakeError

_COPIED = "copied.json"
"""In ``journal/`` of a lake in a bucket: some machine's journal was copied to a database, whichever machine asks."""
_COPY = "star-pipeline journal copy, with this configuration and lake"


@dataclass(frozen=True)
class _Older:
    path: Path
    replies: int
    last: float
    """When the last of them came, in s since 1970."""
    identity: str | None


def passed_over(config: StarConfig, lake: Lake) -> str | None:
    """What to say where the configuration names another folder than the lake's own, which holds replies. Raises StorageTrouble."""
    if not isinstance(config.journal, str):
        return None
    own = _own(lake)
    if own is None or own.path.parent.resolve() == Path(config.journal).resolve():
        return None
    return (
        f"{own.path}: {own.replies:,} replies that are not looked for, since the configuration has journal: {config.journal}; to use them, "
        f"leave that out, or copy both to PostgreSQL (journal: {{postgres_env: STAR_DATABASE}}, star-pipeline journal copy)"
    )


def require_copied(config: StarConfig, lake: Lake) -> None:
    """Raises LakeError where the journal is in a database, and an older one of the lake was never copied there, in this machine's folder,
    in the bucket or on another machine: what, where and the remedy; StorageTrouble where either cannot be read."""
    if not isinstance(config.journal, JournalDatabase):
        return
    own, database = _own(lake), Postgres.of(config.journal.postgres_env)
    if own is not None:
        if not _is_in(database, own):
            raise LakeError(
                f"{own.path}: {own.replies:,} replies that are not in {database}, and would be paid again; put them there: {_COPY} "
                "(it costs nothing, and copies each once); or remove the file to pay for all anew"
            )
        note_copied(lake, database)
        return
    if not lake.shared or (lake.root / "journal" / _COPIED).is_file():
        return
    in_bucket, here = lake.root / "journal" / FILE, Path(lake.local(lake.journal)) / FILE
    if in_bucket.is_file():
        raise LakeError(
            f"{in_bucket}: replies of the folder that this lake was copied from, which may not be in {database} and would be paid again; "
            f"download it (and {FILE}-wal, if there is one) to {here}, then: {_COPY}; or remove it from the bucket to pay for all anew"
        )
    if kept := keeper_elsewhere(lake.root, lake.journal):
        host, folder, note = kept
        raise LakeError(
            f"{lake.root}: its replies were kept on {host} in {folder}, and may not be in {database}; put them there, on {host}: {_COPY}; "
            f"where that folder is gone for good, remove {note}"
        )


def note_copied(lake: Lake, database: Postgres) -> None:
    """Let other machines know that what was kept here is in the database."""
    path = lake.root / "journal" / _COPIED
    if lake.shared and not path.is_file():
        lake.write_bytes(path, json.dumps({"to": str(database)}).encode())


def _own(lake: Lake) -> _Older | None:
    """The file in the lake's own folder on this machine; None where there is none, or none with replies."""
    path = Path(lake.local(lake.journal)) / FILE
    if not path.is_file():
        return None
    try:
        with contextlib.closing(connect(path, read_only=True)) as db:
            if not _has(db, "reply"):
                return None
            last = db.execute("SELECT id, at FROM reply ORDER BY id DESC LIMIT 1").fetchone()
            named = db.execute("SELECT id FROM identity").fetchone() if _has(db, "identity") else None
    except sqlite3.Error as error:
        raise trouble(path, str(error)) from error
    return _Older(path, last[0], last[1], named[0] if named else None) if last else None


def _has(db: sqlite3.Connection, table: str) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0])


def _is_in(database: Postgres, own: _Older) -> bool:
    """Whether it was copied after its last reply came."""
    from star_pipeline.adapters.journal.postgres.schema import is_there

    if own.identity is None:
        return False
    with (
        contextlib.closing(database.connect("star-pipeline, looking for an older journal")) as session,
        database.told(),
    ):
        cursor: Any = session.cursor()
        if not is_there(cursor):
            return False
        cursor.execute("SELECT at FROM star_journal.copied WHERE source = %s::uuid", (own.identity,))
        row = cursor.fetchone()
    return row is not None and row[0] >= own.last
