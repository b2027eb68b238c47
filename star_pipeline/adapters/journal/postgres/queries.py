"""What can be asked of the journal in PostgreSQL."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from star_pipeline.adapters.journal.postgres.schema import LOCK
from star_pipeline.core.journal import MOST, Batch, Entry, Sent, Spend

_ENTRY = "lake, purpose, text, finish_reason, prompt_tokens, completion_tokens, pico, latency_s, attempts, top_logprobs"
_BATCH = "id, marker, agent, owner, file, remote, at"
_REQUEST = "key, reservation, lake, agent, stage, purpose, template, sample, params, prompt_bytes, prompt_bound, tries"
_NUMBERS = "lake, agent, stage, replies, prompt_bytes, prompt_tokens, completion_tokens, spent, reserved"


def find(cursor: Any, keys: Sequence[bytes]) -> list[Entry | None]:
    """The replies to these requests, in their order."""
    cursor.execute(f"SELECT key, {_ENTRY} FROM star_journal.reply WHERE key = ANY(%s)", (list(keys),))
    found = {bytes(key): _entry(row) for key, *row in cursor.fetchall()}
    return [found.get(key) for key in keys]


def batch(cursor: Any, number: int) -> Batch | None:
    cursor.execute(f"SELECT {_BATCH} FROM star_journal.batch WHERE id = %s", (number,))
    row = cursor.fetchone()
    return Batch(*row) if row else None


def holding(cursor: Any, key: bytes) -> int | None:
    cursor.execute("SELECT batch FROM star_journal.batch_request WHERE key = %s", (key,))
    row = cursor.fetchone()
    return int(row[0]) if row else None


def in_batches(cursor: Any) -> set[bytes]:
    cursor.execute("SELECT key FROM star_journal.batch_request")
    return {bytes(key) for (key,) in cursor.fetchall()}


def sent_in(cursor: Any, number: int) -> list[Sent]:
    cursor.execute(f"SELECT {_REQUEST} FROM star_journal.batch_request WHERE batch = %s ORDER BY id", (number,))
    names = _REQUEST.split(", ")
    told = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [Sent(**{**one, "key": bytes(one["key"]), "params": json.loads(one["params"])}) for one in told]


def any_open(cursor: Any) -> bool:
    cursor.execute("SELECT EXISTS (SELECT 1 FROM star_journal.batch_request)")
    return bool(cursor.fetchone()[0])


def replies(cursor: Any) -> int:
    cursor.execute("SELECT count(key) FROM star_journal.reply")
    return int(cursor.fetchone()[0])


def spend(cursor: Any, lake: str) -> list[Spend]:
    cursor.execute(
        "SELECT l.agent, l.stage, l.replies, l.prompt_bytes, l.prompt_tokens, l.completion_tokens, l.spent, "
        "(SELECT count(*) FROM star_journal.reservation AS r WHERE r.lake = l.lake AND r.agent = l.agent AND r.stage = l.stage), "
        'l.reserved FROM star_journal.ledger AS l WHERE l.lake = %s ORDER BY l.agent COLLATE "C", l.stage COLLATE "C"',
        (lake,),
    )
    return [Spend(*row) for row in cursor.fetchall()]


def recount(cursor: Any) -> bool:
    """Make the running totals what their rows sum up to; returns whether they were."""
    cursor.execute("BEGIN; SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    sums = ", ".join(
        f"LEAST(sum({name}::numeric), {MOST})::bigint"
        for name in ("replies", "prompt_bytes", "prompt_tokens", "completion_tokens", "spent", "reserved")
    )
    cursor.execute(
        f"SELECT lake, agent, stage, {sums} FROM ("
        "SELECT lake, agent, stage, 1 AS replies, prompt_bytes, prompt_tokens, completion_tokens, pico AS spent, 0 AS reserved "
        "FROM star_journal.reply UNION ALL "
        "SELECT lake, agent, stage, 0, 0, 0, 0, 0, pico FROM star_journal.reservation) AS rows GROUP BY lake, agent, stage"
    )
    counted = sorted(cursor.fetchall())
    cursor.execute(f"SELECT {_NUMBERS} FROM star_journal.ledger")
    right = counted == sorted(row for row in cursor.fetchall() if any(row[3:]))
    if not right:
        cursor.execute("DELETE FROM star_journal.ledger")
        cursor.executemany(f"INSERT INTO star_journal.ledger({_NUMBERS}) VALUES ({', '.join(['%s'] * 9)})", counted)
    cursor.execute("COMMIT")
    return right


def _entry(row: Sequence[Any]) -> Entry:
    lake, purpose, text, *rest = row[:-1]
    told = row[-1]
    alternatives = tuple((str(token), float(logprob)) for token, logprob in json.loads(told)) if told else ()
    entry = Entry(lake, purpose, bytes(text).decode("utf-8", "surrogatepass"), *rest)
    return replace(entry, top_logprobs=alternatives) if told else entry
