"""The validated records of a shard."""

import dagster as dg
import pyarrow as pa

from star_pipeline.core.errors import LakeError
from star_pipeline.core.intake.seeds import make_seed
from star_pipeline.core.tables import SEED_SHARDS, SHARD_MANIFEST
from star_pipeline.defs.asset_factory import counts, lake_asset, table_result
from star_pipeline.defs.resources import LakeResource, SettingsResource

_LINKS = 10
"""Files that are linked to, at most."""


@lake_asset(
    "seed_shards",
    "1_seeds",
    "The seeds of a shard, as they were taken in: system prompt, earlier turns, instruction and response, with the file and row "
    "they come from. A shard never changes.",
    spec=SEED_SHARDS,
    deps=[SHARD_MANIFEST.name],
)
def seed_shards(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult[pa.Table]:
    home = lake.open()
    seeds = home.read_table(SHARD_MANIFEST, context.partition_key)
    for seed in seeds:
        if make_seed(seed.source, seed.source_row, seed.system, seed.history, seed.instruction, seed.response) != seed:
            raise LakeError(
                f"shard {context.partition_key}: seed {seed.seed_id} does not hold the content it is named after; restore its manifest"
            )
    sources = counts(seed.source for seed in seeds)
    return table_result(
        settings.load(),
        SEED_SHARDS,
        seeds,
        ["seed_id", "source", "source_row", "instruction", "response"],
        {
            "sources": dg.MetadataValue.json(sources),
            **{
                f"source_{number}": dg.MetadataValue.path(str(home.seeds / source))
                for number, source in enumerate(list(sources)[:_LINKS], start=1)
            },
            "multi_turn": sum(bool(seed.history) for seed in seeds),
        },
    )
