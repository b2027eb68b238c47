"""Builds ``inspect.duckdb`` beside the old one and puts it in its place, so that a reader never sees half of it."""

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from upath import UPath

from star_pipeline.adapters.calibration_files import read_findings
from star_pipeline.adapters.lake import Lake
from star_pipeline.core.calibration.findings import FINDINGS
from star_pipeline.core.errors import LakeError
from star_pipeline.core.health.examination import SIGNATURES
from star_pipeline.core.planning.consistency import STALE_TABLES, StaleTable
from star_pipeline.core.records import AgentSpend, HealthLine
from star_pipeline.core.study.tables import STUDY_TABLES
from star_pipeline.core.table_spec import AnyTable, Column
from star_pipeline.core.tables import (
    CONFIGS,
    HEALTH_LINES,
    LEFT_OUT_ROWS,
    ORIGINS,
    REJECTED_ROWS,
    SEED_CATALOG,
    SHARD_TABLES,
    SPEND,
    STAR_DATASET,
    TASK_DOMAINS,
)
from star_pipeline.inspection.health import health_of
from star_pipeline.inspection.shipped import STORED, in_order_of_use, statements

if TYPE_CHECKING:
    import duckdb  # here, since DuckDB complains of leaks at exit when it is imported before the models

_WHOLE_TABLES: tuple[AnyTable, ...] = (
    *(SEED_CATALOG, REJECTED_ROWS, TASK_DOMAINS, STAR_DATASET, LEFT_OUT_ROWS),
    *STUDY_TABLES,
)
_CALIBRATION = replace(FINDINGS, name="calibration")
_TABLES: tuple[AnyTable, ...] = (
    *(*SHARD_TABLES, *_WHOLE_TABLES),
    *(SPEND, CONFIGS, ORIGINS, STALE_TABLES, HEALTH_LINES, _CALIBRATION),
)
TABLE_NAMES = tuple(spec.name for spec in _TABLES)
_SHARD = Column("shard", pa.string(), "the shard, from the file's name", False)


def inspection_file(lake: Lake) -> str:
    """Where the inspection file is; raises LakeError, with the remedy, where it is not."""
    if not lake.inspection.exists():
        raise LakeError(f"{lake.inspection} is not there; make it with: star-pipeline run --lake {lake.root}")
    return lake.local_files([lake.inspection])[0]


@contextmanager
def open_inspection(lake: Lake) -> Iterator["duckdb.DuckDBPyConnection"]:
    """The inspection file, to read. Raises LakeError, with the remedy, where it is not there or cannot be opened."""
    import duckdb

    path = inspection_file(lake)
    try:
        database = duckdb.connect(path, read_only=True)
    except duckdb.Error as error:
        said = " ".join(str(error).split())
        if "lock on file" in said:
            raise LakeError(f"{path} is open for writing in another program: {said}; close it there") from error
        raise LakeError(
            f"{path} cannot be opened by DuckDB {duckdb.__version__}: {said}; make it again with: "
            f"star-pipeline run --lake {lake.root}"
        ) from error
    with database:
        yield database


def made_by_another_version(lake: Lake) -> LakeError:
    """What to say where a table or view that every file has is not there."""
    return LakeError(
        f"{lake.inspection} was made by another version; make it again with: star-pipeline run --lake {lake.root}"
    )


def is_current(lake: Lake) -> bool:
    """Whether the inspection file is there, can be opened, and has this version's tables and queries."""
    import duckdb

    try:
        with open_inspection(lake) as database:
            return bool(database.execute("SELECT layout()").fetchone() == (_layout(),))
    except (LakeError, duckdb.CatalogException):
        return False


def _layout() -> str:
    """A fingerprint of the tables, of all SQL, and of what the lines of health say."""
    tables = [(spec.name, [(c.name, str(c.type), c.description) for c in _columns(spec)]) for spec in _TABLES]
    texts = [query.text for query in in_order_of_use()]
    texts += [statements(name) for name in ("macros", "origins", "seed_lineage", "health_rows")]
    return hashlib.sha256(repr((tables, sorted(texts), SIGNATURES)).encode()).hexdigest()[:16]


