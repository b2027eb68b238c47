"""Many changes in one transaction, in a number of statements that does not grow with theirs: each costs a way over the network.

They are independent of each other, since nobody has been told of any yet: what makes room in the budget goes first.
"""

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from star_pipeline.adapters.journal.postgres.changes import (
    Add,
    Begin,
    Change,
    Claim,
    Created,
    Drop,
    Keep,
    Release,
    Reserve,
    Uploaded,
)
from star_pipeline.adapters.journal.postgres.schema import LOCK
from star_pipeline.core.journal import AHEAD, MOST, Batch, Begun, Sent

C = TypeVar("C")
_NUMBERS = ("replies", "prompt_bytes", "prompt_tokens", "completion_tokens", "spent", "reserved")
_BOOK = (
    f"INSERT INTO star_journal.ledger AS l (lake, agent, stage, {', '.join(_NUMBERS)}) VALUES %s "
    "ON CONFLICT (lake, agent, stage) DO UPDATE SET "
    + ", ".join(f"{name} = LEAST(l.{name}::numeric + excluded.{name}, {MOST})" for name in _NUMBERS)
)
REPLY = (
    "key, once, lake, agent, stage, purpose, model, template, sample, text, finish_reason, prompt_bytes, prompt_tokens, completion_tokens, "
    "pico, latency_s, attempts, at, top_logprobs"
)
REPLY_ROW = f"(%s, %s::uuid, {', '.join(['%s'] * 17)})"


