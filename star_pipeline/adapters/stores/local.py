"""A folder as a store: files written beside their places and moved there."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from star_pipeline.adapters.temporary_files import unfinished
from star_pipeline.core.errors import LakeError, StoreError
from star_pipeline.core.ports import Stored


def unwritable(path: os.PathLike[str] | str, error: OSError) -> LakeError:
    """What to say of a place that cannot be written."""
    return LakeError(
        f"cannot write {path}: {error.strerror or error}; free some space or mend the permissions, then run again"
    )


@dataclass(frozen=True)
class LocalStore:
    """Raises LakeError, saying what stood in the way, where a file cannot be written."""

    folder: Path

    def get(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def open(self, key: str, etag: str | None = None) -> BinaryIO:
        file = (self.folder / key).open("rb")
        if etag is not None and _stored(key, os.fstat(file.fileno())).etag != etag:
            file.close()
            raise StoreError(f"{self.folder / key} has changed while it was read; do the same again")
        return file

    def put(self, key: str, data: bytes | Path) -> str:
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished(path) as place:
                _write(place, data)
            return _stored(key, path.stat()).etag
        except OSError as error:
            raise unwritable(path, error) from error

    def create(self, key: str, data: bytes) -> bool:
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=path.parent) as beside:
                place = Path(beside, path.name)
                _write(place, data)
                try:
                    os.link(place, path)  # unlike a move, it takes nobody's place
                except FileExistsError:
                    return False
                except OSError:  # a disk that knows no links
                    if path.exists():
                        return False
                    os.replace(place, path)
            return True
        except OSError as error:
            raise unwritable(path, error) from error

    def head(self, key: str) -> Stored | None:
        try:
            return _stored(key, os.stat(self.folder / key))
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[Stored]:
        for path in (self.folder / prefix).rglob("*"):
            key = path.relative_to(self.folder).as_posix()
            if path.is_file() and (found := self.head(key)):  # it may have gone meanwhile
                yield found

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)


def _stored(key: str, seen: os.stat_result) -> Stored:
    return Stored(key, seen.st_size, seen.st_mtime, f"{seen.st_mtime_ns}-{seen.st_size}-{seen.st_ino}")


def _write(place: Path, data: bytes | Path) -> None:
    with open(place, "wb") as file:
        if isinstance(data, Path):
            with open(data, "rb") as source:
                while piece := source.read(1 << 20):
                    file.write(piece)
        else:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
