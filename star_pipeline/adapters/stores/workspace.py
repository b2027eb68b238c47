"""What a machine keeps on its own disk of a lake in object storage: its workspace, and in it copies of objects."""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.stores.listing import ListedStore, listed_as, listed_of
from star_pipeline.adapters.stores.paths import StorePath
from star_pipeline.adapters.stores.profiles import profile_of
from star_pipeline.adapters.temporary_files import unfinished, unfinished_files
from star_pipeline.core.errors import LakeError
from star_pipeline.core.ports import Stored

_AT_ONCE = 8
_FORGOTTEN_S = 3600.0
"""A copy that was replaced is kept so long, for who has just been told where it is."""


def workspace_of(address: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the lake at ``address`` on this machine: below STAR_WORKSPACE, else below the user's cache."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", address.removeprefix("s3://")).strip("-")[:60]
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        found = profile_of(environment, keys=False).get("AWS_ENDPOINT_URL")
        endpoint = found.value if found else ""
    name = f"{readable}-{_short(f'{endpoint} {address}')[:8]}"
    if given := environment.get("STAR_WORKSPACE"):
        return Path(os.path.abspath(Path(given).expanduser())) / name
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "star-pipeline" / name


def copies(paths: Sequence[StorePath], folder: Path) -> list[str]:
    """A local file for each object, of the version that is there now; only what is not there yet is fetched.

    A file keeps its name and its folder's. Raises FileNotFoundError where an object is not there, LakeError where none can be kept.
    """
    stored = dict(zip(paths, _stored(paths), strict=True))
    places = {path: _place(path, seen.etag, folder) for path, seen in stored.items()}
    lacking = [path for path, place in places.items() if not _is_whole(place, stored[path].size)]

    def fetch(path: StorePath) -> None:
        _keep(path, places[path], stored[path].etag)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, lacking))
    return [str(places[path]) for path in paths]


def _is_whole(place: Path, size: int) -> bool:
    """Whether the copy is there, as long as the object: after a power cut it may have lost its end."""
    try:
        return place.stat().st_size == size
    except FileNotFoundError:
        return False


@contextmanager
def listed(root: StorePath, folder: Path, *folders: str) -> Iterator[None]:
    """``folders`` of the lake at ``root`` as they are now, for as long as the block runs (``ListedStore``), with copies in ``folder``."""
    from star_pipeline.adapters.stores.objects import object_store

    def path_of(key: str) -> StorePath:
        return root / key[len(root.key) :].lstrip("/")

    def copy(found: Stored) -> Path:
        path = path_of(found.key)
        place = _place(path, found.etag, folder)
        if not _is_whole(place, found.size):
            _keep(path, place, found.etag)
        return place

    def keep(key: str, etag: str, data: bytes) -> None:
        place = _place(path_of(key), etag, folder)
        with suppress(OSError):  # it is fetched when it is asked for
            place.parent.mkdir(parents=True, exist_ok=True)
            with unfinished(place) as unready:
                unready.write_bytes(data)
            _forget(place)

    outer = listed_of(root.drive)
    with listed_as(root.drive, ListedStore(object_store(root.drive), outer, root.key, folders, copy, keep)):
        yield


def _keep(path: StorePath, place: Path, etag: str) -> None:
    """Fetch one version of an object to ``place``, and forget those before it. Raises LakeError."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(place) as unready, path.store.open(path.key, etag) as source, open(unready, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except OSError as error:
        raise LakeError(
            f"cannot keep a copy of {path} at {place}: {error.strerror or error}; free some space, or choose another place with "
            "STAR_WORKSPACE"
        ) from error
    _forget(place)


@contextmanager
def made_at(path: UPath, workspace: Path, folder: Path) -> Iterator[Path]:
    """A place on this machine to make a file at, which is moved, or put, to ``path`` when the block ends well."""
    if not isinstance(path, StorePath):
        with unfinished(Path(str(path))) as place:
            yield place
        return
    with made_here(workspace, lambda made: _put(path, made, folder)) as beside:
        yield beside / path.name


@contextmanager
def made_here(workspace: Path, take: Callable[[Path], None]) -> Iterator[Path]:
    """A folder on this machine, all of whose files ``take`` is given when the block ends well."""
    workspace.mkdir(parents=True, exist_ok=True)
    with unfinished_files(workspace, take) as folder:
        yield folder


def _put(path: StorePath, made: Path, folder: Path) -> None:
    """It becomes the copy of that version too, so that who asks for it here next need not fetch it."""
    place = _place(path, path.store.put(path.key, made), folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, place)
    _forget(place)


def _place(path: StorePath, etag: str, folder: Path) -> Path:
    return folder / _short(str(path)) / _short(etag) / path.parent.name / path.name


def _stored(paths: Sequence[StorePath]) -> Iterator[Stored]:
    """Each object as it is now: those of a folder by one listing, a single one by itself."""
    by_folder: dict[StorePath, list[StorePath]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    known = {
        stored.key: stored
        for folder, some in by_folder.items()
        if len(some) > 1
        for stored in folder.store.list(folder.key)
    }
    return (known.get(path.key) or path.stored for path in paths)


def _forget(place: Path) -> None:
    """Remove the versions of an object that came before the one at ``place``."""
    version = place.parent.parent
    for other in version.parent.iterdir():
        with suppress(OSError):
            if other != version and time.time() - other.stat().st_mtime > _FORGOTTEN_S:
                shutil.rmtree(other, ignore_errors=True)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
