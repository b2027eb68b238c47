"""All that is in a journal's file, to be put into another journal. Raises StorageTrouble."""

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_pipeline.adapters.journal.sqlite import batches
from star_pipeline.adapters.journal.sqlite.errors import trouble
from star_pipeline.adapters.journal.sqlite.file import FILE, opened
from star_pipeline.core.errors import LakeError
from star_pipeline.core.journal import Batch, Entry, Paid, Sent

_REPLY = (
    "id, key, lake, agent, stage, purpose, model, template, sample, text, finish_reason, prompt_bytes, prompt_tokens, "
    "completion_tokens, pico, latency_s, attempts, at"
)


@dataclass(frozen=True)
class Reply:
    """``number`` is its place in the file, for good; one that is not ``found`` was paid, and another one is used in its place."""

    number: int
    found: bool
    paid: Paid
    at: float


@dataclass(frozen=True)
class Reservation:
    number: int
    lake: str
    agent: str
    stage: str
    pico: int
    fate: str
    at: float


class Contents:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def identity(self) -> uuid.UUID:
        """Names this file, for good; earlier versions pass over it."""
        self._db.execute("CREATE TABLE IF NOT EXISTS identity(id TEXT NOT NULL)")
        row = self._db.execute("SELECT id FROM identity").fetchone()
        if row:
            return uuid.UUID(row[0])
        made = uuid.uuid4()
        self._db.execute("INSERT INTO identity VALUES (?)", (str(made),))
        return made

    def numbers(self) -> int:
        """Above all replies' numbers."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM reply").fetchone()[0])

    def replies(self, begin: int, end: int, but: Sequence[int] = ()) -> list[Reply]:
        """Those with numbers from ``begin`` to below ``end``, in order, without some."""
        rows = self._db.execute(f"SELECT {_REPLY} FROM reply WHERE id >= ? AND id < ? ORDER BY id", (begin, end))
        told = dict(
            self._db.execute("SELECT reply, top_logprobs FROM told WHERE reply >= ? AND reply < ?", (begin, end))
        )
        left_out = set(but)
        return [_reply(row, told.get(row[0])) for row in rows if row[0] not in left_out]

    def sums(self, begin: int, end: int) -> tuple[int, ...]:
        """(replies, cost, tokens in, tokens out, bytes of text) of these numbers."""
        sql = "SELECT 1, pico, prompt_tokens, completion_tokens, length(text) FROM reply WHERE id >= ? AND id < ?"
        rows = self._db.execute(sql, (begin, end)).fetchall()
        return tuple(map(sum, zip(*rows, strict=True))) if rows else (0,) * 5

    def reservations(self, after: float) -> list[Reservation]:
        """Those made later than ``after`` (s since 1970)."""
        sql = "SELECT id, lake, agent, stage, pico, fate, at FROM reservation WHERE at > ? ORDER BY id"
        return [Reservation(*row) for row in self._db.execute(sql, (after,))]

    def open_batches(self) -> list[tuple[Batch, list[Sent]]]:
        numbers = [row[0] for row in self._db.execute("SELECT id FROM batch ORDER BY id")]
        found = [(batches.read(self._db, number), batches.sent_in(self._db, number)) for number in numbers]
        return [(batch, sent) for batch, sent in found if batch]


@contextlib.contextmanager
def contents_of(folder: Path) -> Iterator[Contents]:
    """Raises LakeError where there is no journal."""
    path = folder / FILE
    if not path.exists():
        raise LakeError(f"{path} is not there; name the folder of the journal to copy with --from")
    try:
        with contextlib.closing(opened(path)) as db:
            yield Contents(db)
    except sqlite3.Error as error:
        raise trouble(path, str(error)) from error


def _reply(row: Sequence[object], told: object) -> Reply:
    number, key, lake, agent, stage, purpose, model, template, sample, text, reason, prompt_bytes, *rest, at = row
    prompt_tokens, completion_tokens, pico, latency_s, attempts = rest
    alternatives = tuple((str(token), float(logprob)) for token, logprob in json.loads(str(told))) if told else ()
    entry = Entry(
        lake, purpose, text.decode("utf-8", "surrogatepass"), reason, prompt_tokens, completion_tokens, pico, latency_s, attempts,  # type: ignore[arg-type, attr-defined]  # as the columns are declared
        alternatives,
    )  # fmt: skip  # a field's value each
    paid = Paid(key or b"", agent, stage, template, sample, model, prompt_bytes, entry)  # type: ignore[arg-type]  # the same
    return Reply(number, key is not None, paid, at)  # type: ignore[arg-type]  # the same
