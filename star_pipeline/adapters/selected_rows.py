"""The selected rows of all shards that are done: what the final data set, and all that describes it, is made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from star_pipeline.adapters.consistency import misfits
from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import LakeError
from star_pipeline.core.planning.consistency import JOINED, Misfit, refusal
from star_pipeline.core.publishing.rows import star_rows
from star_pipeline.core.records import CatalogEntry, StarRow
from star_pipeline.core.tables import CANDIDATES, COMPOSITE_SCORES, IFD_SCORES, JUDGE_VERDICTS, SEED_SHARDS

OF_CANDIDATES = (CANDIDATES, IFD_SCORES, COMPOSITE_SCORES)
PARTS = (SEED_SHARDS, *OF_CANDIDATES, JUDGE_VERDICTS)
"""The tables that a shard has to have to be done."""


@dataclass(frozen=True)
class SelectedRows:
    """A row for each live seed of the shards that are ``done``, in the order of the catalogue's ``shards`` and their seeds."""

    rows: list[StarRow]
    entries: Mapping[str, CatalogEntry]
    shards: tuple[str, ...]
    done: tuple[str, ...]

    @property
    def live(self) -> set[str]:
        """seed_ids that the seed files still hold."""
        return {seed_id for seed_id, entry in self.entries.items() if entry.live}


def selected_rows(lake: Lake) -> SelectedRows:
    """Read the selected rows. A shard that lacks a table is not done.

    Raises LakeError, naming shards, tables and the remedy, where the tables of a shard do not belong together, as when one was made
    again alone: a row would be joined from values that contradict each other.
    """
    entries = {entry.seed_id: entry for entry in lake.catalog_rows()}
    shards = tuple(sorted({entry.shard for entry in entries.values()}))
    done = done_shards(lake, shards)
    rows: list[StarRow] = []
    for shard in done:
        candidates, scores, composite = (lake.read_arrow(spec, shard) for spec in OF_CANDIDATES)
        chosen = composite.column("selected")
        rows += star_rows(
            shard,
            lake.read_table(SEED_SHARDS, shard),
            entries,
            CANDIDATES.from_arrow(candidates.filter(chosen)),
            COMPOSITE_SCORES.from_arrow(composite.filter(chosen)),
            IFD_SCORES.from_arrow(scores.filter(chosen)),
        )
    return SelectedRows(rows, entries, shards, done)


def done_shards(lake: Lake, shards: Iterable[str]) -> tuple[str, ...]:
    """Those of the shards that have all their tables. Raises LakeError as ``selected_rows`` does."""
    done: list[str] = []
    apart: list[Misfit] = []
    for shard in shards:
        if all(lake.has_table(spec, shard) for spec in PARTS):
            found = [misfit for misfit in misfits(lake, shard) if misfit.table in JOINED]
            apart += found
            done += [] if found else [shard]
    if apart:
        raise LakeError(refusal(apart))
    return tuple(done)
