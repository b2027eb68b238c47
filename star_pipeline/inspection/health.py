"""Reads what the lines of health are computed from off an open database."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from star_pipeline.core.health.examination import health
from star_pipeline.core.records import HealthLine
from star_pipeline.inspection.shipped import statements

if TYPE_CHECKING:
    import duckdb  # here, since DuckDB complains of leaks at exit when it is imported before the models


def health_of(database: "duckdb.DuckDBPyConnection", published: Mapping[str, int] | None = None) -> list[HealthLine]:
    """The lines of a database that has the tables of shards; ``published`` stands in for ``star_dataset``: pair_id -> its rows."""
    candidates = database.sql(statements("health_rows")).to_arrow_table()
    moves = database.sql(
        "SELECT shard, pair_id, probability_before, probability, draws_total FROM agent_pair_probabilities ORDER BY shard, pair_id"
    ).to_arrow_table()
    if published is None:
        published = dict(database.execute("SELECT pair_id, count(*) FROM star_dataset GROUP BY pair_id").fetchall())
    return health(candidates, moves.to_pylist(), published)
