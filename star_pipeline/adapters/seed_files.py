"""Seed files on disk: finds them and reads their records one by one. Taking new ones into the lake is ``seed_intake``."""

import os
from collections.abc import Iterator, Sequence

from upath import UPath

from star_pipeline.adapters.record_files import PACKINGS, READERS, Digest, ending_of, read_records
from star_pipeline.adapters.stores.paths import StorePath
from star_pipeline.core import identity
from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.formats import DEFAULT_FIELDS
from star_pipeline.core.intake.seeds import SeedRules, seeds_of
from star_pipeline.core.records import RejectedRow, Seed

FORMATS = f"{', '.join(READERS)} (all but the last also packed: {', '.join(PACKINGS)})"
"""What names of seed files end in, in words."""
_MOST_NAMED = 5
NO_NAME = "the file's name is not UTF-8, and tables cannot hold it; rename the file"


def seed_files(folder: UPath) -> list[UPath]:
    """The seed files below ``folder``, in the order of their relative names; hidden and partial files do not count."""
    return [path for path in _below(folder) if why_not(path) is None]


def passed_over(folder: UPath) -> str | None:
    """One line that names the files below ``folder`` that are no seed files, and why; None where there are none."""
    others = [(path, reason) for path in _below(folder) if (reason := why_not(path))]
    if not others:
        return None
    named = ", ".join(f"{escaped(path.relative_to(folder).as_posix())} ({why})" for path, why in others[:_MOST_NAMED])
    more = f" and {len(others) - _MOST_NAMED:,} more" if len(others) > _MOST_NAMED else ""
    return f"{escaped(str(folder))}: passed over {named}{more}; seed files end in {FORMATS}"


def why_not(path: UPath) -> str | None:
    """Why a lake passes the file over; None where it is a seed file."""
    if ending_of(path.name) is None:
        return "another ending"
    if path.name.startswith("."):
        return "hidden"
    return None if isinstance(path, StorePath) or path.is_file() else "no regular file"


def _below(folder: UPath) -> list[UPath]:
    """All that is no folder, also in linked folders, each of which is looked into once; hidden folders and hidden files of
    other endings are left out."""
    if isinstance(folder, StorePath):
        found = [UPath(path) for path in folder.rglob("*") if not _hidden(path.relative_to(folder).parts[:-1])]
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
        raise SeedError(f"{escaped(error.filename)}: {error.strerror}; mend the folder's permissions") from error


def _hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def escaped(name: str) -> str:
    """A name that can be printed and stored: bytes that are no UTF-8 as \\x.."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_seeds(
    path: UPath, source: str, rules: SeedRules, digest: Digest | None = None
) -> Iterator[Seed | RejectedRow]:
    """The seeds of one file, in its order, one at a time.

    Raises SeedError, naming file, row and field, at the first record that is no seed; with ``rules.skip_bad_rows`` it
    comes as a RejectedRow, and only a file that cannot be read at all, or holds no seed, is an error. ``digest`` is fed with the
    file's bytes: once all seeds have been read, with all of them.
    """
    if not identity.is_unicode(source):
        raise SeedError(f"{escaped(source)}: {NO_NAME}")
    seeds = 0
    first_reason = ""
    records = read_records(path, source, {**DEFAULT_FIELDS, **rules.fields}, digest)
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
