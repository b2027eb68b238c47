"""One holder a lake: an operating system's lock, which dies with its process. A second holder is refused, naming the first."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

import filelock
import psutil
from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.errors import LakeBusy
from star_pipeline.core.locking import Holder, Kind

_LOOK_S = 0.2
"""s: how long a look at the lock may keep somebody from it, at most."""


class FileLakeLock:
    """``core.locking.LakeLock`` by the operating system: a file of the lake, or of its workspace on this machine."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def hold(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return _held(self._lake, self._lake.lock, owner, patience_s, "is in use by")

    def hold_publishing(self, owner: str, patience_s: float = 300.0) -> AbstractContextManager[None]:
        return _held(self._lake, self._lake.publishing_lock, owner, patience_s, "is being published by")

    def hold_study(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return _held(self._lake, self._lake.study_lock, owner, patience_s, "is being studied by")

    def hold_for_good(self, owner: str) -> None:
        hold_for_good(self._lake, owner)

    def holder(self) -> Holder | None:
        return _holder(self._lake, self._lake.lock)

    def is_held_by(self, host: str, pid: int, kind: Kind = "lake") -> bool | None:
        path = self._lake.study_lock if kind == "study" else self._lake.lock
        try:
            # a lake in object storage has such a file on each machine
            if self._lake.shared or not path.exists():
                return None
        except OSError:
            return None
        found = _holder(self._lake, path)
        return found is not None and (found.host, found.pid) == (host, pid)


@contextmanager
def _held(lake: Lake, path: UPath, owner: str, patience_s: float, held_by: str) -> Iterator[None]:
    lake.workspace.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(lake.local(path), timeout=0, thread_local=False, is_singleton=True)
    first = not lock.is_locked
    # pid of the holder beside the lock: the lock file itself is emptied by whoever tries to take it
    note = _note(path)
    try:
        # somebody who only looks whether the lake is free holds it for a moment
        lock.acquire(timeout=max(patience_s, _LOOK_S))
    except filelock.Timeout as error:
        raise LakeBusy(f"{lake.root} {held_by} {_named(_read(note))}; wait until it has ended, or stop it") from error
    try:
        if first:
            _write(lake, note, owner)
        yield
    finally:
        if lock.lock_counter == 1:
            note.unlink(missing_ok=True)
        lock.release()


def hold_for_good(lake: Lake, owner: str) -> None:
    """As the port says. Raises LakeBusy where another one serves it."""
    lock = filelock.UnixFileLock(lake.local(lake.server_lock), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        first = _named(_read(_note(lake.server_lock)))
        raise LakeBusy(f"{lake.root} is served by {first}; use that one, or stop it first") from error
    _write(lake, _note(lake.server_lock), owner)
    descriptor = lock._context.lock_file_fd
    assert descriptor is not None
    os.set_inheritable(descriptor, True)
    _kept.append(lock)


_kept: list[filelock.BaseFileLock] = []


def _holder(lake: Lake, path: UPath) -> Holder | None:
    """Who holds this lock, by the note that he has left."""
    note = _read(_note(path))
    try:
        found = Holder(str(note["owner"]), int(note["pid"]), str(note["host"]), str(note["since"]))
    except (KeyError, ValueError, TypeError):
        return None
    return found if _lives(lake, path, found) else None


def _lives(lake: Lake, path: UPath, holder: Holder) -> bool:
    """Whether a holder that has left its note still holds the lock: one that was killed leaves it for good."""
    if holder.host == socket.gethostname():  # to try the lock could push aside a run that is just starting
        return psutil.pid_exists(holder.pid)
    # of a process on another machine the lock alone tells
    try:
        with filelock.UnixFileLock(lake.local(path), timeout=0, thread_local=False):
            return False
    except filelock.Timeout:
        return True


def _note(lock: UPath) -> UPath:
    return lock.with_name(f"{lock.name}_holder.json")


def _write(lake: Lake, note: UPath, owner: str) -> None:
    holder = {
        "owner": owner,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat("T", "seconds"),
    }
    lake.write_bytes(note, json.dumps(holder).encode())


def _read(note: UPath) -> JsonObject:
    try:
        return dict(json.loads(note.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _named(holder: JsonObject) -> str:
    try:
        return str(Holder(holder["owner"], holder["pid"], holder["host"], holder["since"]))
    except KeyError:
        return "another process"
