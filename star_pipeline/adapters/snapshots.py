"""The loop's memory of itself: which shard comes before and after, and the snapshot that a shard starts from."""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from star_pipeline.adapters.consistency import misfits
from star_pipeline.adapters.lake import Lake, Signature
from star_pipeline.adapters.study_files import outdated_arms
from star_pipeline.config import StarConfig
from star_pipeline.core import identity
from star_pipeline.core.equations.evolution import (
    EvolutionRules,
    FoldInputs,
    Snapshot,
    fold_shard,
    for_pairs,
    initial_snapshot,
    snapshot_of,
    tally_shard,
)
from star_pipeline.core.equations.thompson import Tally, add
from star_pipeline.core.errors import OrderError
from star_pipeline.core.planning.consistency import StaleTable
from star_pipeline.core.records import PairProbability
from star_pipeline.core.study.tables import STUDY_RESULTS
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, CANDIDATES, COMPOSITE_SCORES, SAMPLING_PLAN, SEED_SHARDS

REFOLD_TAG = "star/refold"
"""Tag of a run that only folds a snapshot anew: it does not tell the next shard, whose plan is drawn and paid."""


def neighbour_shard(lake: Lake, shard: str, step: int) -> str | None:
    """The shard ``step`` places after (or, negative, before) this one; None where there is none."""
    shards = lake.catalog_shards()
    place = shards.index(shard) + step
    return shards[place] if 0 <= place < len(shards) else None


def snapshots_before(lake: Lake, shard: str, most: int = 200) -> dict[str, Sequence[PairProbability]]:
    """shard -> snapshot after it, of the catalogue's shards before this one, in order: the last ``most`` of those that are there."""
    known = set(lake.catalog_shards())
    earlier = [key for key in lake.shards_of(AGENT_PAIR_PROBABILITIES) if key < shard and key in known]
    return {key: _snapshot(lake, key, lake.signature(AGENT_PAIR_PROBABILITIES, key)) for key in earlier[-most:]}


@functools.lru_cache(maxsize=256)
def _snapshot(lake: Lake, shard: str, signature: Signature | None) -> tuple[PairProbability, ...]:
    """Kept while its file is the same: every later shard looks at it again."""
    return tuple(lake.read_table(AGENT_PAIR_PROBABILITIES, shard))


def prior_snapshot(lake: Lake, shard: str, pair_ids: tuple[str, ...], lag: int = 0) -> Snapshot:
    """The snapshot after the shard 1 + ``lag`` places before, as the configuration's pairs see it; 1/K each where there is no such shard.

    A plan is drawn from it, with the lag of the configuration; a snapshot is always folded from the one of the shard before.

    Raises OrderError where that shard has none yet. It never waits: a waiting run would hold the slot that it waits for.
    """
    before = neighbour_shard(lake, shard, -1 - lag)
    if before is None:
        return initial_snapshot(pair_ids)
    if not lake.has_table(AGENT_PAIR_PROBABILITIES, before):
        raise OrderError(
            f"shard {shard} needs the pair probabilities after shard {before}, which are not there yet; materialise {before} first, "
            "all assets of it, or run: star-pipeline run"
        )
    return for_pairs(snapshot_of(lake.read_table(AGENT_PAIR_PROBABILITIES, before)), pair_ids)


def remembered_before(lake: Lake, shard: str, lag: int) -> int:
    """The number of the first shard whose memory the plan of this one does not see: with a lag it sees no more than its snapshot does."""
    first = neighbour_shard(lake, shard, -lag)
    return identity.shard_number(first) if first else 0


def follows(lake: Lake, shard: str) -> bool:
    """Whether the shard's snapshot was folded from the snapshot before as it is now."""
    rows = lake.read_table(AGENT_PAIR_PROBABILITIES, shard)
    pairs = tuple(row.pair_id for row in rows)
    return rows[0].parent_snapshot_id == prior_snapshot(lake, shard, pairs).snapshot_id


