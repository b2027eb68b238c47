"""Eq. 3: which pairs are called for which seed, before any LLM is."""

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters.stages import draw_plan, planned_seeds
from star_pipeline.core.checks import CORRECT, plan_complete, plan_consistent
from star_pipeline.core.records import Seed
from star_pipeline.core.tables import SAMPLING_PLAN
from star_pipeline.defs.asset_factory import counts, lake_asset, table_result
from star_pipeline.defs.partitions import PRIOR_STATE
from star_pipeline.defs.resources import EmbedderResource, LakeResource, MemoryResource, SettingsResource


@lake_asset(
    "sampling_plan",
    "2_generate",
    "Which agent-pairs are called for which seed (Eq. 3): the base pairs, the seed's own response, pairs that were good for similar "
    "instructions (memory bank) and pairs drawn by their probability. Made from `seed_shards` and `prior_state`, before any LLM is "
    "called; the same inputs draw the same plan. With `evolution.lag` L the probabilities and the memory are those after shard k-1-L.",
    equation="Eq.3",
    spec=SAMPLING_PLAN,
    deps=[PRIOR_STATE],
    kinds=frozenset({"parquet", "lancedb"}),
    checks=(CORRECT,),
)
def sampling_plan(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    lake: LakeResource,
    settings: SettingsResource,
    embedder: EmbedderResource,
    memory: MemoryResource,
) -> dg.MaterializeResult[pa.Table]:
    config, home = settings.load(), lake.open()
    seeds = planned_seeds(home, context.partition_key, seed_shards)
    model = embedder.embedder()
    if config.sampling.from_memory:
        model.embed([])  # one that cannot be loaded ends the run here, though the first plans look nothing up
    snapshot, plan = draw_plan(config, home, context.partition_key, seeds, model, memory.bank())
    return table_result(
        config,
        SAMPLING_PLAN,
        plan,
        ["seed_id", "slot", "pair_id", "origin", "probability"],
        {
            "snapshot_id": snapshot.snapshot_id,
            "origins": dg.MetadataValue.json(counts(row.origin for row in plan)),
            "pairs": dg.MetadataValue.json(counts(row.pair_id for row in plan)),
        },
        [plan_complete(seeds, plan), plan_consistent(plan, config.sampled_ids)],
    )
