"""A journal's file put into PostgreSQL: as often as one likes, each reply once, and looked at afterwards."""

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from star_pipeline.adapters.journal.postgres import queries, schema
from star_pipeline.adapters.journal.postgres.changes import Add, storable
from star_pipeline.adapters.journal.postgres.transaction import copy_open, write
from star_pipeline.adapters.journal.sqlite.contents import Contents, contents_of
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.errors import LakeError

_STEP = 500
"""Replies of one transaction: what a kill can make to be sent anew."""


@dataclass(frozen=True)
class Copied:
    """``new`` of the file's ``replies`` were not there before; ``pico`` (1e-12 USD) is what all of them cost."""

    replies: int
    new: int
    pico: int
    reservations: int
    batches: int


def copy_journal(folder: Path, postgres: Postgres, tell: Callable[[int, int], None]) -> Copied:
    """``tell`` is told how many of how many numbers are done. What is there already stays as it is; a second call goes on.

    Raises LakeError where there is no file, where the database cannot be written, or where counts and sums differ in the end.
    """
    with contextlib.ExitStack() as stack:
        contents = stack.enter_context(contents_of(folder))
        session = stack.enter_context(contextlib.closing(postgres.connect("star-pipeline journal copy")))
        stack.enter_context(postgres.told())
        cursor = stack.enter_context(session.cursor())
        schema.prepare(cursor)
        source, end, new = contents.identity(), contents.numbers(), 0
        for begin in range(1, end, _STEP):
            new += _copied(cursor, contents, source, begin)
            tell(min(begin + _STEP, end) - 1, end - 1)
        reservations, batches = _open_ones(cursor, contents, source)
        replies, pico = _compared(cursor, contents, source, end, folder)
        queries.recount(cursor)
    return Copied(replies, new, pico, reservations, batches)


def _copied(cursor: Any, contents: Contents, source: uuid.UUID, begin: int) -> int:
    numbers = {str(_once(source, number)): number for number in range(begin, begin + _STEP)}
    cursor.execute("SELECT once FROM star_journal.reply WHERE once = ANY(%s::uuid[])", (list(numbers),))
    there = [numbers[str(once)] for (once,) in cursor.fetchall()]
    left = contents.replies(begin, begin + _STEP, there)
    adds = [Add(storable(one.paid), None, None, _once(source, one.number), one.at, one.found) for one in left]
    if adds:
        write(cursor, "", adds)
    return len(adds)


def _open_ones(cursor: Any, contents: Contents, source: uuid.UUID) -> tuple[int, int]:
    """Reservations and batches made since the file was copied last: those from before may be settled by now."""
    now = time.time()
    cursor.execute("SELECT at FROM star_journal.copied WHERE source = %s::uuid", (str(source),))
    row = cursor.fetchone()
    reservations = contents.reservations(row[0] if row else 0.0)
    batches = [(batch, sent) for batch, sent in contents.open_batches() if not row or batch.at > row[0]]
    copy_open(
        cursor,
        [
            (_once(source, -one.number), one.lake, one.agent, one.stage, one.pico, one.fate, one.at)
            for one in reservations
        ],
        [(batch, [replace(one, worst=None) for one in sent]) for batch, sent in batches],
        {one.number: _once(source, -one.number) for one in reservations},
        (source, now),
    )
    return len(reservations), len(batches)


def _compared(cursor: Any, contents: Contents, source: uuid.UUID, end: int, folder: Path) -> tuple[int, int]:
    """(replies, cost) of all."""
    replies = pico = 0
    for begin in range(1, end, _STEP):
        onces = [str(_once(source, number)) for number in range(begin, begin + _STEP)]
        cursor.execute(
            "SELECT count(*), coalesce(sum(pico), 0), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
            "coalesce(sum(length(text)), 0) FROM star_journal.reply WHERE once = ANY(%s::uuid[])",
            (onces,),
        )
        there, here = tuple(map(int, cursor.fetchone())), contents.sums(begin, begin + _STEP)
        if there != here:
            raise LakeError(
                f"{folder}: replies {begin} to {begin + _STEP - 1} are {here} there and {there} in PostgreSQL (replies, cost, tokens "
                "in and out, bytes); expected the same: copy again while nothing runs on the lake"
            )
        replies, pico = replies + here[0], pico + here[1]
    return replies, pico


def _once(source: uuid.UUID, number: int) -> uuid.UUID:
    return uuid.uuid5(source, str(number))
