"""The selected rows of all shards that are done: what the final data set, and all that describes it, is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from star_pipeline.adapters.lake import Lake
from star_pipeline.assets.face import all_shards_of
from star_pipeline.core.records import CatalogEntry, StarRow
from star_pipeline.core.selection import star_rows
from star_pipeline.core.tables import CANDIDATES, COMPOSITE_SCORES, IFD_SCORES, SEED_SHARDS

_OF_CANDIDATES = (CANDIDATES, IFD_SCORES, COMPOSITE_SCORES)
_PARTS = (SEED_SHARDS, *_OF_CANDIDATES)
FINISHED = [all_shards_of(spec) for spec in _PARTS]
"""What an asset depends on that asks for ``finished_rows``, beside the catalogue."""


@dataclass(frozen=True)
class Finished:
    """A row for each live seed of the shards that are ``done``, in the order of the catalogue's ``shards`` and their seeds."""

    rows: list[StarRow]
    entries: Mapping[str, CatalogEntry]
    shards: tuple[str, ...]
    done: tuple[str, ...]

    @property
    def live(self) -> set[str]:
        """seed_ids that the seed files still hold."""
        return {seed_id for seed_id, entry in self.entries.items() if entry.live}


def finished_rows(lake: Lake) -> Finished:
    """Read the selected rows. A shard that lacks a table, or is just being made again, is not done."""
    entries = {entry.seed_id: entry for entry in lake.catalog_rows()}
    shards = tuple(sorted({entry.shard for entry in entries.values()}))
    done: list[str] = []
    rows: list[StarRow] = []
    for shard in shards:
        if not all(lake.has_table(spec, shard) for spec in _PARTS):
            continue
        candidates, scores, composite = (lake.read_arrow(spec, shard) for spec in _OF_CANDIDATES)
        ids = composite.column("candidate_id")
        if not all(ids.equals(table.column("candidate_id")) for table in (candidates, scores)):
            continue
        done.append(shard)
        chosen = composite.column("selected")
        rows += star_rows(
            shard,
            lake.read_table(SEED_SHARDS, shard),
            entries,
            CANDIDATES.from_arrow(candidates.filter(chosen)),
            COMPOSITE_SCORES.from_arrow(composite.filter(chosen)),
            IFD_SCORES.from_arrow(scores.filter(chosen)),
        )
    return Finished(rows, entries, shards, tuple(done))
