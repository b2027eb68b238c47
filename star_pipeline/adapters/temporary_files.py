"""Files and databases in the making: where they are made, how they take their place, and what of them a dead process left."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_ENDING = ".partial"
_LOCK = ".lock"
_FORGOTTEN_S = 24 * 3600.0
_FORMER = re.compile(r"\.(\d+)(-[0-9a-f]+)?\.partial")
"""How earlier versions named a file in the making: its own name, and the process."""


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A place to make ``path`` at, in a hidden folder beside it: moved there when the block ends well, else removed.

    The folder's lock, which the system lets go with the process, tells those who sweep that somebody is at it: however long
    that takes, and whatever number the process has. Raises OSError.
    """
    folder, lock = _folder(path.parent)
    try:
        yield folder / path.name
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def unfinished_files(parent: Path, take: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """The same for several files of ``parent``: a folder, of which all that is there at the end is moved, or given to ``take``."""
    folder, lock = _folder(parent)
    try:
        yield folder
        for made in sorted(folder.iterdir()):
            if made.name == _LOCK:
                continue
            if take:
                take(made)
            else:
                os.replace(made, parent / made.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(folder: Path) -> None:
    """Remove from ``folder`` what processes that are no more left half made.

    What another machine left is removed once it is a day old: not every file system tells one machine of another's locks.
    """
    for left in folder.glob(f".*{_ENDING}*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if left.is_dir():
                _sweep_folder(left)
            elif _former_is_dead(left):
                left.unlink(missing_ok=True)


def _folder(parent: Path) -> tuple[Path, int]:
    """(a new folder, the descriptor that holds its lock)."""
    while True:
        folder = parent / f".{_host()}-{uuid.uuid4().hex[:12]}{_ENDING}"
        folder.mkdir()
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # swept between the two
        except OSError:
            folder.rmdir()
            raise
        if _try_lock(lock) is not False and (folder / _LOCK).exists():
            return folder, lock
        os.close(lock)  # swept just before it was locked


def _sweep_folder(folder: Path) -> None:
    old = time.time() - folder.stat().st_mtime > _FORGOTTEN_S
    if not (old or folder.name.startswith(f".{_host()}-")):
        return
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        # its maker was killed before, or after, it had a lock; or is just making one, in a folder that is as good as new
        if old:
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        free = _try_lock(lock)
        if free or (free is None and old):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno == errno.EWOULDBLOCK else None
    return True


def _former_is_dead(left: Path) -> bool:
    """Whether an earlier version's process, which held no lock, is no more: none has its number, or a later one."""
    written = left.stat().st_mtime
    if time.time() - written > _FORGOTTEN_S:
        return True
    named = _FORMER.search(left.name)
    try:
        return named is not None and psutil.Process(int(named[1])).create_time() > written + 1.0
    except psutil.NoSuchProcess:
        return True


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
