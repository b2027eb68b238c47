"""How the data is cut: one dynamic partition a shard of seeds, and the two external assets that tell what a shard starts from."""

import dagster as dg

SHARDS = dg.DynamicPartitionsDefinition(name="seed_shards")
POOL = "star_loop"
"""All assets of the loop share this pool of one run, so that shards do not interleave."""

OWNERS = ["team:data"]

shard_manifest = dg.AssetSpec(
    "shard_manifest",
    deps=["seed_catalog"],
    partitions_def=SHARDS,
    group_name="1_seeds",
    kinds={"parquet"},
    owners=OWNERS,
    description="Which records a shard holds. `seed_catalog` observes it once for each new shard, so that a new shard does not "
    "make the old ones stale. Nothing to materialise here.",
)

prior_state = dg.AssetSpec(
    "prior_state",
    partitions_def=SHARDS,
    group_name="2_generate",
    kinds={"parquet"},
    owners=OWNERS,
    description="What a shard starts from: the pair probabilities (and the memory) after the shard before. "
    "`agent_pair_probabilities[k-1]` observes `prior_state[k]`: this is the feedback of the loop, which Dagster would refuse "
    "as a cycle between assets. Nothing to materialise here.",
)
