"""The two external assets that tell what a shard starts from; the partitions themselves are ``Scope.partitions``."""

import dagster as dg

from star_pipeline.defs.scope import Presentation, Scope

SHARD_MANIFEST, PRIOR_STATE = "shard_manifest", "prior_state"


def external_assets(scope: Scope, shown: Presentation) -> list[dg.AssetSpec]:
    """``shard_manifest`` and ``prior_state``: observed by the assets of the loop, never materialised."""
    return [
        dg.AssetSpec(
            scope.key(SHARD_MANIFEST),
            deps=[scope.key("seed_catalog")],
            partitions_def=scope.partitions,
            group_name=scope.name("1_seeds"),
            kinds={"parquet"},
            owners=list(shown.owners),
            description="Which records a shard holds: what `seed_shards` reads. Nothing to materialise here: `seed_catalog` makes all of "
            "it, and notes each new shard's version as an observation, so that a new shard does not make the old ones out of date.",
        ),
        dg.AssetSpec(
            scope.key(PRIOR_STATE),
            partitions_def=scope.partitions,
            group_name=scope.name("2_generate"),
            kinds={"parquet"},
            owners=list(shown.owners),
            description="What a shard starts from: the pair probabilities and the memory after the shard before. Nothing to materialise "
            "here: `agent_pair_probabilities` of shard k-1 notes its version on `prior_state` of shard k as an observation. This is the "
            "feedback of the loop, which Dagster would refuse as a cycle between assets; where it changes, just plan k goes out of date "
            "(*Unsynced*). With `evolution.lag` L it is shard k-1-L.",
        ),
    ]
