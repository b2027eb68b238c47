"""Seed files on their way into the lake: each is read once, before any of them takes its place."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.lake import Lake, put_file
from star_pipeline.adapters.seed_files import FORMATS, NO_NAME, escaped, passed_over, read_seeds, seed_files, why_not
from star_pipeline.adapters.seed_state import Listing, content_of, keep_hashes, list_seed_files, listed
from star_pipeline.adapters.stores.local import unwritable
from star_pipeline.adapters.stores.paths import path_at
from star_pipeline.adapters.stores.workspace import made_here
from star_pipeline.adapters.temporary_files import unfinished_files
from star_pipeline.core import identity
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.intake.seeds import SeedRules
from star_pipeline.core.records import RejectedRow, Seed

_STARTER = "starter_seeds.jsonl"
_PIECE = 1 << 20
Say = Callable[[str], None]


@dataclass(frozen=True)
class GivenFile:
    """A user's file on its way: the copy, what the user calls it, and its SHA-256."""

    copy: UPath
    called: str
    content: str


@contextmanager
def taking_in(lake: Lake, paths: Sequence[str], say: Say = lambda line: None) -> Iterator[Mapping[str, GivenFile]]:
    """Copies of the user's files, by their names: they take their places in ``seeds/`` when the block ends well, else they are gone.

    So that all can be read, in the block, before the first is there. A folder stands for the seed files in it; ``say`` gets a
    line where it holds others. A file of the same name and content is left as it is, and is not among them; one of the same
    name and other content is replaced, so that handing in an edited file again updates its seeds.
    """
    chosen = _chosen(paths, say)
    if not chosen:
        yield {}
        return
    with _arriving(lake) as place:
        given = {}
        for name, file in chosen.items():
            content = _copied(file, place / name)
            if content == content_of(lake, name):
                (place / name).unlink()
            else:
                given[name] = GivenFile(UPath(place / name), escaped(str(file)), content)
        yield given


def _arriving(lake: Lake) -> AbstractContextManager[Path]:
    """A folder whose files become seed files when the block ends well."""
    if lake.shared:
        return made_here(Path(str(lake.workspace)), lambda made: put_file(lake.seeds / made.name, made))
    folder = Path(lake.local(lake.seeds))
    folder.mkdir(parents=True, exist_ok=True)
    return unfinished_files(folder)


def _copied(file: UPath, copy: Path) -> str:
    """Copy a file; returns its SHA-256."""
    digest = hashlib.sha256()
    try:
        source = file.open("rb")
    except OSError as error:
        raise SeedError(
            f"{escaped(str(file))}: cannot be read ({error.strerror}); mend it, or its permissions"
        ) from error
    try:
        with source, open(copy, "wb") as target:
            while piece := source.read(_PIECE):
                digest.update(piece)
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise unwritable(copy, error) from error
    return digest.hexdigest()


class SeedReading:
    """One reading of all seed files of the lake, those ``given`` in the places that they are to have."""

    def __init__(self, lake: Lake, given: Mapping[str, GivenFile], rules: SeedRules) -> None:
        self._lake, self._given, self._rules = lake, given, rules
        there = {name: seen for file in given.items() for name, seen in [(file[0], listed(file[1].copy))]}
        self.listing = Listing({**list_seed_files(lake).files, **there})
        self._contents = {name: file.content for name, file in given.items()}

    def seeds(self) -> Iterator[Seed | RejectedRow]:
        """The seeds, file by file in the order of the names. Raises SeedError like ``read_seeds``."""
        for name in sorted(self.listing.files):
            given = self._given.get(name)
            if given:
                for seed in read_seeds(given.copy, given.called, self._rules):
                    yield replace(seed, source=name)
                continue
            digest = hashlib.sha256()
            yield from read_seeds(self._lake.seeds / name, name, self._rules, digest)
            self._contents[name] = digest.hexdigest()

    def content(self) -> str:
        """Names what has been read, once all has been (``seed_state.content_digest``)."""
        return keep_hashes(self._lake, self.listing, self._contents)


def would_hold(
    lake: Lake, paths: Sequence[str], rules: SeedRules, starter: bool = False, say: Say = lambda line: None
) -> Iterator[Seed | RejectedRow]:
    """All seeds of the lake as ``taking_in`` of ``paths`` would leave it, read where they are; ``starter``: the shipped ones
    where there would be none."""
    given = _chosen(paths, say)
    kept = [path for path in seed_files(lake.seeds) if path.relative_to(lake.seeds).as_posix() not in given]
    sources = {path.relative_to(lake.seeds).as_posix(): path for path in kept} | given
    if starter and not sources:
        sources = {_STARTER: UPath(Path(__file__).parent / "offline" / _STARTER)}
    for source in sorted(sources):
        yield from read_seeds(sources[source], source, rules)


def _chosen(paths: Sequence[str], say: Say) -> dict[str, UPath]:
    """The user's seed files by their names; a folder stands for the seed files in it."""
    chosen: dict[str, UPath] = {}
    for given in paths:
        path, named = path_at(given), escaped(given)
        if not path.exists():
            raise ConfigError(f"{named}: no such file; expected one, or a folder with some, that ends in {FORMATS}")
        files = [path]
        if path.is_dir():
            files, others = seed_files(path), passed_over(path)
            if not files:
                raise ConfigError(f"{others or named}; no seed files in this folder")
            if others:
                say(others)
        for file in files:
            reason = why_not(file)
            if reason == "hidden":
                reason = "hidden, since its name begins with a dot, and a lake passes such files over; rename it"
            elif reason == "another ending":
                reason = f"format {file.suffix or 'without suffix'!r}; expected a name that ends in {FORMATS}"
            if reason:
                raise ConfigError(f"{escaped(str(file))}: {reason}")
            if not identity.is_unicode(file.name):
                raise ConfigError(f"{escaped(str(file))}: {NO_NAME}")
            if file.name in chosen and chosen[file.name] != file:
                raise ConfigError(
                    f"{escaped(str(file))}: {escaped(str(chosen[file.name]))} has the same name; rename one of them"
                )
            chosen[file.name] = file
    return chosen


def take_in_starter(lake: Lake) -> str:
    """Copy the shipped starter seeds into the lake; returns the file's name."""
    lake.write_bytes(lake.seeds / _STARTER, (Path(__file__).parent / "offline" / _STARTER).read_bytes())
    return _STARTER
