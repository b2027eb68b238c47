"""What the seed files are now, told by their content, without reading again what has not changed."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from upath import UPath

from star_pipeline.adapters.lake import Lake, file_digest
from star_pipeline.adapters.seed_files import seed_files
from star_pipeline.adapters.stores.paths import StorePath
from star_pipeline.core import identity
from star_pipeline.core.errors import SeedError

_RACY_NS = 2_000_000_000
"""A file touched less than this before it was read may change again within one tick of the disk's clock."""


@dataclass(frozen=True)
class Listing:
    """The seed files at one moment: name -> what was ``listed`` of it."""

    files: Mapping[str, "Seen"]

    @property
    def signature(self) -> str:
        """Changes when a file comes, goes, grows or is written again."""
        return identity.digest("listing", sorted((name, *seen) for name, seen in self.files.items()))

    def written_within(self, seconds: float, now: float) -> str | None:
        """A file last written less than ``seconds`` before ``now`` (s since 1970); None where all have rested."""
        for name, (_, changed, *_) in self.files.items():
            if 0 <= now - changed / 1e9 < seconds:
                return name
        return None


def list_seed_files(lake: Lake) -> Listing:
    """The files that the catalogue would read. One that vanishes meanwhile does not count."""
    found = {}
    with lake.as_listed("seeds"):
        for path in seed_files(lake.seeds):
            with contextlib.suppress(FileNotFoundError):
                found[path.relative_to(lake.seeds).as_posix()] = listed(path)
    return Listing(found)


def listed(path: UPath) -> "Seen":
    """(bytes, time of change in ns since 1970) of a file; of an object also its ETag, since a store's clock ticks in seconds."""
    if isinstance(path, StorePath):
        found = path.stored
        return found.size, int(found.modified * 1e9), found.etag
    seen = path.stat()
    return int(seen.st_size), int(seen.st_mtime_ns)


def content_digest(lake: Lake, listing: Listing, seconds: float | None = None) -> str | None:
    """Names the files' names and contents. Hashes are kept in the lake, so that only changed files are read.

    None where a file changed under our hands, or where ``seconds`` were not enough: call again, what was read is kept. Raises
    SeedError for a file that cannot be read.
    """
    began = time.monotonic()
    known = _read_hashes(lake)
    hashes = {name: entry for name, seen in listing.files.items() if (entry := known.get(name)) and _fits(entry, seen)}
    whole = True
    for name, seen in listing.files.items():
        if name in hashes:
            continue
        if seconds is not None and time.monotonic() - began > seconds:
            whole = False
            break
        entry = _hash(lake.seeds / name, seen)
        if entry is None:
            whole = False
        else:
            hashes[name] = entry
    told = _keep(lake, hashes, known)
    return told if whole else None


def keep_hashes(lake: Lake, listing: Listing, contents: Mapping[str, str]) -> str:
    """The same name, of files whose SHA-256 (``contents``) somebody knows who has read them just now, after they were listed."""
    return _keep(lake, {name: (listing.files[name], content) for name, content in contents.items()}, _read_hashes(lake))


def contents(lake: Lake) -> dict[str, str]:
    """Seed file, relative to ``seeds/`` -> SHA-256 of its content. One that changes under our hands is left out."""
    listing, known = list_seed_files(lake), _read_hashes(lake)
    hashes = {}
    for name, seen in listing.files.items():
        kept = known.get(name)
        if entry := kept if kept and _fits(kept, seen) else _hash(lake.seeds / name, seen):
            hashes[name] = entry
    _keep(lake, hashes, known)
    return {name: content for name, (_, content) in hashes.items()}


def content_of(lake: Lake, name: str) -> str | None:
    """SHA-256 of a seed file, read only where it is not known; None where it is not there."""
    try:
        seen = listed(lake.seeds / name)
    except FileNotFoundError:
        return None
    known = _read_hashes(lake).get(name)
    entry = known if known and _fits(known, seen) else _hash(lake.seeds / name, seen)
    return entry[1] if entry else None


Seen = tuple[int, int] | tuple[int, int, str]
_Entry = tuple[Seen, str]


def _keep(lake: Lake, hashes: Mapping[str, _Entry], known: Mapping[str, _Entry]) -> str:
    """Write down what lasts; returns the name of the contents."""
    now = time.time_ns()
    lasting = {name: entry for name, entry in hashes.items() if now - entry[0][1] > _RACY_NS}
    if lasting != known:
        told = {name: (*seen, content) for name, (seen, content) in lasting.items()}
        lake.write_bytes(lake.seed_hashes, json.dumps(told).encode())
    return identity.digest("seed files", sorted((name, content) for name, (_, content) in hashes.items()))


def _fits(entry: _Entry, seen: Seen) -> bool:
    return entry[0] == seen


def _hash(path: UPath, seen: Seen) -> _Entry | None:
    """(what was listed, SHA-256), or None where the file is not what was listed any more."""
    try:
        content = file_digest(path)
        after = listed(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SeedError(f"{path}: cannot be read ({error.strerror}); mend it, or its permissions") from error
    return (seen, content) if after == seen else None


def _read_hashes(lake: Lake) -> dict[str, _Entry]:
    """What was hashed before; nothing where the file is gone or broken: it only saves work."""
    try:
        raw = json.loads(lake.seed_hashes.read_text("utf-8"))
        return {str(name): (_seen(*seen), str(content)) for name, (*seen, content) in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _seen(size: int, changed: int, etag: str = "") -> Seen:
    return (int(size), int(changed), str(etag)) if etag else (int(size), int(changed))
