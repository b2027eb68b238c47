"""Seed files on disk: finds them, reads their records one by one, and takes new ones into the lake."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.record_files import READERS
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.records import RejectedRow, Seed
from star_pipeline.core.seeds import SeedRules, seeds_of

SUFFIXES = tuple(READERS)
_STARTER = "starter_seeds.jsonl"
_ENDINGS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def seed_files(folder: UPath) -> list[UPath]:
    """The seed files below ``folder``, in the order of their relative names; hidden and partial files do not count."""
    if not folder.exists():
        return []
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def read_seeds(path: UPath, source: str, rules: SeedRules) -> Iterator[Seed | RejectedRow]:
    """The seeds of one file, in its order, one at a time.

    Raises SeedError, naming file, row and field, at the first record that is no seed; with ``rules.skip_bad_rows`` it
    comes as a RejectedRow, and only a file that cannot be read at all, or holds no seed, is an error.
    """
    seeds = 0
    first_reason = ""
    records = READERS[path.suffix.lower()](path, source)
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


def take_in(lake: Lake, paths: Sequence[str], rules: SeedRules) -> list[str]:
    """Copy the user's files into ``seeds/``, each validated whole before the first is copied.

    A folder stands for the seed files in it. A file of the same name and content is left as it is; one of the same name
    and other content is replaced, so that handing in an edited file again updates its seeds. Returns the names copied.
    """
    chosen = _chosen(paths)
    for file in chosen.values():
        for _ in read_seeds(file, str(file), rules):
            pass
    copied = []
    for name, file in chosen.items():
        target, content = lake.seeds / name, file.read_bytes()
        if not (target.exists() and target.read_bytes() == content):
            lake.write_bytes(target, content)
            copied.append(name)
    return copied


def would_hold(
    lake: Lake, paths: Sequence[str], rules: SeedRules, starter: bool = False
) -> Iterator[Seed | RejectedRow]:
    """All seeds of the lake as ``take_in`` of ``paths`` would leave it, read where they are; ``starter``: the shipped ones
    where there would be none."""
    given = _chosen(paths)
    kept = [path for path in seed_files(lake.seeds) if path.relative_to(lake.seeds).as_posix() not in given]
    sources = {path.relative_to(lake.seeds).as_posix(): path for path in kept} | given
    if starter and not sources:
        sources = {_STARTER: UPath(Path(__file__).parent / "offline" / _STARTER)}
    for source in sorted(sources):
        yield from read_seeds(sources[source], source, rules)


def _chosen(paths: Sequence[str]) -> dict[str, UPath]:
    """The user's seed files by their names; a folder stands for the seed files in it."""
    chosen: dict[str, UPath] = {}
    for given in paths:
        path = UPath(given)
        if not path.exists():
            raise ConfigError(f"{given}: no such file; expected a file that ends in {_ENDINGS}, or a folder with some")
        files = seed_files(path) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{given}: no seed files in this folder; expected names that end in {_ENDINGS}")
        for file in files:
            if file.suffix.lower() not in SUFFIXES:
                raise ConfigError(
                    f"{file}: format {file.suffix or 'without suffix'!r}; expected a name that ends in {_ENDINGS}"
                )
            if file.name in chosen and chosen[file.name] != file:
                raise ConfigError(f"{file}: {chosen[file.name]} has the same name; rename one of them")
            chosen[file.name] = file
    return chosen


def take_in_starter(lake: Lake) -> str:
    """Copy the shipped starter seeds into the lake; returns the file's name."""
    lake.write_bytes(lake.seeds / _STARTER, (Path(__file__).parent / "offline" / _STARTER).read_bytes())
    return _STARTER
