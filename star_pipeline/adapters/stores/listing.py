"""A lake in a bucket as it was when it was listed: for work that looks at each table, where every look would be a request or more."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from star_pipeline.core.ports import Store, Stored

_COPIED = "tables"
"""The folder whose objects are read from copies on this machine."""


class ListedStore:
    """A store whose ``folders`` below ``prefix`` are listed once, each when something in it is first asked for.

    From then on what is there, and in which version, is answered from the listing, and a table is read from this machine's copy of
    just that version (``copy`` makes it, ``keep`` takes what is put here for it). What is written through it is known to it, and to the
    ``outer`` one in whose block its own is; what others write meanwhile is not seen, and a version that they replaced before it was
    copied is a StoreError when it is read. All else is asked of the store itself.
    """

    def __init__(
        self,
        store: Store,
        outer: "ListedStore | None",
        prefix: str,
        folders: Collection[str],
        copy: Callable[[Stored], Path],
        keep: Callable[[str, str, bytes], None],
    ) -> None:
        self._store, self._written, self._below = store, outer or store, f"{prefix}/" if prefix else ""
        self._folders, self._copy, self._keep = frozenset(folders), copy, keep
        self._listed: dict[str, dict[str, dict[str, Stored]]] = {}  # folder -> parent's key -> key -> what is there

    def get(self, key: str) -> bytes:
        found = self._copied(key)
        return found.read_bytes() if found else self._store.get(key)

    def open(self, key: str, etag: str | None = None) -> BinaryIO:
        found = self._copied(key) if etag is None else None
        return found.open("rb") if found else self._store.open(key, etag)

    def put(self, key: str, data: bytes | Path) -> str:
        etag = self._written.put(key, data)
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        self._note(key, Stored(key, size, time.time(), etag))
        if self._folder(key) == _COPIED and isinstance(data, bytes):
            self._keep(key, etag, data)
        return etag

    def create(self, key: str, data: bytes) -> bool:
        created = self._written.create(key, data)
        self._note(key, self._store.head(key))
        return created

    def head(self, key: str) -> Stored | None:
        parents = self._parents(key)
        return self._store.head(key) if parents is None else parents.get(_parent(key), {}).get(key)

    def list(self, prefix: str) -> Iterator[Stored]:
        parents = self._parents(prefix)
        if parents is None:
            yield from self._store.list(prefix)
            return
        for parent in [parent for parent in parents if parent == prefix or parent.startswith(f"{prefix}/")]:
            yield from [*parents[parent].values()]

    def delete(self, key: str) -> None:
        self._written.delete(key)
        self._note(key, None)

    def _note(self, key: str, now: Stored | None) -> None:
        """What was written here takes its place in the listing, where there is one already."""
        if (parents := self._listed.get(self._folder(key) or "")) is None:
            return
        if now:
            parents.setdefault(_parent(key), {})[key] = now
        else:
            parents.get(_parent(key), {}).pop(key, None)

    def _copied(self, key: str) -> Path | None:
        """The copy of a table; None where it is not to be read from one."""
        if self._folder(key) != _COPIED:
            return None
        if (found := self.head(key)) is None:
            raise FileNotFoundError(f"{key} is not there")
        return self._copy(found)

    def _folder(self, key: str) -> str | None:
        if not key.startswith(self._below):
            return None
        folder = key[len(self._below) :].split("/", 1)[0]
        return folder if folder in self._folders else None

    def _parents(self, key: str) -> dict[str, dict[str, Stored]] | None:
        """The listing of the folder that the key is in; None where it is in none of them."""
        folder = self._folder(key)
        if folder is None:
            return None
        if folder not in self._listed:
            parents: dict[str, dict[str, Stored]] = {}
            for found in self._store.list(f"{self._below}{folder}"):
                parents.setdefault(_parent(found.key), {})[found.key] = found
            self._listed[folder] = parents
        return self._listed[folder]


def _parent(key: str) -> str:
    return key.rpartition("/")[0]


_listed: ContextVar[tuple[str, ListedStore] | None] = ContextVar("star_listed", default=None)


@contextmanager
def listed_as(bucket: str, store: ListedStore) -> Iterator[None]:
    """Paths of this bucket ask ``store`` while the block runs, in this thread alone."""
    token = _listed.set((bucket, store))
    try:
        yield
    finally:
        _listed.reset(token)


def listed_of(bucket: str) -> ListedStore | None:
    """What paths of this bucket are to ask; None: the bucket itself."""
    found = _listed.get()
    return found[1] if found and found[0] == bucket else None
