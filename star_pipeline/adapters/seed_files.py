"""Seed files on disk: finds them, reads their records one by one, and takes new ones into the lake."""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.records import Seed
from star_pipeline.core.seeds import seed_from_alpaca

SUFFIXES = (".json", ".jsonl")


def seed_files(folder: UPath) -> list[UPath]:
    """The seed files below ``folder``, in the order of their relative names; hidden and partial files do not count."""
    if not folder.exists():
        return []
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def read_seeds(path: UPath, source: str, fields: Mapping[str, str]) -> Iterator[Seed]:
    """The seeds of one file, in its order. Raises SeedError, naming file, row and field, at the first that does not fit."""
    count = 0
    for row, raw in _records(path, source):
        count += 1
        yield seed_from_alpaca(raw, source, row, fields)
    if not count:
        raise SeedError(
            f"{source}: no records, expected at least one instruction and response; fill the file or remove it"
        )


def lake_seeds(lake: Lake, fields: Mapping[str, str]) -> Iterator[Seed]:
    """All seeds of the lake, file by file."""
    for path in seed_files(lake.seeds):
        yield from read_seeds(path, path.relative_to(lake.seeds).as_posix(), fields)


def take_in(lake: Lake, paths: Sequence[str], fields: Mapping[str, str]) -> list[str]:
    """Copy the user's files into ``seeds/``, each validated whole before the first is copied.

    A folder stands for the seed files in it. A file of the same name and content is left as it is; one of the same name
    and other content is replaced, so that handing in an edited file again updates its seeds. Returns the names copied.
    """
    chosen: dict[str, UPath] = {}
    for given in paths:
        path = UPath(given)
        if not path.exists():
            raise ConfigError(f"{given}: no such file; expected a .json or .jsonl file, or a folder with some")
        files = seed_files(path) if path.is_dir() else [path]
        if not files:
            raise ConfigError(
                f"{given}: no seed files in this folder; expected names that end in {' or '.join(SUFFIXES)}"
            )
        for file in files:
            if file.suffix.lower() not in SUFFIXES:
                raise ConfigError(
                    f"{file}: format {file.suffix or 'without suffix'!r}; expected a name that ends in {' or '.join(SUFFIXES)}"
                )
            if file.name in chosen and chosen[file.name] != file:
                raise ConfigError(f"{file}: {chosen[file.name]} has the same name; rename one of them")
            chosen[file.name] = file
    for file in chosen.values():
        for _ in read_seeds(file, str(file), fields):
            pass
    copied = []
    for name, file in chosen.items():
        target, content = lake.seeds / name, file.read_bytes()
        if not (target.exists() and target.read_bytes() == content):
            lake.write_bytes(target, content)
            copied.append(name)
    return copied


def take_in_starter(lake: Lake) -> str:
    """Copy the shipped starter seeds into the lake; returns the file's name."""
    name = "starter_seeds.jsonl"
    lake.write_bytes(lake.seeds / name, (Path(__file__).parent / "offline" / name).read_bytes())
    return name


def _records(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    return _json_lines(path, source) if path.suffix.lower() == ".jsonl" else _json_array(path, source)


def _json_lines(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = _decode(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, f"{source}, line {number}")
            if text.strip():
                try:
                    yield number, json.loads(text)
                except json.JSONDecodeError as error:
                    raise SeedError(
                        f"{source}, line {number}, column {error.colno}: no valid JSON ({error.msg}); mend the line"
                    ) from error


def _json_array(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    text = _decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), source)
    if not text.strip():
        raise SeedError(f"{source}: the file is empty, expected a JSON list of records; fill it or remove it")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; it looks like one record a line: name it .jsonl" if error.msg == "Extra data" else "; mend it"
        raise SeedError(
            f"{source}, line {error.lineno}, column {error.colno}: no valid JSON ({error.msg}){hint}"
        ) from error
    if not isinstance(data, list):
        raise SeedError(f"{source}: a JSON {type(data).__name__}, expected a list of records")
    yield from enumerate(data, start=1)


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SeedError(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