def write(cursor: Any, lake: str, changes: Sequence[Change]) -> list[Any]:
    """The result of each, once all are on disk: for an addition, whether its reply is the one to use."""
    work = _Transaction(cursor, lake)
    cursor.execute("BEGIN; SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    results: list[Any] = [None] * len(changes)

    def of(kind: type[C]) -> list[tuple[int, C]]:
        return [(place, change) for place, change in enumerate(changes) if isinstance(change, kind)]

    if adds := of(Add):
        for (place, _), mine in zip(adds, work.add([add for _, add in adds]), strict=True):
            results[place] = mine
    work.claim([claim for _, claim in of(Claim)])
    for place, drop in of(Drop):
        results[place] = work.drop(drop)
    work.release([change.reservation for _, change in of(Release)])
    work.keep([(change.reservation, change.fate) for _, change in of(Keep)])
    for _, uploaded in of(Uploaded):
        sql = "UPDATE star_journal.batch SET file = %s, at = %s WHERE id = %s"
        cursor.execute(sql, (uploaded.file, time.time(), uploaded.batch))
    for _, created in of(Created):
        cursor.execute("UPDATE star_journal.batch SET remote = %s WHERE id = %s", (created.remote, created.batch))
    if reserves := of(Reserve):
        for (place, _), made in zip(reserves, work.reserve([change for _, change in reserves]), strict=True):
            results[place] = made
    for place, begin in of(Begin):
        results[place] = work.begin(begin)
    work.book()
    cursor.execute("COMMIT")
    return results


def copy_open(
    cursor: Any,
    reservations: Sequence[tuple[uuid.UUID, str, str, str, int, str, float]],
    batches: Sequence[tuple[Batch, Sequence[Sent]]],
    held: Mapping[int, uuid.UUID],
    copied: tuple[uuid.UUID, float],
) -> None:
    """Reservations (once, lake, agent, stage, pico, fate, at) and open batches of another journal, where they are not here yet.

    ``held`` names the reservations by their numbers there; ``copied`` is noted (source, s since 1970).
    """
    work = _Transaction(cursor, "")
    cursor.execute("BEGIN; SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    work.copy_open(reservations, batches, held)
    work.book()
    sql = "INSERT INTO star_journal.copied VALUES (%s::uuid, %s) ON CONFLICT (source) DO UPDATE SET at = excluded.at"
    cursor.execute(sql, (str(copied[0]), copied[1]))
    cursor.execute("COMMIT")


class _Transaction:
    """One transaction; what it books is summed up, and written at its end."""

    def __init__(self, cursor: Any, lake: str) -> None:
        from psycopg2.extras import execute_values

        self._cursor, self._lake, self._values = cursor, lake, execute_values
        self._booked: dict[tuple[str, str, str], list[int]] = {}
        self._before: dict[str, int] = {}

    def add(self, adds: Sequence[Add]) -> list[bool]:
        left = self._taken((add.batch, add.paid.key) for add in adds if add.batch is not None)
        fresh = []
        for add in adds:
            if add.batch is None or (add.batch, add.paid.key) in left:
                left.discard((add.batch or 0, add.paid.key))
                fresh.append(add)
        mine = self._insert([_reply_row(add, add.paid.key if add.found else None) for add in fresh])
        # paid, and never to be found: the other reply is the one; or made before, and then nothing happens
        beside = self._insert([_reply_row(add, None) for add in fresh if str(add.once) not in mine])
        for add in fresh:
            if str(add.once) in mine or str(add.once) in beside:
                self._count(add.paid.entry.lake, add.paid.agent, add.paid.stage, (1, *add.paid.numbers, 0))
        self.release([add.reservation for add in fresh if add.reservation is not None])
        return [str(add.once) in mine for add in adds]

    def claim(self, claims: Sequence[Claim]) -> None:
        if claims:
            sql = (
                "UPDATE star_journal.reply AS r SET purpose = v.purpose FROM (VALUES %s) AS v(key, purpose, lake) "
                f"WHERE r.key = v.key AND r.lake = v.lake AND starts_with(r.purpose, '{AHEAD}')"
            )
            rows = [(claim.key, claim.purpose, self._lake) for claim in claims]
            self._values(self._cursor, sql, rows, page_size=len(rows))

    def drop(self, drop: Drop) -> list[bool]:
        left = self._taken((drop.batch, sent.key) for sent in drop.sent)
        there = []
        for sent in drop.sent:
            there.append((drop.batch, sent.key) in left)
            left.discard((drop.batch, sent.key))
        held = [sent.reservation for sent, was in zip(drop.sent, there, strict=True) if was and sent.reservation]
        if drop.billed_as is None:
            self.release(held)
        else:
            self.keep([(reservation, drop.billed_as) for reservation in held])
        return there

    def release(self, reservations: Sequence[int]) -> None:
        if reservations:
            sql = "DELETE FROM star_journal.reservation WHERE id = ANY(%s) RETURNING lake, agent, stage, pico"
            self._cursor.execute(sql, (list(reservations),))
            for lake, agent, stage, pico in self._cursor.fetchall():
                self._count(lake, agent, stage, (0, 0, 0, 0, 0, -pico))

    def keep(self, fates: Sequence[tuple[int, str]]) -> None:
        if fates:
            sql = "UPDATE star_journal.reservation AS r SET fate = v.fate FROM (VALUES %s) AS v(id, fate) WHERE r.id = v.id"
            self._values(self._cursor, sql, fates, page_size=len(fates))

    def reserve(self, changes: Sequence[Reserve]) -> list[int | None]:
        made = self._reservations_of([change.once for change in changes])
        granted = []
        for change in changes:
            if str(change.once) not in made and self._total(self._lake) + change.pico <= change.limit:
                granted.append((change.once, self._lake, change.agent, change.stage, change.pico))
                self._count(self._lake, change.agent, change.stage, (0, 0, 0, 0, 0, change.pico))
        made |= self._reserved(granted)
        return [made.get(str(change.once)) for change in changes]

    def begin(self, change: Begin) -> Begun:
        begun = Begun()
        self._cursor.execute("SELECT id FROM star_journal.batch WHERE marker = %s", (change.marker,))
        before = self._cursor.fetchone()
        known = self._known([one.key for one in change.requests], before[0] if before else None)
        taken: list[Sent] = []
        held: dict[bytes, uuid.UUID] = {}
        for one in change.requests:
            if begun.beyond_budget:
                begun.beyond_budget.append(one.key)
            elif one.key in known:
                begun.elsewhere.append(one.key)
            elif before is None and change.limit is not None and one.worst is not None:
                if self._total(one.lake) + one.worst > change.limit:
                    begun.beyond_budget.append(one.key)
                    continue
                held[one.key] = uuid.uuid4()
                self._count(one.lake, one.agent, one.stage, (0, 0, 0, 0, 0, one.worst))
                taken.append(one)
            else:
                taken.append(one)
            known.add(one.key)
        if before is None:
            begun.batch = self._write_batch(change, taken, held) if taken else None
        else:  # it was written, and the connection lost before we were told
            mine = self._requests_of(before[0])
            begun.beyond_budget += [one.key for one in taken if one.key not in mine]
            taken, begun.batch = [one for one in taken if one.key in mine], before[0]
        begun.taken = [one.key for one in taken]
        return begun

    def copy_open(
        self,
        reservations: Sequence[tuple[uuid.UUID, str, str, str, int, str, float]],
        batches: Sequence[tuple[Batch, Sequence[Sent]]],
        held: Mapping[int, uuid.UUID],
    ) -> None:
        ids = self._reserved_anew([(str(once), *of) for once, *of in reservations])
        for _, lake, agent, stage, pico, *_ in (row for row in reservations if str(row[0]) in ids):
            self._count(lake, agent, stage, (0, 0, 0, 0, 0, pico))
        for batch, sent in batches:
            known = self._known([one.key for one in sent], None)
            left = [one for one in sent if one.key not in known]
            sql = (
                "INSERT INTO star_journal.batch(marker, agent, owner, file, remote, at) VALUES (%s, %s, %s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING RETURNING id"
            )
            self._cursor.execute(sql, (batch.marker, batch.agent, batch.owner, batch.file, batch.remote, batch.at))
            made = self._cursor.fetchone() if left else None
            if made:
                mine = [(one, ids.get(str(held.get(one.reservation or 0)))) for one in left]
                self._write_requests(made[0], mine)

    def book(self) -> None:
        rows = [(*of, *numbers) for of, numbers in sorted(self._booked.items()) if any(numbers)]
        if rows:
            self._values(self._cursor, _BOOK, rows, page_size=len(rows))

    def _count(self, lake: str, agent: str, stage: str, numbers: Iterable[int]) -> None:
        sums = self._booked.setdefault((lake, agent, stage), [0] * len(_NUMBERS))
        sums[:] = [max(min(sum(both), MOST), -MOST) for both in zip(sums, numbers, strict=True)]

    def _total(self, lake: str) -> int:
        """What the lake has spent and reserved, with what this transaction has booked."""
        if lake not in self._before:
            sql = "SELECT coalesce(sum(spent::numeric + reserved), 0) FROM star_journal.ledger WHERE lake = %s"
            self._cursor.execute(sql, (lake,))
            self._before[lake] = int(self._cursor.fetchone()[0])
        return self._before[lake] + sum(
            numbers[4] + numbers[5] for of, numbers in self._booked.items() if of[0] == lake
        )

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> set[str]:
        """Which replies are new, by their ``once``."""
        if not rows:
            return set()
        sql = f"INSERT INTO star_journal.reply({REPLY}) VALUES %s ON CONFLICT DO NOTHING RETURNING once"
        made = self._values(self._cursor, sql, rows, template=REPLY_ROW, page_size=len(rows), fetch=True)
        return {str(once) for (once,) in made}

    def _taken(self, requests: Iterable[tuple[int | None, bytes]]) -> set[tuple[int, bytes]]:
        """Take requests out of their batches: those that were there still, by batch and key. A batch without any is no more."""
        rows = list(requests)
        if not rows:
            return set()
        sql = (
            "DELETE FROM star_journal.batch_request AS r USING (VALUES %s) AS v(batch, key) WHERE r.batch = v.batch AND r.key = v.key "
            "RETURNING r.batch, r.key"
        )
        gone = self._values(self._cursor, sql, rows, page_size=len(rows), fetch=True)
        if gone:
            sql = (
                "DELETE FROM star_journal.batch AS b WHERE id = ANY(%s) "
                "AND NOT EXISTS (SELECT 1 FROM star_journal.batch_request AS r WHERE r.batch = b.id)"
            )
            self._cursor.execute(sql, (list({batch for batch, _ in gone}),))
        return {(batch, bytes(key)) for batch, key in gone}

    def _reservations_of(self, onces: Sequence[uuid.UUID]) -> dict[str, int]:
        """Those that were made before the connection was lost."""
        sql = "SELECT once, id FROM star_journal.reservation WHERE once = ANY(%s::uuid[])"
        self._cursor.execute(sql, ([str(once) for once in onces],))
        return {str(once): number for once, number in self._cursor.fetchall()}

    def _reserved(self, granted: Sequence[tuple[uuid.UUID, str, str, str, int]]) -> dict[str, int]:
        return self._reserved_anew([(str(once), *of, "in flight", time.time()) for once, *of in granted])

    def _reserved_anew(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, int]:
        """Reservations as rows of their table: the numbers of those that were not there."""
        if not rows:
            return {}
        columns = "once, lake, agent, stage, pico, fate, at"
        sql = f"INSERT INTO star_journal.reservation({columns}) VALUES %s ON CONFLICT DO NOTHING RETURNING once, id"
        template = "(%s::uuid, %s, %s, %s, %s, %s, %s)"
        made = self._values(self._cursor, sql, rows, template=template, page_size=len(rows), fetch=True)
        return {str(once): number for once, number in made}

    def _known(self, keys: list[bytes], batch: int | None) -> set[bytes]:
        """Of these those that are answered, or in another open batch."""
        sql = (
            "SELECT key FROM star_journal.reply WHERE key = ANY(%s) UNION ALL "
            "SELECT key FROM star_journal.batch_request WHERE key = ANY(%s) AND batch IS DISTINCT FROM %s"
        )
        self._cursor.execute(sql, (keys, keys, batch))
        return {bytes(key) for (key,) in self._cursor.fetchall()}

    def _requests_of(self, batch: int) -> set[bytes]:
        self._cursor.execute("SELECT key FROM star_journal.batch_request WHERE batch = %s", (batch,))
        return {bytes(key) for (key,) in self._cursor.fetchall()}

    def _write_batch(self, change: Begin, taken: Sequence[Sent], held: dict[bytes, uuid.UUID]) -> int:
        of = {one.key: one for one in taken}
        granted = [(once, of[key].lake, of[key].agent, of[key].stage, of[key].worst or 0) for key, once in held.items()]
        ids = self._reserved(granted)
        sql = "INSERT INTO star_journal.batch(marker, agent, owner, at) VALUES (%s, %s, %s, %s) RETURNING id"
        self._cursor.execute(sql, (change.marker, change.agent, change.owner, time.time()))
        number = int(self._cursor.fetchone()[0])
        self._write_requests(number, [(one, ids[str(held[one.key])] if one.key in held else None) for one in taken])
        return number

    def _write_requests(self, batch: int, requests: Sequence[tuple[Sent, int | None]]) -> None:
        rows = [
            (
                one.key, batch, reservation, one.lake, one.agent, one.stage, one.purpose,
                one.template, one.sample, json.dumps(one.params, default=str), one.prompt_bytes, one.prompt_bound, one.tries,
            )
            for one, reservation in requests
        ]  # fmt: skip  # a column's value each
        columns = "key, batch, reservation, lake, agent, stage, purpose, template, sample, params, prompt_bytes, prompt_bound, tries"
        self._values(self._cursor, f"INSERT INTO star_journal.batch_request({columns}) VALUES %s", rows, page_size=1000)


def _reply_row(add: Add, key: bytes | None) -> tuple[Any, ...]:
    paid, entry = add.paid, add.paid.entry
    return (
        key, str(add.once), entry.lake, paid.agent, paid.stage, entry.purpose, paid.model, paid.template, paid.sample,
        entry.text.encode("utf-8", "surrogatepass"), entry.finish_reason, paid.prompt_bytes, entry.prompt_tokens,
        entry.completion_tokens, entry.pico, entry.latency_s, entry.attempts, add.at,
        json.dumps(entry.top_logprobs) if entry.top_logprobs else None,
    )  # fmt: skip  # a column's value each, in the table's order
