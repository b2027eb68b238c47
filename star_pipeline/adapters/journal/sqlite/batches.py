"""Batch jobs in the journal's database: what was sent as which, on disk before anybody waits for it.

Every function runs inside a transaction of its caller's. A request is in at most one open batch, whichever process sent it, and leaves
it once, in the transaction that books its reply: however many processes fetch the replies, each is booked once.
"""

import json
import sqlite3
import time
from collections.abc import Sequence

from star_pipeline.adapters.journal.sqlite import ledger
from star_pipeline.core.journal import Batch, Begun, Sent

TABLES = (
    "CREATE TABLE IF NOT EXISTS batch(id INTEGER PRIMARY KEY, marker TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, owner TEXT NOT NULL, "
    "file TEXT, remote TEXT, at REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS batch_request(key BLOB PRIMARY KEY, batch INTEGER NOT NULL, reservation INTEGER, lake TEXT NOT NULL, "
    "agent TEXT NOT NULL, stage TEXT NOT NULL, purpose TEXT NOT NULL, template TEXT NOT NULL, sample INTEGER NOT NULL, "
    "params TEXT NOT NULL, prompt_bytes INTEGER NOT NULL, prompt_bound INTEGER NOT NULL, tries INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS batch_requests ON batch_request(batch)",
)
"""Beside the replies, as ``told`` is: earlier versions read and write these journals too."""
_BATCH = "id, marker, agent, owner, file, remote, at"
_REQUEST = "key, reservation, lake, agent, stage, purpose, template, sample, params, prompt_bytes, prompt_bound, tries"


def begin(
    db: sqlite3.Connection, marker: str, agent: str, owner: str, requests: Sequence[Sent], limit: int | None
) -> Begun:
    """Write a batch down, with a reservation for each of its requests where there is a ``limit`` (1e-12 USD).

    Left out: requests that are answered, or in another open batch, and from the first one on that the budget is too small for, the rest.
    """
    begun = Begun()
    made = db.execute(
        "INSERT INTO batch(marker, agent, owner, at) VALUES (?, ?, ?, ?)", (marker, agent, owner, time.time())
    )
    for one in requests:
        if begun.beyond_budget:
            begun.beyond_budget.append(one.key)
            continue
        known = "SELECT 1 FROM reply WHERE key = ? UNION ALL SELECT 1 FROM batch_request WHERE key = ?"
        if db.execute(known, (one.key, one.key)).fetchone():
            begun.elsewhere.append(one.key)
            continue
        reservation = None
        if limit is not None and one.worst is not None:
            reservation = ledger.reserve(db, one.lake, one.agent, one.stage, one.worst, limit)
            if reservation is None:
                begun.beyond_budget.append(one.key)
                continue
        row = (
            one.key, made.lastrowid, reservation, one.lake, one.agent, one.stage, one.purpose, one.template, one.sample,
            json.dumps(one.params, default=str), one.prompt_bytes, one.prompt_bound, one.tries,
        )  # fmt: skip  # a column's value each, in the table's order
        db.execute(f"INSERT INTO batch_request VALUES ({', '.join('?' * len(row))})", row)
        begun.taken.append(one.key)
    if begun.taken:
        begun.batch = made.lastrowid
    else:
        db.execute("DELETE FROM batch WHERE id = ?", (made.lastrowid,))
    return begun


def holding(db: sqlite3.Connection, key: bytes) -> int | None:
    """The open batch that a request is in."""
    row = db.execute("SELECT batch FROM batch_request WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else None


def any_open(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM batch_request LIMIT 1").fetchone() is not None


def keys(db: sqlite3.Connection) -> set[bytes]:
    """All requests in open batches."""
    return {row[0] for row in db.execute("SELECT key FROM batch_request")}


def read(db: sqlite3.Connection, batch: int) -> Batch | None:
    row = db.execute(f"SELECT {_BATCH} FROM batch WHERE id = ?", (batch,)).fetchone()
    return Batch(*row) if row else None


def sent_in(db: sqlite3.Connection, batch: int) -> list[Sent]:
    """The requests that are still in a batch, in the order in which they were put there."""
    rows = db.execute(f"SELECT {_REQUEST} FROM batch_request WHERE batch = ? ORDER BY rowid", (batch,)).fetchall()
    names = _REQUEST.split(", ")
    told = [dict(zip(names, row, strict=True)) for row in rows]
    return [Sent(**{**one, "params": json.loads(one["params"])}) for one in told]


def uploaded(db: sqlite3.Connection, batch: int, file: str) -> None:
    """From here on the batch may exist at the provider."""
    db.execute("UPDATE batch SET file = ?, at = ? WHERE id = ?", (file, time.time(), batch))


def created(db: sqlite3.Connection, batch: int, remote: str) -> None:
    db.execute("UPDATE batch SET remote = ? WHERE id = ?", (remote, batch))


def take(db: sqlite3.Connection, batch: int, key: bytes) -> bool:
    """Take a request out, whose reply is booked in this very transaction; returns whether it was still there."""
    taken = db.execute("DELETE FROM batch_request WHERE key = ? AND batch = ?", (key, batch)).rowcount == 1
    db.execute("DELETE FROM batch WHERE id = ? AND NOT EXISTS (SELECT 1 FROM batch_request WHERE batch = id)", (batch,))
    return taken


def drop(db: sqlite3.Connection, batch: int, one: Sent, billed_as: str | None) -> bool:
    """Take a request out that got no reply; ``billed_as`` says why it may have been billed all the same, None that it was not."""
    taken = take(db, batch, one.key)
    if taken and one.reservation is not None:
        if billed_as is None:
            ledger.release(db, one.reservation)
        else:
            ledger.keep(db, one.reservation, billed_as)
    return taken