def build_inspection(lake: Lake, spend: Sequence[AgentSpend] = (), stale: Sequence[StaleTable] = ()) -> dict[str, int]:
    """Write the inspection file; returns the rows of each table. A table without files is there, and empty.

    ``spend`` is what the journal says that the lake has paid, ``stale`` the shards' tables that are out of date.

    Raises LakeError where the file cannot be written.
    """
    import duckdb  # here, since DuckDB complains of leaks at exit when it is imported before the models

    try:
        # with DuckDB's own files beside it, which go with the folder
        with lake.made_locally(lake.inspection) as place, duckdb.connect(str(place)) as database:
            database.begin()  # one for all: each statement of its own would wait for the disk
            create_tables(database)
            for spec in SHARD_TABLES:
                _fill(database, spec, _files(lake, [lake.table(spec, shard) for shard in lake.shards_of(spec)]))
            for spec in _WHOLE_TABLES:
                _fill(database, spec, _files(lake, [lake.table(spec)] if lake.has_table(spec) else []))
            _insert(database, SPEND.name, SPEND.to_arrow(spend))
            _insert(database, STALE_TABLES.name, STALE_TABLES.to_arrow(stale))
            _insert(database, _CALIBRATION.name, _CALIBRATION.to_arrow(read_findings(lake)))
            _record_origins(database, lake)
            if _count(database, "sampling_plan"):
                _insert(database, HEALTH_LINES.name, HEALTH_LINES.to_arrow(health_of(database)))
            create_queries(database)
            database.execute(f"CREATE MACRO layout() AS '{_layout()}'")
            sizes = {spec.name: _count(database, spec.name) for spec in _TABLES}
            database.commit()
    except (OSError, duckdb.IOException) as error:
        raise LakeError(
            f"cannot write {lake.inspection}: {error}; free some space or mend the permissions, then run again"
        ) from error
    return sizes


def health_before_publishing(lake: Lake, shards: Sequence[str], published: Mapping[str, int]) -> list[HealthLine]:
    """The lines of health of these shards, off their files; ``published``: pair_id -> rows of the final data set that is to be."""
    import duckdb

    with duckdb.connect() as database:
        for spec in SHARD_TABLES:
            database.register(f"no_{spec.name}", _empty(spec))
            there = {*lake.shards_of(spec)}
            files = _files(lake, [lake.table(spec, shard) for shard in shards if shard in there])
            # columns that an earlier version did not write are null, and texts that nobody asks for are not read
            rows = f" UNION ALL BY NAME {_selection(database, spec, files)}" if files else ""
            database.execute(f"CREATE VIEW {spec.name} AS SELECT * FROM no_{spec.name}{rows}")
        return health_of(database, published)


def create_tables(database: "duckdb.DuckDBPyConnection") -> None:
    """Every table of the file, empty, with its columns described."""
    for spec in _TABLES:
        database.register("empty", _empty(spec))
        database.execute(f"CREATE TABLE {spec.name} AS SELECT * FROM empty")
        database.unregister("empty")
        for column in _columns(spec):
            _describe(database, f"COLUMN {spec.name}.{column.name}", column.description)


def create_queries(database: "duckdb.DuckDBPyConnection") -> None:
    """The macros, and a view of each shipped query; the tables must be there."""
    database.execute(statements("macros"))
    known = _known_columns()
    for query in in_order_of_use():
        kind = "TABLE" if query.name in STORED else "VIEW"
        database.execute(f"CREATE {kind} {query.name} AS {query.sql}")
        _describe(database, f"{kind} {query.name}", f"{query.question} {query.notes}".strip())
        for (name,) in database.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = ?", [query.name]
        ).fetchall():
            if text := query.columns.get(name) or known.get(name):
                _describe(database, f"COLUMN {query.name}.{name}", text)
    database.execute(statements("seed_lineage"))


