"""The loop's memory of itself: which shard comes before and after, and the snapshot that a shard starts from."""

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import OrderError
from star_pipeline.core.evolution import Snapshot, for_pairs, initial_snapshot, snapshot_of
from star_pipeline.core.records import PairProbability
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES

REFOLD_TAG = "star/refold"
"""Tag of a run that only folds a snapshot anew: it does not tell the next shard, whose plan is drawn and paid."""


def neighbour_shard(lake: Lake, shard: str, step: int) -> str | None:
    """The shard ``step`` places after (or, negative, before) this one; None where there is none."""
    shards = lake.catalog_shards()
    place = shards.index(shard) + step
    return shards[place] if 0 <= place < len(shards) else None


def snapshots_before(lake: Lake, shard: str, most: int = 200) -> list[list[PairProbability]]:
    """The snapshots of the shards before this one, in order: the last ``most`` of those that are there."""
    earlier = [key for key in lake.shards_of(AGENT_PAIR_PROBABILITIES) if key < shard]
    return [lake.read_table(AGENT_PAIR_PROBABILITIES, key) for key in earlier[-most:]]


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
