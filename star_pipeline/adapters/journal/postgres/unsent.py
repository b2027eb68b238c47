"""What became of requests while the database was out of reach: on this machine's disk, and put into the journal when it is opened next.

A line of JSON each, in a file for each process that had to; the system's lock on it, which ends with the process, tells that it is still
being written.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from star_pipeline.adapters.journal.postgres.changes import Add, Keep, Release
from star_pipeline.core.errors import StorageTrouble
from star_pipeline.core.journal import Entry, Paid

Settled = Add | Release | Keep
"""A reply, or the end of a reservation: neither can be found out again."""


class Unsent:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def keep(self, changes: Sequence[Settled]) -> None:
        """They are on disk when this returns. Raises StorageTrouble."""
        try:
            file = self._opened()
            file.write(b"".join(json.dumps(_told(change)).encode() + b"\n" for change in changes))
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise StorageTrouble(
                f"{self._folder}: {error.strerror or error}, so that what {len(changes)} requests cost cannot be kept while the database "
                "is out of reach; free some space, then run the same command to go on"
            ) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def waiting(self) -> Iterator[tuple[Path, list[Settled]]]:
        """Files that nobody is writing, each with what it holds; a line that was torn by a kill was never told to be kept."""
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
            with _alone(path) as file:
                if file is not None:
                    yield path, [_change(line) for line in file if line.endswith(b"\n")]

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = (self._folder / f"{uuid.uuid4().hex}.jsonl").open("xb")
            fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._file


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO | None]:
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield file if path.exists() else None
    except FileNotFoundError:  # another process has put it into the journal
        yield None


def _told(add: Settled) -> dict[str, object]:
    if not isinstance(add, Add):
        return {type(add).__name__: asdict(add)}
    paid = {**asdict(add.paid), "key": add.paid.key.hex()}
    return {"paid": paid, "reservation": add.reservation, "batch": add.batch, "once": add.once.hex, "at": add.at}


def _change(line: bytes) -> Settled:
    told = json.loads(line)
    for kind in (Release, Keep):
        if kind.__name__ in told:
            return kind(**told[kind.__name__])
    paid = told["paid"]
    entry = Entry(**{**paid.pop("entry")})
    pairs = tuple((str(token), float(logprob)) for token, logprob in entry.top_logprobs)
    key = bytes.fromhex(paid.pop("key"))
    kept = Paid(key=key, entry=Entry(**{**asdict(entry), "top_logprobs": pairs}), **paid)
    return Add(kept, told["reservation"], told["batch"], uuid.UUID(told["once"]), told["at"])
