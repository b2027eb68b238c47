"""One holder a lake: an operating system's lock, which dies with its process. A second holder is refused, naming the first."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import filelock
from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import LakeError


@contextmanager
def hold(lake: Lake, owner: str) -> Iterator[None]:
    """Hold the lake while the block runs. Within one process it may be taken again: the ``run`` command holds it for its runs.

    Raises LakeError at once, never waits: a waiting run would keep the slot that the first one needs.
    """
    lake.root.mkdir(parents=True, exist_ok=True)
    path = lake.local(lake.lock)
    # pid of the holder beside the lock: the lock file itself is emptied by whoever tries to take it
    note = lake.root / ".lock_holder.json"
    lock = filelock.FileLock(path, timeout=0, thread_local=False, is_singleton=True)
    first = not lock.is_locked
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise LakeError(f"{lake.root} is in use by {_holder(note)}; wait until it has ended, or stop it") from error
    try:
        if first:
            holder = {
                "owner": owner,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat("T", "seconds"),
            }
            lake.write_bytes(note, json.dumps(holder).encode())
        yield
    finally:
        if lock.lock_counter == 1:
            note.unlink(missing_ok=True)
        lock.release()


def _holder(note: UPath) -> str:
    try:
        with note.open("r", encoding="utf-8") as file:
            holder = json.load(file)
        return f"{holder['owner']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
