"""The replies in the journal's file. Every function runs inside a transaction of its caller's."""

import json
import sqlite3
import time
from dataclasses import replace

from star_pipeline.adapters.journal.sqlite import batches, ledger
from star_pipeline.core.journal import Entry, Paid

TABLE = """
CREATE TABLE reply(
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, lake TEXT NOT NULL, agent TEXT NOT NULL, stage TEXT NOT NULL,
    purpose TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL, sample INTEGER NOT NULL, text BLOB NOT NULL,
    finish_reason TEXT NOT NULL, prompt_bytes INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, pico INTEGER NOT NULL, latency_s REAL NOT NULL, attempts INTEGER NOT NULL,
    at REAL NOT NULL
);
"""
TOLD = "CREATE TABLE IF NOT EXISTS told(reply INTEGER PRIMARY KEY, top_logprobs TEXT NOT NULL)"
"""Beside the replies, and not among them: earlier versions read and write these journals too, and made them without it."""
_ENTRY = "lake, purpose, text, finish_reason, prompt_tokens, completion_tokens, pico, latency_s, attempts"


def add(db: sqlite3.Connection, paid: Paid, reservation: int | None, batch: int | None) -> bool:
    """Whether this reply is the one to use, or has been booked before (out of ``batch``)."""
    if batch is not None and not batches.take(db, batch, paid.key):
        return False
    entry = paid.entry
    row = (
        entry.lake, paid.agent, paid.stage, entry.purpose, paid.model, paid.template, paid.sample,
        entry.text.encode("utf-8", "surrogatepass"), entry.finish_reason, paid.prompt_bytes, entry.prompt_tokens,
        entry.completion_tokens, entry.pico, entry.latency_s, entry.attempts, time.time(),
    )  # fmt: skip  # a column's value each, in the table's order
    insert = f"INSERT OR IGNORE INTO reply VALUES (NULL, {', '.join('?' * 17)})"
    added = db.execute(insert, (paid.key, *row))
    mine = added.rowcount == 1
    if mine and entry.top_logprobs:
        db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (added.lastrowid, json.dumps(entry.top_logprobs)))
    if not mine:
        db.execute(insert, (None, *row))  # paid, and never to be found: the other reply is the one
    if reservation is not None:
        ledger.release(db, reservation)
    ledger.book(db, entry.lake, paid.agent, paid.stage, paid.numbers)
    return mine


def find(db: sqlite3.Connection, key: bytes) -> Entry | None:
    row = db.execute(f"SELECT {_ENTRY}, id FROM reply WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    lake, purpose, text, *rest, number = row
    try:
        told = db.execute("SELECT top_logprobs FROM told WHERE reply = ?", (number,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # a journal that an earlier version made, opened to be read only
            raise
        told = None
    alternatives = tuple((str(token), float(logprob)) for token, logprob in json.loads(told[0])) if told else ()
    return replace(Entry(lake, purpose, text.decode("utf-8", "surrogatepass"), *rest), top_logprobs=alternatives)
