"""Paths of objects, for all that reads and writes the lake by ``UPath``: each call is one of the store's, and none is remembered."""

import fnmatch
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from upath import UPath
from upath.implementations.cloud import S3Path

from star_pipeline.adapters.stores.listing import listed_of
from star_pipeline.adapters.stores.local import LocalStore
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import Store, Stored

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NO_BUCKET = re.compile(r"\.\.|^xn--|^\d+(\.\d+){3}$")
_NEARLY = re.compile(r"s3:", re.IGNORECASE)
_SEGMENT = re.compile(r"[A-Za-z0-9=+@._-]+")


class StorePath(S3Path):
    """An object of S3, or a folder of some. Not fsspec's: that one remembers listings, and says of a store that is down that a file
    is not there."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> "StorePath":  # Any: whatever a path is made of
        return object.__new__(cls)  # UPath's own would give the class that is registered for s3://

    @property
    def fs(self) -> Any:  # Any: never returned
        raise NotImplementedError(f"{self}: an object of a store has no file system")

    @property
    def store(self) -> Store:
        from star_pipeline.adapters.stores.objects import object_store

        return listed_of(self.drive) or object_store(self.drive)

    @property
    def key(self) -> str:
        return str(self.path)[len(self.drive) :].strip("/")

    @property
    def stored(self) -> Stored:
        """Raises FileNotFoundError where there is no object of this name."""
        found = self.store.head(self.key)
        if found is None:
            raise FileNotFoundError(f"{self} is not there")
        return found

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return bool(self.key) and self.store.head(self.key) is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return next(self.store.list(self.key), None) is not None

    def stat(self, *, follow_symlinks: bool = True) -> Any:  # Any: UPath's own type of it is private
        from upath._stat import UPathStatResult

        found = self.stored
        return UPathStatResult.from_info({"type": "file", "size": found.size, "mtime": found.modified})

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:  # type: ignore[override]  # Any: as UPath's
        if mode == "rb":
            return self.store.open(self.key)
        if mode in ("r", "rt"):
            return io.TextIOWrapper(self.store.open(self.key), *args, **kwargs)
        raise NotImplementedError(f"{self}: objects are put whole (mode {mode})")

    def read_bytes(self) -> bytes:
        return self.store.get(self.key)

    def read_text(self, encoding: str | None = "utf-8", errors: str | None = None, newline: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: bytes) -> int:
        self.store.put(self.key, data)
        return len(data)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """A store has no folders."""

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok:
            _ = self.stored
        self.store.delete(self.key)

    def glob(self, pattern: str, **kwargs: Any) -> Iterator["StorePath"]:
        """The objects directly in this folder whose names fit."""
        return (path for path in self.rglob(pattern) if path.parent == self)

    def rglob(self, pattern: str, **kwargs: Any) -> Iterator["StorePath"]:
        """The objects anywhere below whose names fit."""
        cut = len(self.key) + 1 if self.key else 0
        for found in self.store.list(self.key):
            if fnmatch.fnmatchcase(found.key.rsplit("/", 1)[-1], pattern):
                yield self / found.key[cut:]


def path_at(place: str) -> UPath:
    """The path that somebody means: ``s3://bucket/…``, or one of this machine. Raises ConfigError for a place that cannot be."""
    protocol, parted, rest = place.partition("://")
    if not parted or protocol == "file":
        return UPath(place)
    if protocol != "s3":
        raise ConfigError(
            f"{place}: {protocol}:// is not known; expected a folder, or s3://bucket/prefix in small letters"
        )
    bucket, _, prefix = rest.strip("/").partition("/")
    odd = [part for part in prefix.split("/") if not _SEGMENT.fullmatch(part) or part in (".", "..")] if prefix else []
    if not _BUCKET.fullmatch(bucket) or _NO_BUCKET.search(bucket) or odd:
        raise ConfigError(
            f"{place}: expected s3://bucket/prefix, the bucket of 3 to 63 small letters, digits, . and - (no address, no two dots, and "
            "not xn-- first), the prefix of letters, digits and .-_=+@ between slashes"
        )
    return StorePath("/".join(part for part in (f"s3://{bucket}", prefix) if part))


def root_at(root: str | os.PathLike[str]) -> UPath:
    """A lake's root, made absolute. Raises ConfigError for a path that one of the lake's tools cannot take."""
    if "://" in str(root):
        return path_at(str(root))
    if _NEARLY.match(str(root)):
        raise ConfigError(f"--lake {root}: expected s3://bucket/prefix, with two slashes, or a folder")
    path = os.path.abspath(root)
    if odd := next((character for character in path if _unusable(character)), None):
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ConfigError(
            f"--lake {shown!r}: DuckDB or LanceDB cannot work below a folder with {odd!a} in its name; choose another folder"
        )
    return UPath(path)


def _unusable(character: str) -> bool:
    """DuckDB takes ? and \\ in a path for something else, LanceDB refuses control characters, both bytes that are no UTF-8."""
    return character == "?" or (character == "\\" != os.sep) or unicodedata.category(character) in ("Cc", "Cs")


def absolute(place: str) -> str:
    """The place from wherever the working folder is."""
    return place if "://" in place else os.path.abspath(place)


def placed(path: UPath | Path) -> tuple[Store, str]:
    """The store of a path, and its key there."""
    if isinstance(path, StorePath):
        return path.store, path.key
    local = Path(str(path))
    return LocalStore(local.parent), local.name
