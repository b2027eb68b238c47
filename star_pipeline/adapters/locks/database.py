"""The lock in PostgreSQL: advisory locks of a session, which the server frees once the session has ended, wherever its process was.

On this machine the lock's file is held as well: it keeps out who was given another configuration.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from star_pipeline.adapters.held import unwatch, watch
from star_pipeline.adapters.journal.postgres.schema import is_there, prepare
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.errors import LakeBusy, StorageTrouble
from star_pipeline.core.locking import Holder, Kind

_LAKE, _PUBLISHING, _STUDY, _SERVER = "lake", "publishing", "study", "server"
_LOOK_S = 0.2
_HOLDER = """
SELECT h.owner, h.pid, h.host, h.since FROM star_journal.holder AS h
JOIN pg_locks AS l ON l.pid = h.backend AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE h.lake = %s AND h.kind = %s AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid
"""
_NOTE = """
INSERT INTO star_journal.holder(lake, kind, owner, pid, host, since, backend) VALUES (%s, %s, %s, %s, %s, %s, pg_backend_pid())
ON CONFLICT (lake, kind) DO UPDATE SET owner = excluded.owner, pid = excluded.pid, host = excluded.host, since = excluded.since,
    backend = excluded.backend
"""


class PostgresLakeLock:
    """``core.locking.LakeLock`` in the database of the lake's journal."""

    def __init__(self, postgres: Postgres, lake: Lake) -> None:
        self._postgres, self._lake, self._file = postgres, lake, FileLakeLock(lake)

    def hold(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return self._both(self._file.hold(owner, patience_s), _LAKE, owner, patience_s, "is in use by")

    def hold_publishing(self, owner: str, patience_s: float = 300.0) -> AbstractContextManager[None]:
        on_file = self._file.hold_publishing(owner, patience_s)
        return self._both(on_file, _PUBLISHING, owner, patience_s, "is being published by")

    def hold_study(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return self._both(self._file.hold_study(owner, patience_s), _STUDY, owner, patience_s, "is being studied by")

    def hold_for_good(self, owner: str) -> None:
        self._file.hold_for_good(owner)
        session = _Session(self._postgres, self._lake, owner)
        if not session.take(_SERVER, owner):
            first = session.holder(_SERVER) or "another process"
            session.close()
            raise LakeBusy(f"{self._lake.root} is served by {first}; use that one, or stop it first")
        os.set_inheritable(session.descriptor, True)  # the session lasts as long as its connection does
        _kept.append(session)

    def holder(self) -> Holder | None:
        return self._holder(_LAKE)

    def _holder(self, kind: str) -> Holder | None:
        looking = closing(self._postgres.connect("star-pipeline, looking who holds the lake"))
        with looking as connection, self._postgres.told(), connection.cursor() as cursor:
            return _holder(cursor, self._lake.lake_id, kind) if is_there(cursor) else None

    def is_held_by(self, host: str, pid: int, kind: Kind = "lake") -> bool | None:
        found = self._holder(_STUDY if kind == "study" else _LAKE)
        return found is not None and (found.host, found.pid) == (host, pid)

    @contextmanager
    def _both(
        self, on_file: AbstractContextManager[None], kind: str, owner: str, patience_s: float, held_by: str
    ) -> Iterator[None]:
        with on_file:
            self._take(kind, owner, patience_s, held_by)
            try:
                yield
            finally:
                self._let_go(kind)

    def _take(self, kind: str, owner: str, patience_s: float, held_by: str) -> None:
        until = time.monotonic() + patience_s
        while True:
            with _guard:
                session = _sessions.get(self._key)
                if session is None:
                    session = _Session(self._postgres, self._lake, owner)
                    _sessions[self._key] = session
                    watch(str(self._lake.root), session.require)
                try:
                    if session.take(kind, owner):
                        return
                    first = session.holder(kind) or "another process"
                finally:
                    self._close_unused(session)
            if time.monotonic() >= until:
                raise LakeBusy(f"{self._lake.root} {held_by} {first}; wait until it has ended, or stop it")
            time.sleep(_LOOK_S)

    def _let_go(self, kind: str) -> None:
        with _guard:
            session = _sessions[self._key]
            session.let_go(kind)
            self._close_unused(session)

    def _close_unused(self, session: "_Session") -> None:
        if not session.held:
            del _sessions[self._key]
            unwatch(str(self._lake.root))
            session.close()

    @property
    def _key(self) -> tuple[str, str]:
        return self._postgres.url, str(self._lake.root)


class _Session:
    """A process's session for a lake: ``held`` counts how often it has taken which lock."""

    def __init__(self, postgres: Postgres, lake: Lake, owner: str) -> None:
        self._postgres, self._lake, self._id = postgres, lake, lake.lake_id
        self._lost: StorageTrouble | None = None
        self._using = threading.Lock()
        self.held: dict[str, int] = {}
        self._connection = postgres.connect(f"{owner} on {socket.gethostname()}")
        try:
            with postgres.told(), self._connection.cursor() as cursor:
                prepare(cursor)
                self._backend = _backend(cursor)
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        return self._connection.fileno()

    def take(self, kind: str, owner: str) -> bool:
        """Raises StorageTrouble."""
        self.require()
        if kind not in self.held:
            with self._using, self._postgres.told(), self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", (_number(self._id, kind),))
                if cursor.fetchone() != (True,):
                    return False
                since = datetime.now(UTC).isoformat("T", "seconds")
                cursor.execute(_NOTE, (self._id, kind, owner, os.getpid(), socket.gethostname(), since))
        self.held[kind] = self.held.get(kind, 0) + 1
        return True

    def let_go(self, kind: str) -> None:
        self.held[kind] -= 1
        if self.held[kind] == 0:
            del self.held[kind]
            # where the session was lost, the server has freed it
            with suppress(StorageTrouble), self._using, self._postgres.told(), self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (_number(self._id, kind),))

    def holder(self, kind: str) -> Holder | None:
        with self._using, self._postgres.told(), self._connection.cursor() as cursor:
            return _holder(cursor, self._id, kind)

    def require(self) -> None:
        """Raises StorageTrouble where the session has ended, and its locks with it: another process may be at work by now."""
        with self._using:
            if self._lost is None:
                try:
                    with self._postgres.told(), self._connection.cursor() as cursor:
                        if _backend(cursor) != self._backend:
                            raise StorageTrouble(
                                f"{self._postgres}: a pool hands its sessions on, which locks need for themselves; expected a server, or a "
                                "pool of sessions, in the variable; then run the same command to go on"
                            )
                except StorageTrouble as error:
                    self._lost = error
            if self._lost is not None:
                raise StorageTrouble(f"{self._lake.root}: its lock was lost, and nothing more is written: {self._lost}")

    def close(self) -> None:
        self._connection.close()


def _backend(cursor: Any) -> int:
    cursor.execute("SELECT pg_backend_pid()")
    return int(cursor.fetchone()[0])


def _holder(cursor: Any, lake: str, kind: str) -> Holder | None:
    whole = _number(lake, kind) % 2**64
    cursor.execute(_HOLDER, (lake, kind, whole >> 32, whole % 2**32))
    row = cursor.fetchone()
    return Holder(*row) if row else None


def _number(lake: str, kind: str) -> int:
    """The advisory lock's, a signed 64-bit integer."""
    return int.from_bytes(hashlib.sha256(f"star-pipeline {kind} {lake}".encode()).digest()[:8], "big", signed=True)


_guard = threading.RLock()
_sessions: dict[tuple[str, str], _Session] = {}
_kept: list[_Session] = []