@dataclass(frozen=True)
class QueryColumn:
    """A column of a shipped query; ``description`` is None where the name says it."""

    name: str
    type: str
    description: str | None


def query_columns() -> dict[str, list[QueryColumn]]:
    """name of each shipped query, superseded ones too -> its columns, without any lake; columns named after pairs are left out."""
    import duckdb

    with duckdb.connect() as database:
        create_tables(database)
        create_queries(database)
        found: dict[str, list[QueryColumn]] = {query.name: [] for query in in_order_of_use()}
        for name, *column in database.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() ORDER BY table_name, column_index"
        ).fetchall():
            if name in found:
                found[name].append(QueryColumn(*column))
    return found


def _known_columns() -> dict[str, str]:
    """What a column of this name holds, where all tables that have one say the same, a study's left aside."""
    said: dict[str, set[str]] = {}
    for spec in _TABLES:
        for column in _columns(spec) if spec not in STUDY_TABLES else ():
            said.setdefault(column.name, set()).add(column.description)
    return {name: texts.pop() for name, texts in said.items() if len(texts) == 1}


def _columns(spec: AnyTable) -> tuple[Column, ...]:
    with_shard = spec not in SHARD_TABLES or any(column.name == "shard" for column in spec.columns)
    return spec.columns if with_shard else (*spec.columns, _SHARD)


def _files(lake: Lake, paths: Sequence[UPath]) -> list[str]:
    """Files as DuckDB takes them: below a lake called ``data*`` their names would be patterns, and fit another lake's too."""
    return [glob.escape(file) for file in lake.local_files(paths)]


def _empty(spec: AnyTable) -> pa.Table:
    return pa.schema([pa.field(c.name, c.type) for c in _columns(spec)]).empty_table()


def _fill(database: "duckdb.DuckDBPyConnection", spec: AnyTable, files: list[str]) -> None:
    if files:
        database.execute(f"INSERT INTO {spec.name} BY NAME {_selection(database, spec, files)}")


def _selection(database: "duckdb.DuckDBPyConnection", spec: AnyTable, files: list[str]) -> str:
    """Read the table's files, those of other versions too: a column that a file lacks is null, one that only it has is left."""
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    source = f"read_parquet([{listed}], filename = true, union_by_name = true)"
    there = {row[0] for row in database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    columns = [column.name for column in spec.columns if column.name in there]
    if _columns(spec) != spec.columns:
        columns.append("parse_filename(filename, true) AS shard")
    return f"SELECT {', '.join(columns)} FROM {source}"


def _record_origins(database: "duckdb.DuckDBPyConnection", lake: Lake) -> None:
    made = _files(lake, [lake.table(spec, shard) for spec in SHARD_TABLES for shard in lake.shards_of(spec)])
    if made:
        database.execute(f"CREATE TEMP TABLE said AS {statements('origins')}", [made])
        database.execute(f"INSERT INTO {ORIGINS.name} BY NAME SELECT * EXCLUDE (settings) FROM said")
        database.execute(
            f"INSERT INTO {CONFIGS.name} SELECT fingerprint, name, any_value(settings), min(shard), max(shard), count(*) "
            "FROM said GROUP BY fingerprint, name ORDER BY min(shard), max(shard), fingerprint, name"
        )


def _insert(database: "duckdb.DuckDBPyConnection", name: str, rows: pa.Table) -> None:
    database.register("given", rows)
    database.execute(f"INSERT INTO {name} BY NAME SELECT * FROM given")
    database.unregister("given")


def _describe(database: "duckdb.DuckDBPyConnection", what: str, text: str) -> None:
    text = text.replace("'", "''")
    database.execute(f"COMMENT ON {what} IS '{text}'")


def _count(database: "duckdb.DuckDBPyConnection", name: str) -> int:
    [(rows,)] = database.execute(f"SELECT count(*) FROM {name}").fetchall()
    return int(rows)
