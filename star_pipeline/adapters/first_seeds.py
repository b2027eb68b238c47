"""The seeds that a run would take first, and its plan for them, while the lake stays as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.scoring.numerics import left_unsettled
from star_pipeline.adapters.seed_intake import Say, would_hold
from star_pipeline.adapters.stages import seed_vectors
from star_pipeline.config import StarConfig
from star_pipeline.core import identity
from star_pipeline.core.equations.evolution import Snapshot, for_pairs, initial_snapshot, snapshot_of
from star_pipeline.core.equations.sampling import plan_shard
from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.catalog import update_catalog
from star_pipeline.core.ports import Embedder, MemoryBank
from star_pipeline.core.records import Neighbour, PlanRow, Seed
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, SAMPLING_PLAN, SHARD_MANIFEST


@dataclass(frozen=True)
class FirstSeeds:
    """``plan`` has the seeds' rows, in order; ``left`` counts the live seeds of shards that are not done, these among them."""

    seeds: Sequence[Seed]
    plan: Sequence[PlanRow]
    left: int


def first_seeds(
    lake: Lake,
    settings: StarConfig,
    paths: Sequence[str],
    count: int,
    embedder: Callable[[], Embedder],
    bank: Callable[[], MemoryBank],
    say: Say = lambda line: None,
) -> FirstSeeds:
    """The first ``count`` live seeds of the shards that are not done, those of ``paths`` counted in and not taken in; of a lake where
    all are done, its first. Raises SeedError where there are none.

    Plans that are there are taken as they are. Others are drawn as the next run would draw them: of a shard behind the next one,
    from the same snapshot, though the run will have a later one.
    """
    fresh: dict[str, Sequence[Seed]] = {}
    starter = settings.seeds.starter and not lake.catalog_shards()
    seeds = would_hold(lake, paths, settings.seed_rules, starter, say)

    def new_shard(key: str, members: Sequence[Seed]) -> None:
        if sum(map(len, fresh.values())) < count:
            fresh[key] = members

    update = update_catalog(lake.catalog_rows(), seeds, settings.shard_sizes, new_shard)
    if not update.entries:
        raise SeedError(f"{lake.seeds}: no seed files; name some with --seeds FILE")
    done = set(lake.shards_of(AGENT_PAIR_PROBABILITIES))
    live = {entry.seed_id for entry in update.entries if entry.live}
    left = sum(entry.live and entry.shard not in done for entry in update.entries)
    known = lake.catalog_shards()
    ordered = [*(key for key in known if key not in done), *fresh, *(key for key in known if key in done)]
    chosen: list[Seed] = []
    plan: list[PlanRow] = []
    for shard in ordered:
        members = fresh.get(shard) or lake.read_table(SHARD_MANIFEST, shard)
        members = [seed for seed in members if seed.seed_id in live][: count - len(chosen)]
        if members and not (left and shard in done):
            chosen += members
            plan += _planned(lake, settings, shard, members, embedder, bank)
    if not chosen:
        raise SeedError(f"{lake.seeds}: every seed of the lake has left its seed files; name some with --seeds FILE")
    return FirstSeeds(chosen, plan, left)


def _planned(
    lake: Lake,
    settings: StarConfig,
    shard: str,
    seeds: Sequence[Seed],
    embedder: Callable[[], Embedder],
    bank: Callable[[], MemoryBank],
) -> list[PlanRow]:
    if lake.has_table(SAMPLING_PLAN, shard):
        rows: dict[str, list[PlanRow]] = {}
        for row in lake.read_table(SAMPLING_PLAN, shard):
            rows.setdefault(row.seed_id, []).append(row)
        return [row for seed in seeds for row in rows.get(seed.seed_id, [])]
    known, lag = set(lake.catalog_shards()), settings.evolution.lag
    done = [key for key in lake.shards_of(AGENT_PAIR_PROBABILITIES) if key in known]
    seen, unseen = done[: max(len(done) - lag, 0)], done[max(len(done) - lag, 0) :]
    neighbours: list[list[Neighbour]] = [[] for _ in seeds]
    if settings.sampling.from_memory and lake.memory_bank.exists() and (seen or not lag):
        before = identity.shard_number(unseen[0] if unseen else shard)
        with left_unsettled(lake.numerics):
            vectors = seed_vectors(seeds, embedder())
        neighbours = bank().nearest(vectors, settings.memory.neighbours, before=before)
    return plan_shard(seeds, _snapshot(lake, settings, seen), neighbours, settings.sampling_rules)


def _snapshot(lake: Lake, settings: StarConfig, seen: Sequence[str]) -> Snapshot:
    """After the last of the shards that the next plan sees."""
    if not seen:
        return initial_snapshot(settings.sampled_ids)
    return for_pairs(snapshot_of(lake.read_table(AGENT_PAIR_PROBABILITIES, seen[-1])), settings.sampled_ids)
