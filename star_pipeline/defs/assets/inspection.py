"""The DuckDB file that analysts open."""

import dagster as dg

from star_pipeline.adapters.journal.opening import read_spend
from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.core.tables import CANDIDATES, SHARD_TABLES
from star_pipeline.defs.asset_factory import AllShards, covers, lake_asset, plot
from star_pipeline.defs.automation import once_settled
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.figures import asset_figures
from star_pipeline.inspection.build import build_inspection


@lake_asset(
    "inspection",
    "5_publish",
    "`inspect.duckdb`: every table under its asset's name, what the journal says was paid (`spend`), and a view for each "
    "shipped query (health, pair_leaderboard, pair_domains, probability_history, judge_bias, costs, failures, lineage, …), all described. "
    "Open it with DuckDB, or ask it with `star-pipeline query`. Replaced atomically.",
    partitioned=False,
    locked=False,
    automation=once_settled,
    deps=["star_dataset", "task_domains", "seed_catalog", *(AllShards(spec.name) for spec in SHARD_TABLES)],
    kinds=frozenset({"duckdb"}),
)
def inspection(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult[None]:
    home = lake.open()
    spend = read_spend(settings.load(), home)
    stale = list(stale_tables(home))
    sizes = build_inspection(home, spend, stale)
    return dg.MaterializeResult(
        metadata={
            "plot_cost_by_agent": plot(
                asset_figures.cost_by_agent(spend),
                f"all that this lake has paid; {covers(home, home.shards_of(CANDIDATES))}",
            ),
            "path": dg.MetadataValue.path(str(home.inspection)),
            "rows": dg.MetadataValue.json(sizes),
            "out_of_date": len(stale),
        }
    )