def stale_tables(lake: Lake) -> Iterator[StaleTable]:
    """The tables that would be other ones if they were made now, in order; a changed configuration does not count."""
    for shard in lake.catalog_shards():
        for misfit in misfits(lake, shard):
            yield StaleTable(
                shard, misfit.table, f"made from other {misfit.source} than are there now", "star-pipeline run"
            )
        before = neighbour_shard(lake, shard, -1)
        folded = all(lake.has_table(AGENT_PAIR_PROBABILITIES, key) for key in (shard, before or shard))
        if not (folded and lake.has_table(SAMPLING_PLAN, shard)):
            continue
        pairs = tuple(row.pair_id for row in lake.read_table(AGENT_PAIR_PROBABILITIES, shard))
        if not follows(lake, shard):
            because = "folded from a snapshot of the shard before that has changed since"
            yield StaleTable(shard, AGENT_PAIR_PROBABILITIES.name, because, "refold_snapshots, or star-pipeline run")
        plan = lake.read_arrow(SAMPLING_PLAN, shard, ["snapshot_id"])
        lag = _drawn_with_lag(plan)
        source = neighbour_shard(lake, shard, -1 - lag)
        if not plan.num_rows or (source and not lake.has_table(AGENT_PAIR_PROBABILITIES, source)):
            continue
        if str(plan.column("snapshot_id")[0]) != prior_snapshot(lake, shard, pairs, lag).snapshot_id:
            of = source if lag else "the shard before"
            because = f"drawn from a snapshot of {of} that has changed since; its candidates are paid"
            yield StaleTable(
                shard, SAMPLING_PLAN.name, because, f"star-pipeline run --resample {shard}, which pays anew"
            )

    if arms := outdated_arms(lake):
        because = f"of other training sets ({', '.join(arms)}) than are there now"
        yield StaleTable("all", STUDY_RESULTS.name, because, "star-pipeline study")


def _drawn_with_lag(plan: pa.Table) -> int:
    """As the plan itself says: where the configuration's lag is changed, it holds for the plans that are drawn from then on."""
    said = (plan.schema.metadata or {}).get(b"config_settings")
    return int(json.loads(said)["evolution"].get("lag", 0)) if said else 0


def fold_inputs(lake: Lake, shard: str, rules: EvolutionRules) -> FoldInputs:
    """What the shard's snapshot is folded from, as its tables have it."""
    tables = SEED_SHARDS, SAMPLING_PLAN, COMPOSITE_SCORES
    seeds, plan, scores = (lake.read_table(spec, shard) for spec in tables)
    return FoldInputs(shard, seeds, plan, scores, costs_of(lake, shard, rules))


def costs_of(lake: Lake, shard: str, rules: EvolutionRules) -> dict[str, float] | None:
    """candidate_id -> USD, as the shard's candidates have it; None where costs do not count."""
    if not rules.cost_weight:
        return None
    table = lake.read_arrow(CANDIDATES, shard, ["candidate_id", "cost_usd"])
    return dict(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))


def folded_from(lake: Lake, shard: str, pair_ids: tuple[str, ...], rules: EvolutionRules) -> Snapshot:
    """The snapshot that the shard's own is folded from, with all that Thompson sampling wants to know of the shards before.

    Where they were folded without it (by Eq. 8, by an earlier version, without costs), it is added up from their tables, once.
    """
    before = prior_snapshot(lake, shard, pair_ids)
    known = before.tallies or {}
    costs_unknown = rules.cost_weight and any(tally.draws and tally.cost_usd is None for tally in known.values())
    if rules.method != "thompson" or (known and not costs_unknown):
        return before
    tallies = dict.fromkeys(before.probabilities, Tally())
    shards = lake.catalog_shards()
    for earlier in shards[: shards.index(shard)]:
        drawn = tally_shard(fold_inputs(lake, earlier, rules), tallies)
        tallies = {pair_id: add(tally, drawn[pair_id]) for pair_id, tally in tallies.items()}
    return replace(before, tallies=tallies)


def refold_snapshots_after(
    lake: Lake, config: StarConfig, whole: bool = False
) -> Iterator[tuple[str, list[PairProbability]]]:
    """(shard, its snapshot folded anew), in order, for those that do not follow from the one before, or for all if ``whole``.

    The caller writes each before it asks for the next. It ends at the first shard that has none yet. A snapshot keeps the
    pairs that its plan was drawn from.
    """
    for shard in lake.catalog_shards():
        if not lake.has_table(AGENT_PAIR_PROBABILITIES, shard):
            return
        if not whole and follows(lake, shard):
            continue
        pairs = tuple(row.pair_id for row in lake.read_table(AGENT_PAIR_PROBABILITIES, shard))
        rules = config.evolution_rules
        yield shard, fold_shard(folded_from(lake, shard, pairs, rules), fold_inputs(lake, shard, rules), rules)
