"""The loop's memory of itself: which shard comes before and after, and the snapshot that a shard starts from."""

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import OrderError
from star_pipeline.core.evolution import Snapshot, for_pairs, initial_snapshot, snapshot_of
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, SHARD_MANIFEST


def neighbour_shard(lake: Lake, shard: str, step: int) -> str | None:
    """The shard ``step`` places after (or, negative, before) this one; None where there is none."""
    shards = lake.shards_of(SHARD_MANIFEST)
    place = shards.index(shard) + step
    return shards[place] if 0 <= place < len(shards) else None


def prior_snapshot(lake: Lake, shard: str, pair_ids: tuple[str, ...]) -> Snapshot:
    """The snapshot after the shard before, as the configuration's pairs see it; 1/K each for the first shard.

    Raises OrderError where the shard before has none yet. It never waits: a waiting run would hold the slot that it waits for.
    """
    before = neighbour_shard(lake, shard, -1)
    if before is None:
        return initial_snapshot(pair_ids)
    if not lake.has_table(AGENT_PAIR_PROBABILITIES, before):
        raise OrderError(
            f"shard {shard} needs the pair probabilities after shard {before}, which are not there yet; materialise {before} first, "
            "all assets of it, or run: star-pipeline run"
        )
    return for_pairs(snapshot_of(lake.read_table(AGENT_PAIR_PROBABILITIES, before)), pair_ids)
