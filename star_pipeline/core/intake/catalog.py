"""Which seed is in which shard. Shards are append-only: new records get new shards, removed ones are tombstoned."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from star_pipeline.core import identity
from star_pipeline.core.records import CatalogEntry, RejectedRow, Seed

NewShard = Callable[[str, Sequence[Seed]], object]


@dataclass(frozen=True)
class CatalogUpdate:
    """The catalogue after a look at the seed files, and what changed since the last one.

    ``new_shards`` are keys, in order; ``duplicates`` counts records equal to an earlier one in the files.
    """

    entries: tuple[CatalogEntry, ...]
    new_shards: tuple[str, ...]
    rejected: tuple[RejectedRow, ...]
    records: int
    duplicates: int
    added: int
    removed: int
    returned: int
    moved: int

    @property
    def changed(self) -> bool:
        return bool(self.added or self.removed or self.returned or self.moved)

    @property
    def live(self) -> int:
        return sum(entry.live for entry in self.entries)


@dataclass(frozen=True)
class ShardSizes:
    """How many seeds a shard takes: ``usual``; with ``first``, so many have each of the first 1 + ``lag`` shards, which are drawn before
    anything is learnt, the next ones twice as many, and so on up to the usual number."""

    usual: int
    first: int | None = None
    lag: int = 0

    def of(self, number: int) -> int:
        """Of the shard of this number, from 1."""
        if self.first is None:
            return self.usual
        return min(self.usual, self.first << min((number - 1) // (1 + self.lag), self.usual.bit_length()))


def update_catalog(
    previous: Sequence[CatalogEntry],
    seeds: Iterable[Seed | RejectedRow],
    sizes: ShardSizes,
    new_shard: NewShard = lambda key, members: None,
) -> CatalogUpdate:
    """Compare the files' seeds with the catalogue.

    A record known by its content stays where it is, wherever its file has gone; one that came back is live again; the
    rest fill new shards of ``sizes`` in the files' order, each handed to ``new_shard`` as soon as it is full, so that
    the seeds of one shard at most are held in memory. An edited record is a new one beside a removed one.
    """
    known = {entry.seed_id for entry in previous}
    number = max((identity.shard_number(entry.shard) for entry in previous), default=0)
    places: dict[str, tuple[str, int]] = {}
    fresh: list[CatalogEntry] = []
    keys: list[str] = []
    filling: list[Seed] = []
    rejected: list[RejectedRow] = []
    records = 0

    def close_shard() -> None:
        key = identity.shard_key(number + len(keys) + 1, filling[0].source)
        keys.append(key)
        new_shard(key, tuple(filling))
        fresh.extend(
            CatalogEntry(seed.seed_id, key, position, seed.source, seed.source_row, True)
            for position, seed in enumerate(filling)
        )
        filling.clear()

    for seed in seeds:
        if isinstance(seed, RejectedRow):
            rejected.append(seed)
            continue
        records += 1
        if seed.seed_id in places:
            continue
        places[seed.seed_id] = (seed.source, seed.source_row)
        if seed.seed_id not in known:
            filling.append(seed)
            if len(filling) == sizes.of(number + len(keys) + 1):
                close_shard()
    if filling:
        close_shard()

    entries = [_after(entry, places.get(entry.seed_id)) for entry in previous]
    before_after = list(zip(previous, entries, strict=True))
    return CatalogUpdate(
        entries=(*entries, *fresh),
        new_shards=tuple(keys),
        rejected=tuple(rejected),
        records=records,
        duplicates=records - len(places),
        added=len(fresh),
        removed=sum(before.live and not after.live for before, after in before_after),
        returned=sum(after.live and not before.live for before, after in before_after),
        moved=sum(
            before.live and after.live and (before.source, before.source_row) != (after.source, after.source_row)
            for before, after in before_after
        ),
    )


def _after(entry: CatalogEntry, place: tuple[str, int] | None) -> CatalogEntry:
    if place is None:
        return replace(entry, live=False)
    return replace(entry, live=True, source=place[0], source_row=place[1])
