"""The lake: every path, built from one root, and atomic writes. Nothing else knows where things are."""

import functools
import hashlib
import io
import os
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.adapters.held import require_held
from star_pipeline.adapters.temporary_files import sweep, unfinished
from star_pipeline.core import identity
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.records import CatalogEntry
from star_pipeline.core.study.tables import STUDY_TABLES
from star_pipeline.core.table_spec import AnyTable, TableSpec
from star_pipeline.core.tables import (
    COST_COLUMNS,
    LEFT_OUT_ROWS,
    REJECTED_ROWS,
    SEED_CATALOG,
    STAR_DATASET,
    TASK_DOMAINS,
)

R = TypeVar("R")
Signature = tuple[int, int, int]


class _CatalogShard(NamedTuple):
    """``live``: whether any of its seeds is still in the seed files; ``seeds``: how many it has, live or not."""

    live: bool
    seeds: int


_WHOLE = {spec.name for spec in (SEED_CATALOG, REJECTED_ROWS, TASK_DOMAINS, LEFT_OUT_ROWS)}
"""The tables of which there is one, and not one a shard, beside the final data set."""
_STUDY = {spec.name for spec in STUDY_TABLES}

_ROW_GROUP = 4096
"""Rows that a reader of a table has to hold at least, compressed."""


def content_hash(table: pa.Table) -> str:
    """16 hex digits that name a table's values, whether it was just made or read back: its data version."""
    # through JSON, since Arrow's own bytes depend on chunks, buffers and field metadata that Parquet does not keep
    lasting = table.drop_columns([name for name in table.column_names if name in COST_COLUMNS])
    return identity.digest(lasting.to_pydict())


def write_whole(path: UPath, data: bytes) -> None:
    """Write a file whole or not at all. Raises LakeError, saying what stood in the way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.protocol not in ("", "file"):
            path.write_bytes(data)  # object stores put whole objects
            return
    except OSError as error:
        raise unwritable(path, error) from error
    with whole_file(Path(str(path))) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A local file to write in pieces, which takes its place when the block ends well, and else leaves nothing behind.

    Raises LakeError, saying what stood in the way.
    """
    try:
        with unfinished(path) as place, open(place, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: UPath | Path, error: OSError) -> LakeError:
    """What to say of a place that cannot be written."""
    return LakeError(
        f"cannot write {path}: {error.strerror or error}; free some space or mend the permissions, then run again"
    )


def file_digest(path: UPath) -> str:
    """SHA-256 of a file's bytes, in hex digits. Raises OSError."""
    with path.open(
        "rb"
    ) as file:  # a file as Python's own or fsspec's, both of which fill a buffer; UPath does not say so
        return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


