"""A bucket of S3 as a store, by obstore's own calls: no listing is kept, and no call is tried for longer than some seconds."""

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from star_pipeline.adapters.stores.settings import CONNECT_S, MOST_RETRIES, REQUEST_S, RETRIES_S, S3Settings
from star_pipeline.adapters.stores.trouble import in_one_line
from star_pipeline.core.errors import ConfigError, StoreError
from star_pipeline.core.ports import Stored

if TYPE_CHECKING:
    import obstore
    from typing_extensions import Buffer

_WHOLE = 8 << 20
"""Bytes up to which an object is read at once; a larger one is read in pieces of this size."""


def object_store(bucket: str) -> "ObjectStore":
    """The bucket as the environment says how to reach it. Raises ConfigError where obstore is not installed."""
    return _object_store(bucket, S3Settings.of())


@functools.lru_cache(maxsize=8)
def _object_store(bucket: str, settings: S3Settings) -> "ObjectStore":
    return ObjectStore(bucket, settings)


class ObjectStore:
    def __init__(self, bucket: str, settings: S3Settings) -> None:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise ConfigError(
                f's3://{bucket}: a lake in object storage needs obstore; install it with: pip install "star-pipeline[s3]"'
            ) from error
        self.bucket, self.settings = bucket, settings
        self._store = S3Store(
            bucket,
            config=cast(Any, settings.options),  # obstore names each key that there can be
            client_options={
                "allow_http": settings.allows_http,
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={
                "max_retries": MOST_RETRIES,
                "retry_timeout": timedelta(seconds=RETRIES_S),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=3),
                    "base": 2,
                },
            },
        )

    def get(self, key: str) -> bytes:
        import obstore

        with self._told(key):
            return bytes(obstore.get(self._store, key).bytes())

    def open(self, key: str, etag: str | None = None) -> BinaryIO:
        import obstore

        with self._told(key):
            found = obstore.get(self._store, key, options={"if_match": etag} if etag else None)
            if found.meta["size"] <= _WHOLE:
                return io.BytesIO(bytes(found.bytes()))
        pieces = _Pieces(self, key, found.meta["size"], found.meta["e_tag"] or etag)
        return cast(BinaryIO, io.BufferedReader(pieces, _WHOLE))

    def put(self, key: str, data: bytes | Path) -> str:
        import obstore

        with self._told(key, written=True):
            return obstore.put(self._store, key, data)["e_tag"] or ""

    def create(self, key: str, data: bytes) -> bool:
        """As the port says, by If-None-Match. Where the answer to a put that succeeded was lost, the next try says False: look."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with self._told(key, written=True):
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def head(self, key: str) -> Stored | None:
        import obstore

        try:
            with self._told(key):
                return _stored(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[Stored]:
        import obstore

        with self._told(prefix):
            for some in obstore.list(self._store, prefix or None):  # a page at a time, fetched when it is wanted
                yield from map(_stored, some)

    def delete(self, key: str) -> None:
        import obstore

        with self._told(key):
            obstore.delete(self._store, key)

    def read(self, key: str, begin: int, end: int, etag: str | None) -> bytes:
        """The bytes from ``begin`` up to ``end``, of this version alone."""
        import obstore

        with self._told(key):
            found = obstore.get(self._store, key, options={"range": (begin, end), "if_match": etag})
            return bytes(found.bytes())

    @contextmanager
    def _told(self, key: str, written: bool = False) -> Iterator[None]:
        """obstore's errors as the port says them. What is not there when it is ``written`` is the bucket."""
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        address = f"s3://{self.bucket}/{key}"
        try:
            yield
        except AlreadyExistsError:
            raise
        except PreconditionError as error:
            if written:
                raise
            raise StoreError(f"{address} has changed while it was read; do the same again") from error
        except FileNotFoundError as error:
            if written:
                raise StoreError(in_one_line(error, address, self.settings)) from error
            raise FileNotFoundError(f"{address} is not there") from error
        except BaseError as error:
            raise StoreError(in_one_line(error, address, self.settings)) from error


class _Pieces(io.RawIOBase):
    """A large object, of which a piece is read at a time."""

    def __init__(self, store: ObjectStore, key: str, size: int, etag: str | None) -> None:
        self._store, self._key, self._size, self._etag, self._place = store, key, size, etag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._place + len(view), self._size)
        if end <= self._place:
            return 0
        piece = self._store.read(self._key, self._place, end, self._etag)
        view[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


def _stored(meta: "obstore.ObjectMeta") -> Stored:
    return Stored(meta["path"], meta["size"], meta["last_modified"].timestamp(), meta["e_tag"] or "")
