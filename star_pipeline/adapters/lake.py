"""The lake: every path, built from one root, and atomic writes. Nothing else knows where things are."""

import functools
import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.adapters.held import require_held
from star_pipeline.adapters.stores.keeper import require_kept_here
from star_pipeline.adapters.stores.local import unwritable
from star_pipeline.adapters.stores.paths import StorePath, placed, root_at
from star_pipeline.adapters.stores.probe import require_once
from star_pipeline.adapters.stores.workspace import copies, listed, made_at, workspace_of
from star_pipeline.adapters.temporary_files import sweep, unfinished
from star_pipeline.core import identity
from star_pipeline.core.errors import LakeError
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
Signature = str


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
    store, key = placed(path)
    store.put(key, data)


def put_file(path: UPath, file: Path) -> None:
    """The same with the content of a local file."""
    store, key = placed(path)
    store.put(key, file)


def write_once(path: UPath, data: bytes) -> bytes:
    """Write a file that is made once; returns what is in it: ``data``, or what another wrote first. Raises LakeError."""
    store, key = placed(path)
    return data if store.create(key, data) else store.get(key)


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


def file_digest(path: UPath) -> str:
    """SHA-256 of a file's bytes, in hex digits. Raises OSError."""
    with path.open("rb") as file:  # Python's own or a store's, both of which fill a buffer; UPath does not say so
        return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


def arrow_table(file: str | os.PathLike[str] | BinaryIO, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, given by its path or open, or its ``columns`` alone; read without Arrow's threads.

    A process that ends when they have just begun is aborted ("terminate called"), with exit code 134 instead of its own.
    """
    return pq.read_table(file, columns=columns, use_threads=False)


@dataclass(frozen=True)
class Lake:
    root: UPath

    @classmethod
    def at(cls, root: str | os.PathLike[str]) -> "Lake":
        """The lake at ``root``, made absolute, so that a later change of the working folder does not move it.

        Raises ConfigError for a path that one of the lake's tools cannot take, before any of them is at a loss.
        """
        return cls(root_at(root))

    @property
    def shared(self) -> bool:
        """Whether it is in object storage, where other machines see it too."""
        return isinstance(self.root, StorePath)

    @property
    def workspace(self) -> UPath:
        """What has to be on a disk of this machine lies here: the lake's own folder, where it has one."""
        return UPath(workspace_of(str(self.root))) if self.shared else self.root

    @property
    def seeds(self) -> UPath:
        return self.root / "seeds"

    @property
    def models(self) -> UPath:
        return self.workspace / "models"

    @property
    def memory_bank(self) -> UPath:
        return self.root / "memory_bank"

    @property
    def journal(self) -> UPath:
        """The folder of the replies, where no configuration names another."""
        return self.workspace / "journal"

    @property
    def calibration(self) -> UPath:
        return self.root / "calibration"

    @property
    def study(self) -> UPath:
        return self.root / "study"

    @property
    def study_models(self) -> UPath:
        return self.workspace / "study" / "models"

    @property
    def study_measured(self) -> UPath:
        """What was measured of single models, which a kill does not take."""
        return self.workspace / "study" / "measured"

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
        return self.workspace / "dagster_home"

    @property
    def numerics(self) -> UPath:
        return self.root / "numerics.json"

    @property
    def lock(self) -> UPath:
        return self.workspace / ".lock"

    @property
    def publishing_lock(self) -> UPath:
        return self.workspace / ".publishing_lock"

    @property
    def study_lock(self) -> UPath:
        return self.workspace / ".study_lock"

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
        path = self._lake_id
        kept = path.read_bytes() if path.is_file() else write_once(path, uuid.uuid4().hex.encode())
        return kept.decode("utf-8").strip()

    @property
    def has_id(self) -> bool:
        """Whether any journal can know it."""
        return bool(self._lake_id.is_file())

    @property
    def known_id(self) -> str | None:
        """Its name in a journal, without making one."""
        return self.lake_id if self.has_id else None

    @property
    def _lake_id(self) -> UPath:
        return self.root / "journal" / "lake_id"

    def journal_folder(self, shared: str | None, pays: bool = False) -> Path:
        """Where the replies are kept: the folder that the configuration shares between lakes, else the lake's own.

        Raises LakeError where another machine keeps those of a lake in object storage; the first that ``pays`` is the one that does.
        """
        if isinstance(self.root, StorePath) and not shared:
            require_kept_here(self.root, self.journal, pays)
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
        """The path as tools take it that know local disks only (Dagster's storage, locks, models); see ``local_files`` for the others."""
        if path.protocol not in ("", "file"):
            raise LakeError(
                f"{path}: this part of the lake has to be on a local disk; choose a local folder with --lake"
            )
        return str(path)

    def local_files(self, paths: Sequence[UPath]) -> list[str]:
        """The files as DuckDB takes them: themselves, or copies in the workspace, renewed where the ETag has changed."""
        there = [path for path in paths if isinstance(path, StorePath)]
        return copies(there, self._copies) if there else [str(path) for path in paths]

    def made_locally(self, path: UPath) -> AbstractContextManager[Path]:
        """A place on this machine to make a file at, which takes its place in the lake when the block ends well."""
        require_held(str(self.root))
        return made_at(path, Path(str(self.workspace)), self._copies)

    def as_listed(self, *folders: str) -> AbstractContextManager[None]:
        """These folders of a lake in a bucket as they are now, and its tables read once, for as long as the block runs, in this thread."""
        return listed(self.root, self._copies, *folders) if isinstance(self.root, StorePath) else nullcontext()

    @property
    def _copies(self) -> Path:
        return Path(str(self.workspace)) / "copies"

    def prepare(self) -> None:
        """Make the folders that users and tools look for. Raises LakeError where the lake cannot be written, or does not answer."""
        if isinstance(self.root, StorePath):
            self.root.is_dir()  # of all requests a listing says best what is wrong with bucket, credentials or network
            if not self.has_id:
                require_once(self.root)
        folders = (self.seeds, self.root / "tables", self.models, self.journal, self.dagster_home)
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LakeError(
                    f"cannot make {folder}: {error.strerror or error}; expected a folder that can be written, choose one with "
                    + ("STAR_WORKSPACE" if self.shared else "--lake")
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
        return bool(self.table(spec, shard).is_file())

    def shards_of(self, spec: AnyTable) -> list[str]:
        """Keys of the shards that have this table, in order."""
        folder = self.root / "tables" / spec.name
        return sorted(path.stem for path in folder.glob("*.parquet")) if self.shared or folder.exists() else []

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
        store, key = placed(self.table(spec, shard))
        found = store.head(key)
        return found.etag if found else None

    def sweep(self) -> None:
        """Remove what processes that are no more left half written; what is being written, by whomever, stays."""
        root = Path(self.local(self.workspace))  # object stores put whole objects
        tables = root / "tables"
        places = (root / name for name in ("seeds", "star_dataset", "journal", "dagster_home", "calibration", "study"))
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
