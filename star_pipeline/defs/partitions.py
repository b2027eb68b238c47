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
    description="Which records a shard holds: what `seed_shards` reads. Nothing to materialise here: `seed_catalog` makes all of it, and "
    "notes each new shard's version as an observation, so that a new shard does not make the old ones out of date.",
)

prior_state = dg.AssetSpec(
    "prior_state",
    partitions_def=SHARDS,
    group_name="2_generate",
    kinds={"parquet"},
    owners=OWNERS,
    description="What a shard starts from: the pair probabilities and the memory after the shard before. Nothing to materialise here: "
    "`agent_pair_probabilities` of shard k-1 notes its version on `prior_state` of shard k as an observation. This is the feedback of the "
    "loop, which Dagster would refuse as a cycle between assets; where it changes, just plan k goes out of date (*Unsynced*).",
)
