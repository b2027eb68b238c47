"""Which seed is in which shard. Shards are append-only: new records get new shards, removed ones are tombstoned."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from star_pipeline.core import identity
from star_pipeline.core.records import CatalogEntry, Seed


@dataclass(frozen=True)
class CatalogUpdate:
    """The catalogue after a look at the seed files, and what changed since the last one.

    ``new_shards`` maps a key to its seeds, in order. ``duplicates`` counts records equal to an earlier one in the files.
    """

    entries: tuple[CatalogEntry, ...]
    new_shards: dict[str, tuple[Seed, ...]]
    records: int
    duplicates: int
    added: int
    removed: int
    returned: int

    @property
    def changed(self) -> bool:
        return bool(self.added or self.removed or self.returned)

    @property
    def live(self) -> int:
        return sum(entry.live for entry in self.entries)


def update_catalog(previous: Sequence[CatalogEntry], seeds: Iterable[Seed], shard_size: int) -> CatalogUpdate:
    """Compare the files' seeds with the catalogue.

    A record known by its content stays where it is, wherever its file has gone; one that came back is live again; the
    rest fill new shards of ``shard_size`` in the files' order. An edited record is a new one beside a removed one.
    """
    known = {entry.seed_id: entry for entry in previous}
    present: dict[str, Seed] = {}
    records = 0
    for seed in seeds:
        records += 1
        present.setdefault(seed.seed_id, seed)

    entries: list[CatalogEntry] = []
    for entry in previous:
        found = present.get(entry.seed_id)
        if found is None:
            entries.append(replace(entry, live=False))
        else:
            entries.append(replace(entry, live=True, source=found.source, source_row=found.source_row))
    fresh = [seed for seed_id, seed in present.items() if seed_id not in known]
    number = 1 + max((identity.shard_number(entry.shard) for entry in previous), default=0)
    new_shards: dict[str, tuple[Seed, ...]] = {}
    for start in range(0, len(fresh), shard_size):
        members = tuple(fresh[start : start + shard_size])
        key = identity.shard_key(number + len(new_shards), members[0].source)
        new_shards[key] = members
        entries += [
            CatalogEntry(seed.seed_id, key, position, seed.source, seed.source_row, True)
            for position, seed in enumerate(members)
        ]
    return CatalogUpdate(
        entries=tuple(entries),
        new_shards=new_shards,
        records=records,
        duplicates=records - len(present),
        added=len(fresh),
        removed=sum(entry.live and entry.seed_id not in present for entry in previous),
        returned=sum(not entry.live and entry.seed_id in present for entry in previous),
    )
