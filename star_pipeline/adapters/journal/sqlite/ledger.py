"""The money in the journal's database, in whole 1e-12 USD: what each lake has spent, and what it has reserved.

Every function runs inside a transaction of its caller's. ``ledger`` holds running totals, changed in the same transaction
as the rows that they sum up, so that a reservation costs the same whatever came before; ``recount`` rebuilds them from
those rows.
"""

import sqlite3
import time

from star_pipeline.core.journal import AHEAD, MOST, Spend

TABLES = """
CREATE TABLE reservation(
    id INTEGER PRIMARY KEY, lake TEXT NOT NULL, agent TEXT NOT NULL, stage TEXT NOT NULL, pico INTEGER NOT NULL,
    fate TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE ledger(
    lake TEXT NOT NULL, agent TEXT NOT NULL, stage TEXT NOT NULL,
    replies INTEGER NOT NULL DEFAULT 0, prompt_bytes INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0, spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(lake, agent, stage)
) WITHOUT ROWID;
"""
_ADD = f"""
INSERT INTO ledger(lake, agent, stage, replies, prompt_bytes, prompt_tokens, completion_tokens, spent, reserved)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    replies = replies + excluded.replies, prompt_bytes = min(prompt_bytes + excluded.prompt_bytes, {MOST}),
    prompt_tokens = min(prompt_tokens + excluded.prompt_tokens, {MOST}),
    completion_tokens = min(completion_tokens + excluded.completion_tokens, {MOST}),
    spent = min(spent + excluded.spent, {MOST}), reserved = min(reserved + excluded.reserved, {MOST})
"""
_ROWS = """
SELECT lake, agent, stage, 1, prompt_bytes, prompt_tokens, completion_tokens, pico, 0 FROM reply
UNION ALL
SELECT lake, agent, stage, 0, 0, 0, 0, 0, pico FROM reservation
"""
_NUMBERS = "lake, agent, stage, replies, prompt_bytes, prompt_tokens, completion_tokens, spent, reserved"


def totals(db: sqlite3.Connection, lake: str) -> tuple[int, int]:
    """(spent, reserved) of a lake."""
    rows = db.execute("SELECT spent, reserved FROM ledger WHERE lake = ?", (lake,)).fetchall()
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def reserve(db: sqlite3.Connection, lake: str, agent: str, stage: str, pico: int, limit: int) -> int | None:
    """The reservation's id; None, and nothing changed, where the lake would get beyond ``limit``."""
    if sum(totals(db, lake)) + pico > limit:
        return None
    made = db.execute(
        "INSERT INTO reservation(lake, agent, stage, pico, fate, at) VALUES (?, ?, ?, ?, 'in flight', ?)",
        (lake, agent, stage, pico, time.time()),
    )
    db.execute(_ADD, (lake, agent, stage, 0, 0, 0, 0, 0, pico))
    return made.lastrowid


def release(db: sqlite3.Connection, reservation: int) -> None:
    """Its try certainly cost nothing, or its cost is booked in this very transaction."""
    row = db.execute(
        "DELETE FROM reservation WHERE id = ? RETURNING lake, agent, stage, pico", (reservation,)
    ).fetchone()
    if row:
        db.execute(_ADD, (*row[:3], 0, 0, 0, 0, 0, -row[3]))


def keep(db: sqlite3.Connection, reservation: int, fate: str) -> None:
    """Nobody knows whether its try was billed: it counts in full, for good."""
    db.execute("UPDATE reservation SET fate = ? WHERE id = ?", (fate, reservation))


def book(db: sqlite3.Connection, lake: str, agent: str, stage: str, numbers: tuple[int, int, int, int]) -> None:
    """A reply was paid: (prompt bytes, prompt tokens, completion tokens, cost)."""
    db.execute(_ADD, (lake, agent, stage, 1, *numbers, 0))


def claim(db: sqlite3.Connection, key: bytes, lake: str, purpose: str) -> None:
    """A reply that was asked ahead is for this purpose, unless another one has claimed it."""
    sql = "UPDATE reply SET purpose = ? WHERE key = ? AND lake = ? AND purpose GLOB ?"
    db.execute(sql, (purpose, key, lake, f"{AHEAD}*"))


def spend(db: sqlite3.Connection, lake: str) -> list[Spend]:
    """By agent and stage."""
    rows = db.execute(
        "SELECT l.agent, l.stage, l.replies, l.prompt_bytes, l.prompt_tokens, l.completion_tokens, l.spent, "
        "(SELECT count(*) FROM reservation AS r WHERE r.lake = l.lake AND r.agent = l.agent AND r.stage = l.stage), "
        "l.reserved FROM ledger AS l WHERE l.lake = ? ORDER BY l.agent, l.stage",
        (lake,),
    )
    return [Spend(*row) for row in rows]


def recount(db: sqlite3.Connection) -> bool:
    """Make the running totals what their rows sum up to; returns whether they were."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for *of, replies, prompt_bytes, prompt_tokens, completion_tokens, spent, reserved in db.execute(_ROWS):
        numbers = (replies, prompt_bytes, prompt_tokens, completion_tokens, spent, reserved)
        kept_sums = sums.setdefault((of[0], of[1], of[2]), [0] * 6)
        kept_sums[:] = [min(sum(both), MOST) for both in zip(kept_sums, numbers, strict=True)]
    counted = sorted((*of, *numbers) for of, numbers in sums.items())
    kept = [row for row in sorted(db.execute(f"SELECT {_NUMBERS} FROM ledger").fetchall()) if any(row[3:])]
    if counted == kept:
        return True
    db.execute("DELETE FROM ledger")
    db.executemany(f"INSERT INTO ledger({_NUMBERS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", counted)
    return False
