"""Whether a store does what a lake needs of it, asked of the store itself."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from star_pipeline.adapters.stores.paths import StorePath
from star_pipeline.core.errors import StoreError

_CLOCKS_S = 30.0
"""By how much the clocks may differ: seed files are waited for until they have rested, by the store's clock and by ours."""


def probe(root: StorePath) -> Iterator[tuple[bool, str]]:
    """What is well, and what is not, with its remedy. Raises StoreError, with the remedy, where it cannot be asked at all."""
    with _probing(root) as path:
        began = time.time()
        path.write_bytes(b"probe")
        took_s, written = time.time() - began, path.stored
        if path.read_bytes() != b"probe" or path.key not in {found.key for found in path.store.list(path.parent.key)}:
            yield (
                False,
                f"{root}: what is put is not there at once; expected a store that shows what was written, as S3 does",
            )
        apart = written.modified - time.time()
        # the store tells whole seconds
        if abs(apart) > _CLOCKS_S + took_s:
            late = "behind" if apart > 0 else "ahead of"
            yield (
                False,
                f"{root}: this machine's clock is {abs(apart):,.0f} s {late} the store's, at most {_CLOCKS_S:.0f} is fine; set it (by NTP)",
            )
        if written.etag in ("", path.store.put(path.key, b"another probe")):
            yield (
                False,
                f"{root}: its ETags do not change with the content; expected a store that names content by them, as S3 does",
            )
    require_once(root)
    yield (
        True,
        f"{root}: can be read and written ({1000 * took_s:,.0f} ms a write), and makes once what is to be made once",
    )


def require_once(root: StorePath) -> None:
    """Raises StoreError where the store lets two writers make the same object, each in the belief to be the first."""
    with _probing(root) as path:
        first = path.store.create(path.key, b"first")
        if not first or path.store.create(path.key, b"second") or path.read_bytes() != b"first":
            raise StoreError(
                f"{root}: this store does not honour If-None-Match, by which of two machines only one makes what there may be once; "
                "use one that does (Amazon S3, MinIO, SeaweedFS, Cloudflare R2), or a newer version of it"
            )


@contextmanager
def _probing(root: StorePath) -> Iterator[StorePath]:
    """A name for an object that is gone afterwards."""
    path = root / ".probes" / uuid.uuid4().hex
    yield path
    path.unlink(missing_ok=True)
