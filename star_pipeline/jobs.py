"""The three jobs of a run: take the seeds in, process a shard, publish."""

import dagster as dg

from star_pipeline.assets import LOOP_ASSETS
from star_pipeline.partitions import SHARDS

take_in_seeds = dg.define_asset_job(
    "take_in_seeds",
    selection=dg.AssetSelection.assets("seed_catalog"),
    description="Looks at the files under seeds/ and makes a partition for each new shard.",
)
process_shard = dg.define_asset_job(
    "process_shard",
    selection=dg.AssetSelection.assets(*LOOP_ASSETS),
    partitions_def=SHARDS,
    description="One iteration of the loop: plan, generate, score, judge, select, remember, evolve. Backfill it in key order.",
)
publish = dg.define_asset_job(
    "publish",
    selection=dg.AssetSelection.assets("star_dataset", "inspection"),
    description="Rebuilds the final data set and the inspection file from all shards that are done.",
)
JOBS = [take_in_seeds, process_shard, publish]
