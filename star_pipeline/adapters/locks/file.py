"""The lock as a file of the lake, or of its workspace on this machine."""

from contextlib import AbstractContextManager

from star_pipeline.adapters import lock
from star_pipeline.adapters.lake import Lake
from star_pipeline.core.locking import Holder


class FileLakeLock:
    """``core.locking.LakeLock`` by the operating system."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def hold(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return lock.hold(self._lake, owner, patience_s)

    def hold_publishing(self, owner: str, patience_s: float = 300.0) -> AbstractContextManager[None]:
        return lock.hold_publishing(self._lake, owner, patience_s)

    def hold_study(self, owner: str, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return lock.hold_study(self._lake, owner, patience_s)

    def hold_for_good(self, owner: str) -> None:
        lock.hold_for_good(self._lake, owner)

    def holder(self) -> Holder | None:
        return lock.holder(self._lake)

    def is_held_by(self, host: str, pid: int) -> bool | None:
        try:
            # a lake in object storage has such a file on each machine
            if self._lake.shared or not self._lake.lock.exists():
                return None
        except OSError:
            return None
        found = self.holder()
        return found is not None and (found.host, found.pid) == (host, pid)
