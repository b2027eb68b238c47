"""The DuckDB file that analysts open."""

import dagster as dg

from star_pipeline.assets.face import all_shards_of, lake_asset
from star_pipeline.assets.following import FOLLOW
from star_pipeline.assets.star_dataset import star_dataset
from star_pipeline.core.tables import SHARD_TABLES
from star_pipeline.inspection.build import build_inspection
from star_pipeline.resources import LakeResource


@lake_asset(
    "inspection",
    "5_publish",
    "`inspect.duckdb`: every table under its asset's name, and views on them (pair_leaderboard, probability_history, judge_bias, costs, "
    "failures, lineage). Open it with DuckDB, or ask it with `star-pipeline query`. Replaced atomically.",
    partitioned=False,
    locked=False,
    follows=FOLLOW,
    deps=[star_dataset, "seed_catalog", *(all_shards_of(spec) for spec in SHARD_TABLES)],
    kinds=frozenset({"duckdb"}),
)
def inspection(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
    sizes = build_inspection(lake.open())
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(lake.open().inspection)),
            "rows": dg.MetadataValue.json(sizes),
        }
    )
