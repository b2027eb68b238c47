"""What the lake's tables say of a shard that is perhaps to be made again; who decides is ``core.planning.restart``."""

from collections import Counter
from collections.abc import Sequence

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.planning.unlearnt import Unlearnt, unlearnt
from star_pipeline.core.records import CatalogEntry
from star_pipeline.core.tables import CANDIDATES, SAMPLING_PLAN, TABLES


def has_output(lake: Lake, asset: str, shard: str) -> bool | None:
    """Whether the asset's table of the shard is there; None for an asset without one."""
    return lake.has_table(TABLES[asset], shard) if asset in TABLES else None


def plan_is_outdated(lake: Lake, shard: str, fingerprint: str) -> bool:
    """Whether another configuration drew the shard's plan and nobody has paid for its candidates, or its seeds had left the files
    then and are back; False where there is no plan."""
    if not lake.has_table(SAMPLING_PLAN, shard):
        return False
    plan = lake.read_arrow(SAMPLING_PLAN, shard)
    if not plan.num_rows:
        return lake.has_live_seeds(shard)
    drawn_by = (plan.schema.metadata or {}).get(b"config_fingerprint", b"").decode()
    return not lake.has_table(CANDIDATES, shard) and drawn_by != fingerprint


def drawn_unlearnt(lake: Lake, entries: Sequence[CatalogEntry], lag: int) -> Unlearnt | None:
    """What of the catalogue's ``entries`` a run will draw before anything is learnt; None where that is no matter of the lag."""
    shards = sorted({entry.shard for entry in entries})
    live = Counter(entry.shard for entry in entries if entry.live)
    planned = [lake.has_table(SAMPLING_PLAN, shard) for shard in shards[: 1 + lag]]
    return unlearnt([live[shard] for shard in shards], planned, lag)
