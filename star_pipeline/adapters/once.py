"""What several threads need is computed once, by whoever comes first; the others wait for it, and see how far it has come."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from star_pipeline.core.errors import StarError
from star_pipeline.core.ports import Progress

T = TypeVar("T")


class Abandoned(StarError):
    """Nobody needs the result any more: the run has ended."""


class Relay:
    """The progress of a computation, for whoever cares, from when he does. Raises Abandoned from ``advance`` once ``ended`` is set."""

    def __init__(self, notes: Progress, ended: threading.Event) -> None:
        self._notes, self._ended = notes, ended
        self._guard = threading.Lock()
        self._listener: Progress | None = None
        self._stage: tuple[str, int, float] | None = None
        self._done = 0

    def attach(self, listener: Progress) -> None:
        with self._guard:
            self._listener = listener
            if self._stage:
                listener.stage(*self._stage)
                listener.advance(self._done)

    def stage(self, name: str, total: int, later: float = 0.0) -> None:
        with self._guard:
            self._stage, self._done = (name, total, later), 0
            if self._listener:
                self._listener.stage(name, total, later)

    def advance(self, count: int = 1) -> None:
        if self._ended.is_set():
            raise Abandoned("the run was stopped")
        with self._guard:
            self._done += count
            if self._listener:
                self._listener.advance(count)

    def note(self, text: str) -> None:
        self._notes.note(text)


class Told:
    """What a computation tells of parts of its result before all are there, to whoever cares: what it has told so far, and what follows."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._so_far: list[tuple[Any, ...]] = []
        self._heard: list[Callable[..., None]] = []

    def attach(self, heard: Callable[..., None]) -> None:
        with self._guard:
            self._heard.append(heard)
            for part in self._so_far:
                heard(*part)

    def __call__(self, *part: Any) -> None:
        with self._guard:
            self._so_far.append(part)
            for heard in self._heard:
                heard(*part)


@dataclass
class _Job:
    relay: Relay | None
    told: Told = field(default_factory=Told)
    done: threading.Event = field(default_factory=threading.Event)
    failed: bool = False
    result: Any = None  # of whatever kind its computation gives


class Once:
    """Results by what they are computed from; the ``most`` that were used last are kept."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._guard = threading.Lock()

    def get(
        self,
        of: Sequence[object],
        compute: Callable[[Told], T],
        relay: Relay | None = None,
        listener: Progress | None = None,
        heard: Callable[..., None] | None = None,
    ) -> T:
        """What ``compute`` gives, or gave before for the same ``of`` (by the repr of its parts), or gives somebody else just now.

        ``relay`` is what this computation tells its progress to; ``listener`` hears of the one that is waited for, and ``heard`` of the
        parts that it tells while it goes on, whoever's it is. Where that fails, who waits for it computes for itself, and meets the
        error there.
        """
        key = name_of(of)
        while True:
            with self._guard:
                job = self._jobs.get(key)
                mine = job is None
                if job is None:
                    job = self._jobs[key] = _Job(relay)
                    self._forget()
                self._jobs.move_to_end(key)
            if listener and job.relay and not job.done.is_set():
                job.relay.attach(listener)
            if heard and not job.done.is_set():
                job.told.attach(heard)
            if mine:
                return self._compute(key, job, compute)
            job.done.wait()
            if not job.failed:
                result: T = job.result
                return result

    def _compute(self, key: str, job: _Job, compute: Callable[[Told], T]) -> T:
        try:
            job.result = result = compute(job.told)
            return result
        except BaseException:
            job.failed = True
            with self._guard:
                self._jobs.pop(key, None)
            raise
        finally:
            job.done.set()
            job.told = Told()  # all of it is in the result

    def _forget(self) -> None:
        for key in list(self._jobs)[: max(0, len(self._jobs) - self._most)]:
            if self._jobs[key].done.is_set():
                del self._jobs[key]


def name_of(of: Sequence[object]) -> str:
    """A name of these, by the repr of each.

    Part by part, and of a list each by itself: a shard's texts are not written down once more as a whole.
    """
    found = hashlib.sha256()
    for part in of:
        items, end = (part, b"\1") if isinstance(part, list | tuple) else ((part,), b"\2")
        for item in items:
            found.update(repr(item).encode("utf-8", "surrogatepass") + b"\0")
        found.update(end)
    return found.hexdigest()
