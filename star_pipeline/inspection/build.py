"""Builds ``inspect.duckdb`` beside the old one and puts it in its place, so that a reader never sees half of it."""

import os
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import pyarrow as pa

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import LakeError
from star_pipeline.core.records import AgentSpend
from star_pipeline.core.tables import CONFIGS, REJECTED_ROWS, SEED_CATALOG, SHARD_TABLES, SPEND, STAR_DATASET, Column

if TYPE_CHECKING:
    import duckdb  # here, since DuckDB complains of leaks at exit when it is imported before the models

VIEWS = ("pair_leaderboard", "probability_history", "judge_bias", "costs", "failures", "lineage")
_WHOLE_TABLES = (SEED_CATALOG, REJECTED_ROWS, STAR_DATASET)
_SHARD = Column("shard", pa.string(), "the shard, from the file's name", False)


def inspection_file(lake: Lake) -> str:
    """Where the inspection file is; raises LakeError, with the remedy, where it is not."""
    if not lake.inspection.exists():
        raise LakeError(f"{lake.inspection} is not there; make it with: star-pipeline run --lake {lake.root}")
    return lake.local(lake.inspection)


def build_inspection(lake: Lake, spend: Sequence[AgentSpend] = ()) -> dict[str, int]:
    """Write the inspection file; returns the rows of each table. A table without files is there, and empty.

    ``spend`` is what the journal says that the lake has paid.
    """
    import duckdb  # here, since DuckDB complains of leaks at exit when it is imported before the models

    partial = lake.inspection.with_name(f".inspect.{os.getpid()}.partial.duckdb")
    partial.unlink(missing_ok=True)
    sizes: dict[str, int] = {}
    try:
        with duckdb.connect(lake.local(partial)) as database:
            for spec in SHARD_TABLES:
                files = [lake.local(lake.table(spec, shard)) for shard in lake.shards_of(spec)]
                if files:
                    shard = "" if _has_shard(spec.columns) else ", parse_filename(filename, true) AS shard"
                    read = f"SELECT * EXCLUDE (filename){shard} FROM read_parquet(?, filename = true)"
                    database.execute(f"CREATE TABLE {spec.name} AS {read}", [files])
                else:
                    columns = spec.columns if _has_shard(spec.columns) else (*spec.columns, _SHARD)
                    _create_empty(database, spec.name, pa.schema([pa.field(c.name, c.type) for c in columns]))
            for spec in _WHOLE_TABLES:
                if lake.has_table(spec):
                    database.execute(
                        f"CREATE TABLE {spec.name} AS SELECT * FROM read_parquet(?)", [lake.local(lake.table(spec))]
                    )
                else:
                    _create_empty(database, spec.name, spec.schema)
            database.register("paid", SPEND.to_arrow(spend))
            database.execute(f"CREATE TABLE {SPEND.name} AS SELECT * FROM paid")
            database.unregister("paid")
            _create_empty(database, CONFIGS.name, CONFIGS.schema)
            made = [lake.local(lake.table(spec, shard)) for spec in SHARD_TABLES for shard in lake.shards_of(spec)]
            if made:
                sql = (resources.files("star_pipeline.inspection") / "configs.sql").read_text("utf-8")
                database.execute(f"INSERT INTO {CONFIGS.name} {sql}", [made])
            for spec in (*SHARD_TABLES, *_WHOLE_TABLES, SPEND, CONFIGS):
                for column in spec.columns:
                    text = column.description.replace("'", "''")
                    database.execute(f"COMMENT ON COLUMN {spec.name}.{column.name} IS '{text}'")
                sizes[spec.name] = _count(database, spec.name)
            for view in VIEWS:
                sql = (resources.files("star_pipeline.inspection") / "views" / f"{view}.sql").read_text("utf-8")
                database.execute(f"CREATE VIEW {view} AS {sql}")
        os.replace(lake.local(partial), lake.local(lake.inspection))
    except (OSError, duckdb.IOException) as error:
        raise LakeError(
            f"cannot write {lake.inspection}: {error}; free some space or mend the permissions, then run again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return sizes


def _has_shard(columns: tuple[Column, ...]) -> bool:
    return any(column.name == "shard" for column in columns)


def _create_empty(database: "duckdb.DuckDBPyConnection", name: str, schema: pa.Schema) -> None:
    database.register("empty", schema.empty_table())
    database.execute(f"CREATE TABLE {name} AS SELECT * FROM empty")
    database.unregister("empty")


def _count(database: "duckdb.DuckDBPyConnection", name: str) -> int:
    row = database.execute(f"SELECT count(*) FROM {name}").fetchone()
    return int(row[0]) if row else 0
