"""The lake's lock, a port: one holder at a time, whose death frees it. Adapters: ``adapters.locks``."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["lake", "study"]
"""Of the locks of a lake those of which a run tells that its process has it: ``hold`` and ``hold_study``."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lake; ``since`` is a time of day in ISO 8601."""

    owner: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"{self.owner} (process {self.pid} on {self.host}, since {self.since})"

    @property
    def is_a_command(self) -> bool:
        """Of the console, and no run of Dagster's own."""
        return self.owner.startswith("star-pipeline")


class LakeLock(Protocol):
    """Within one process each may be taken again: the ``run`` command holds the lake for its runs.

    Raises LakeBusy, at once or after ``patience_s``, naming the holder; StorageTrouble where the lock cannot be asked for.
    """

    def hold(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold the lake while the block runs. To be patient is for who knows that the holder is about to let go, or at least needs no
        slot that this one has."""
        ...

    def hold_publishing(self, owner: str, patience_s: float = 300.0) -> AbstractContextManager[None]:
        """Be the one that writes what is made of all shards, from reading them to the last file, so that no two publishers' files mix.

        Another one is done in seconds and keeps no slot that this one needs.
        """
        ...

    def hold_study(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        """Be the one that studies the lake, from its arms to its results: no model is trained twice, and none on rows that change.

        It keeps neither runs nor publishers out.
        """
        ...

    def hold_for_good(self, owner: str) -> None:
        """Be the one that serves the lake until this process ends, also after it has become another program (``os.exec``).

        It does not keep runs out, as ``hold`` does: they are what a server is for.
        """
        ...

    def holder(self) -> Holder | None:
        """Who holds the lake now (``hold``), as far as that can be told without taking it."""
        ...

    def is_held_by(self, host: str, pid: int, kind: Kind = "lake") -> bool | None:
        """Whether this process, on whatever machine, holds the lake, or its study, now; None where that cannot be seen from here."""
        ...


def command_at_work(lock: LakeLock) -> Holder | None:
    """Who holds the lake now, where it is a command of the console and no run of Dagster; None otherwise."""
    holder = lock.holder()
    return holder if holder and holder.is_a_command else None
