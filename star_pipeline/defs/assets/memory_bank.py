"""What the loop remembers: which pair made good data of which kind of instruction."""

import dagster as dg

from star_pipeline.adapters.held import require_held
from star_pipeline.core import identity
from star_pipeline.core.equations.selection import memory_entries
from star_pipeline.core.records import Candidate, CompositeScore
from star_pipeline.defs.asset_factory import counts, lake_asset
from star_pipeline.defs.automation import keeps_up_with
from star_pipeline.defs.resources import EmbedderResource, MemoryResource, SettingsResource


@lake_asset(
    "memory_bank",
    "4_evolve",
    "Puts the shard's selected instructions, their embeddings and the pair that made each into LanceDB (table `instructions`). "
    "`sampling_plan` of later shards looks up the nearest ones; only `best` rows with pi >= `memory.min_pi` are remembered. "
    "Of a conversation it holds the turn that was improved, without what came before.",
    automation=keeps_up_with("composite_scores"),
    kinds=frozenset({"lancedb"}),
)
def memory_bank(
    context: dg.AssetExecutionContext,
    composite_scores: list[CompositeScore],
    candidates: list[Candidate],
    settings: SettingsResource,
    embedder: EmbedderResource,
    memory: MemoryResource,
) -> dg.MaterializeResult[None]:
    shard = context.partition_key
    entries = memory_entries(
        shard, identity.shard_number(shard), composite_scores, candidates, settings.load().memory.min_pi
    )
    vectors = embedder.embedder().embed([entry.instruction for entry in entries])
    require_held(str(memory.lake.open().root))
    total = memory.bank().replace_shard(shard, entries, vectors)
    content = identity.digest([[entry.candidate_id, entry.instruction, entry.pair_id, entry.pi] for entry in entries])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content),
        metadata={
            "dagster/row_count": len(entries),
            "entries_in_all": total,
            "pairs": dg.MetadataValue.json(counts(entry.pair_id for entry in entries)),
        },
    )