def arrow_table(file: str | os.PathLike[str] | BinaryIO, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, given by its path or open, or its ``columns`` alone; read without Arrow's threads.

    A process that ends when they have just begun is aborted ("terminate called"), with exit code 134 instead of its own.
    """
    return pq.read_table(file, columns=columns, use_threads=False)


def _unusable(character: str) -> bool:
    """DuckDB takes ? and \\ in a path for something else, LanceDB refuses control characters, both bytes that are no UTF-8."""
    return character == "?" or (character == "\\" != os.sep) or unicodedata.category(character) in ("Cc", "Cs")


@dataclass(frozen=True)
class Lake:
    root: UPath

    @classmethod
    def at(cls, root: str | os.PathLike[str]) -> "Lake":
        """The lake at ``root``, made absolute, so that a later change of the working folder does not move it.

        Raises ConfigError for a path that one of the lake's tools cannot take, before any of them is at a loss.
        """
        if "://" in str(root):
            return cls(UPath(root))
        path = os.path.abspath(root)
        if odd := next((character for character in path if _unusable(character)), None):
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            raise ConfigError(
                f"--lake {shown!r}: DuckDB or LanceDB cannot work below a folder with {odd!a} in its name; choose another folder"
            )
        return cls(UPath(path))

    @property
    def seeds(self) -> UPath:
        return self.root / "seeds"

    @property
    def models(self) -> UPath:
        return self.root / "models"

    @property
    def memory_bank(self) -> UPath:
        return self.root / "memory_bank"

    @property
    def journal(self) -> UPath:
        return self.root / "journal"

    @property
    def calibration(self) -> UPath:
        return self.root / "calibration"

    @property
    def study(self) -> UPath:
        return self.root / "study"

    def arm(self, name: str) -> UPath:
        """The training set of a study's arm."""
        return self.study / "arms" / f"{name}.parquet"

    @property
    def inspection(self) -> UPath:
        return self.root / "inspect.duckdb"

    @property
    def report(self) -> UPath:
        return self.root / "report.html"

    @property
    def dagster_home(self) -> UPath:
        return self.root / "dagster_home"

    @property
    def numerics(self) -> UPath:
        return self.root / "numerics.json"

    @property
    def lock(self) -> UPath:
        return self.root / ".lock"

    @property
    def publishing_lock(self) -> UPath:
        return self.root / ".publishing_lock"

    @property
    def study_lock(self) -> UPath:
        return self.root / ".study_lock"

    @property
    def server_lock(self) -> UPath:
        return self.dagster_home / ".server_lock"

    @property
    def seed_hashes(self) -> UPath:
        return self.root / ".seed_hashes.json"

    @property
    def dataset_card(self) -> UPath:
        return self.root / "star_dataset" / "README.md"

    @property
    def dataset_manifest(self) -> UPath:
        return self.root / "star_dataset" / "manifest.json"

    @property
    def lake_id(self) -> str:
        """Names the lake in a journal, for good: made at the first question, kept in ``journal/`` wherever the journal is."""
        path = self.journal / "lake_id"
        if not path.exists():
            self.write_bytes(path, uuid.uuid4().hex.encode())
        return str(path.read_text("utf-8")).strip()

    @property
    def known_id(self) -> str | None:
        """The same without making one."""
        return self.lake_id if (self.journal / "lake_id").exists() else None

    def journal_folder(self, shared: str | None) -> Path:
        """Where the replies are kept: the folder that the configuration shares between lakes, else the lake's own."""
        return Path(shared or self.local(self.journal))

    def table(self, spec: AnyTable, shard: str | None = None) -> UPath:
        """The Parquet file of a table; ``shard`` is None for the tables of which there is one."""
        if spec.name == STAR_DATASET.name:
            return self.root / "star_dataset" / "star_dataset.parquet"
        if spec.name in _STUDY:
            return self.study / f"{spec.name}.parquet"
        if spec.name in _WHOLE:
            return self.root / "tables" / f"{spec.name}.parquet"
        if shard is None:
            raise LakeError(f"table {spec.name} has one file a shard, and no shard was named")
        return self.root / "tables" / spec.name / f"{shard}.parquet"

    def local(self, path: UPath) -> str:
        """The path as tools take it that know local disks only (DuckDB, LanceDB, Dagster's storage, locks)."""
        if path.protocol not in ("", "file"):
            raise LakeError(
                f"{path}: this part of the lake has to be on a local disk; choose a local folder with --lake"
            )
        return str(path)

    def prepare(self) -> None:
        """Make the folders that users and tools look for. Raises LakeError where the lake cannot be written."""
        for folder in (self.seeds, self.root / "tables", self.models, self.journal, self.dagster_home):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LakeError(
                    f"cannot make {folder}: {error.strerror or error}; expected a folder that can be written, choose one with --lake"
                ) from error

    def write_bytes(self, path: UPath, data: bytes) -> None:
        """Whole or not at all: a reader sees the old content or the new one, also after a crash.

        Raises LakeError where the lake cannot be written, or this process held it and has lost it.
        """
        require_held(str(self.root))
        write_whole(path, data)

    def write_table(self, spec: AnyTable, table: pa.Table, shard: str | None = None) -> UPath:
        """Write a table whose schema is checked against ``spec``; returns its path."""
        path = self.table(spec, shard)
        self.write_bytes(path, self.encoded(spec, table))
        return path

    def encoded(self, spec: AnyTable, table: pa.Table) -> bytes:
        """The table as a Parquet file's content. Raises LakeError where it does not fit ``spec``."""
        if not table.schema.equals(spec.schema):
            raise LakeError(
                f"table {spec.name} does not fit its schema: {table.schema.to_string(show_schema_metadata=False)}"
            )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
        return bytes(sink.getvalue().to_pybytes())

    def read_arrow(self, spec: AnyTable, shard: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The table, or its ``columns`` alone. Raises LakeError where it is not there or broken."""
        with self._reading(spec, shard) as file:
            return arrow_table(file, columns)

    def rows(self, spec: TableSpec[R], size: int = 1024) -> Iterator[R]:
        """The rows of a table of which there is one, without ever holding the table. Raises LakeError like ``read_arrow``."""
        with self._reading(spec, None) as file:
            # by itself it reads ahead to the file's end, and keeps what it has read
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(size, use_threads=False):
                yield from spec.from_arrow(pa.Table.from_batches([batch]))

    @contextmanager
    def _reading(self, spec: AnyTable, shard: str | None) -> Iterator[BinaryIO]:
        path = self.table(spec, shard)
        try:
            with path.open("rb") as file:
                yield file
        except FileNotFoundError as error:
            what = f"{spec.name}[{shard}]" if shard else spec.name
            raise LakeError(f"{path} is not there; materialise {what} first, or run: star-pipeline run") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(f"{path} cannot be read: {error}; remove it and run: star-pipeline run") from error

    def read_table(self, spec: TableSpec[R], shard: str | None = None) -> list[R]:
        return spec.from_arrow(self.read_arrow(spec, shard))

    def has_table(self, spec: AnyTable, shard: str | None = None) -> bool:
        return bool(self.table(spec, shard).exists())

    def shards_of(self, spec: AnyTable) -> list[str]:
        """Keys of the shards that have this table, in order."""
        folder = self.root / "tables" / spec.name
        return sorted(path.stem for path in folder.glob("*.parquet")) if folder.exists() else []

    def catalog_shards(self) -> list[str]:
        """Keys of all shards that the catalogue knows, in order; a manifest that is not in it does not count."""
        return list(self._catalog()) if self.has_table(SEED_CATALOG) else []

    def has_live_seeds(self, shard: str) -> bool:
        """Whether any seed of the shard is still in the seed files."""
        found = self._catalog().get(shard)
        return found is not None and found.live

    def seeds_in(self, shards: Iterable[str]) -> int:
        """How many seeds these shards of the catalogue have, live or not."""
        return sum(self._catalog()[shard].seeds for shard in shards)

    def _catalog(self) -> Mapping[str, _CatalogShard]:
        """What the catalogue says of each shard, in order of the keys. Every shard asks: the catalogue is read once."""
        return _catalog_shards(self, self.signature(SEED_CATALOG))

    def signature(self, spec: AnyTable, shard: str | None = None) -> Signature | None:
        """Changes when the table's file is replaced; None where it is not there."""
        try:
            seen = self.table(spec, shard).stat()
        except FileNotFoundError:
            return None
        return int(seen.st_mtime_ns), int(seen.st_size), int(seen.st_ino)

    def sweep(self) -> None:
        """Remove what processes that are no more left half written; what is being written, by whomever, stays."""
        if self.root.protocol in ("", "file"):  # object stores put whole objects
            root = Path(self.local(self.root))
            tables = root / "tables"
            places = (
                root / name for name in ("seeds", "star_dataset", "journal", "dagster_home", "calibration", "study")
            )
            for folder in (root, *places, root / "study" / "arms", tables, *tables.glob("*")):
                sweep(folder)

    def catalog_rows(self) -> Sequence[CatalogEntry]:
        """The seed catalogue; empty on a fresh lake."""
        return self.read_table(SEED_CATALOG) if self.has_table(SEED_CATALOG) else []


@functools.lru_cache(maxsize=2)
def _catalog_shards(lake: Lake, signature: Signature | None) -> Mapping[str, _CatalogShard]:
    catalog = lake.read_arrow(SEED_CATALOG, columns=["shard", "live"])
    found = catalog.group_by("shard").aggregate([("live", "any"), ("live", "count")])
    columns = (found.column(name).to_pylist() for name in ("shard", "live_any", "live_count"))
    return {shard: _CatalogShard(live, seeds) for shard, live, seeds in sorted(zip(*columns, strict=True))}
