"""Seed files on disk: finds them, reads their records one by one, and takes new ones into the lake."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.record_files import PACKINGS, READERS, ending_of, read_records
from star_pipeline.core import identity
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.intake.formats import DEFAULT_FIELDS
from star_pipeline.core.intake.seeds import SeedRules, seeds_of
from star_pipeline.core.records import RejectedRow, Seed

FORMATS = f"{', '.join(READERS)} (all but the last also packed: {', '.join(PACKINGS)})"
"""What names of seed files end in, in words."""
_STARTER = "starter_seeds.jsonl"
_MOST_NAMED = 5
_NO_NAME = "the file's name is not UTF-8, and tables cannot hold it; rename the file"


def seed_files(folder: UPath) -> list[UPath]:
    """The seed files below ``folder``, in the order of their relative names; hidden and partial files do not count."""
    return [path for path in _below(folder) if _why_not(path) is None]


def passed_over(folder: UPath) -> str | None:
    """One line that names the files below ``folder`` that are no seed files, and why; None where there are none."""
    others = [(path, reason) for path in _below(folder) if (reason := _why_not(path))]
    if not others:
        return None
    named = ", ".join(f"{_escaped(path.relative_to(folder).as_posix())} ({why})" for path, why in others[:_MOST_NAMED])
    more = f" and {len(others) - _MOST_NAMED:,} more" if len(others) > _MOST_NAMED else ""
    return f"{_escaped(str(folder))}: passed over {named}{more}; seed files end in {FORMATS}"


def _why_not(path: UPath) -> str | None:
    if ending_of(path.name) is None:
        return "another ending"
    if path.name.startswith("."):
        return "hidden"
    return None if path.is_file() else "no regular file"


def _below(folder: UPath) -> list[UPath]:
    """All that is no folder, also in linked folders, each of which is looked into once; hidden folders and hidden files of
    other endings are left out."""
    if folder.protocol not in ("", "file"):
        every = folder.rglob("*") if folder.exists() else ()
        found = [path for path in every if not path.is_dir() and not _hidden(path.relative_to(folder).parts[:-1])]
    else:
        found, seen = [], {os.path.realpath(str(folder))}
        for place, folders, files in os.walk(str(folder), onerror=_unreadable, followlinks=True):
            found += [UPath(place) / name for name in files]
            inner = {
                name: os.path.realpath(os.path.join(place, name)) for name in sorted(folders) if not _hidden([name])
            }
            folders.clear()
            for name, real in inner.items():
                if real not in seen:
                    seen.add(real)
                    folders.append(name)
    kept = [path for path in found if ending_of(path.name) or not _hidden([path.name])]
    return sorted(kept, key=lambda path: path.relative_to(folder).as_posix())


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise SeedError(f"{_escaped(error.filename)}: {error.strerror}; mend the folder's permissions") from error


def _hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _escaped(name: str) -> str:
    """A name that can be printed and stored: bytes that are no UTF-8 as \\x.."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_seeds(path: UPath, source: str, rules: SeedRules) -> Iterator[Seed | RejectedRow]:
    """The seeds of one file, in its order, one at a time.

    Raises SeedError, naming file, row and field, at the first record that is no seed; with ``rules.skip_bad_rows`` it
    comes as a RejectedRow, and only a file that cannot be read at all, or holds no seed, is an error.
    """
    if not identity.is_unicode(source):
        raise SeedError(f"{_escaped(source)}: {_NO_NAME}")
    seeds = 0
    first_reason = ""
    records = read_records(path, source, {**DEFAULT_FIELDS, **rules.fields})
    for seed in seeds_of(records, source, rules):
        if isinstance(seed, Seed):
            seeds += 1
        elif not first_reason:
            first_reason = f"; row {seed.source_row}: {seed.reason}"
        yield seed
    if not seeds:
        problem = f"no usable record{first_reason}" if first_reason else "no records"
        raise SeedError(
            f"{source}: {problem}; expected at least one instruction with its response, fill or remove the file"
        )


def lake_seeds(lake: Lake, rules: SeedRules) -> Iterator[Seed | RejectedRow]:
    """All seeds of the lake, file by file."""
    for path in seed_files(lake.seeds):
        yield from read_seeds(path, path.relative_to(lake.seeds).as_posix(), rules)


Say = Callable[[str], None]


def take_in(lake: Lake, paths: Sequence[str], rules: SeedRules, say: Say = lambda line: None) -> list[str]:
    """Copy the user's files into ``seeds/``, each validated whole before the first is copied.

    A folder stands for the seed files in it; ``say`` gets a line where it holds others. A file of the same name and content is
    left as it is; one of the same name and other content is replaced, so that handing in an edited file again updates its
    seeds. Returns the names copied.
    """
    chosen = _chosen(paths, say)
    for file in chosen.values():
        for _ in read_seeds(file, _escaped(str(file)), rules):
            pass
    copied = []
    for name, file in chosen.items():
        target, content = lake.seeds / name, file.read_bytes()
        if not (target.exists() and target.read_bytes() == content):
            lake.write_bytes(target, content)
            copied.append(name)
    return copied


def would_hold(
    lake: Lake, paths: Sequence[str], rules: SeedRules, starter: bool = False, say: Say = lambda line: None
) -> Iterator[Seed | RejectedRow]:
    """All seeds of the lake as ``take_in`` of ``paths`` would leave it, read where they are; ``starter``: the shipped ones
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
        path, named = UPath(given), _escaped(given)
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
            why_not = _why_not(file)
            if why_not == "hidden":
                why_not = "hidden, since its name begins with a dot, and a lake passes such files over; rename it"
            elif why_not == "another ending":
                why_not = f"format {file.suffix or 'without suffix'!r}; expected a name that ends in {FORMATS}"
            if why_not:
                raise ConfigError(f"{_escaped(str(file))}: {why_not}")
            if not identity.is_unicode(file.name):
                raise ConfigError(f"{_escaped(str(file))}: {_NO_NAME}")
            if file.name in chosen and chosen[file.name] != file:
                raise ConfigError(
                    f"{_escaped(str(file))}: {_escaped(str(chosen[file.name]))} has the same name; rename one of them"
                )
            chosen[file.name] = file
    return chosen


def take_in_starter(lake: Lake) -> str:
    """Copy the shipped starter seeds into the lake; returns the file's name."""
    lake.write_bytes(lake.seeds / _STARTER, (Path(__file__).parent / "offline" / _STARTER).read_bytes())
    return _STARTER
