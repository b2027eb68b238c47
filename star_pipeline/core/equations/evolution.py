"""Eq. 8: pairs that made good data are called more often. Snapshot k is a pure function of snapshot k-1 and shard k's tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from star_pipeline.core import identity
from star_pipeline.core.records import CompositeScore, PairProbability, PlanRow, Seed

NO_PARENT = ""


@dataclass(frozen=True)
class Snapshot:
    """All pair probabilities at one moment; they sum to 1. ``probabilities`` are in the order of their pair_ids."""

    snapshot_id: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class EvolutionRules:
    """What Eq. 8 needs of a configuration: β, and the least probability of a pair."""

    rate: float
    floor: float


@dataclass(frozen=True)
class FoldInputs:
    """What Eq. 8 needs of a shard."""

    shard: str
    seeds: Sequence[Seed]
    plan: Sequence[PlanRow]
    scores: Sequence[CompositeScore]


def initial_snapshot(pair_ids: Sequence[str]) -> Snapshot:
    """Every sampled pair at 1/K."""
    probabilities = {pair_id: 1 / len(pair_ids) for pair_id in sorted(pair_ids)}
    return Snapshot(identity.snapshot_id(NO_PARENT, "", list(probabilities.items())), probabilities)


def snapshot_of(rows: Sequence[PairProbability]) -> Snapshot:
    """The snapshot that a table holds."""
    return Snapshot(rows[0].snapshot_id, {row.pair_id: row.probability for row in rows})


def for_pairs(snapshot: Snapshot, pair_ids: Sequence[str]) -> Snapshot:
    """The snapshot as a configuration with other pairs sees it; the snapshot itself where the pairs are the same.

    A removed pair's share is spread over the rest in proportion; each new pair enters at 1/K and the others are scaled.
    """
    known, pair_ids = snapshot.probabilities, sorted(pair_ids)
    if set(known) == set(pair_ids):
        return Snapshot(snapshot.snapshot_id, {pair_id: known[pair_id] for pair_id in pair_ids})
    count = len(pair_ids)
    stay = [pair_id for pair_id in pair_ids if pair_id in known]
    total = math.fsum(known[pair_id] for pair_id in stay)
    if total <= 0:
        adapted = dict.fromkeys(pair_ids, 1 / count)
    else:
        share = len(stay) / count
        adapted = {pair_id: known[pair_id] / total * share if pair_id in known else 1 / count for pair_id in pair_ids}
    return Snapshot(identity.snapshot_id(snapshot.snapshot_id, "pairs changed", list(adapted.items())), adapted)


def reward_seed(
    probabilities: Mapping[str, float], earned: Iterable[tuple[str, float]], rate: float
) -> dict[str, float]:
    """p_j <- p_j + rate * pi for each (pair, pi) of one seed, then divide all by their sum once (Eq. 8)."""
    raised = dict(probabilities)
    for pair_id, pi in earned:
        raised[pair_id] += rate * pi
    total = math.fsum(raised.values())
    return {pair_id: p / total for pair_id, p in raised.items()}


def apply_floor(probabilities: Mapping[str, float], floor: float) -> dict[str, float]:
    """p <- (1 - K f) p + f, so that no pair is lost for good."""
    keep = 1 - len(probabilities) * floor
    return {pair_id: keep * p + floor for pair_id, p in probabilities.items()}


def entropy(probabilities: Iterable[float]) -> float:
    """Shannon entropy in bits: log2 K where all K pairs are alike, 0 where one has everything."""
    return -sum(p * math.log2(p) for p in probabilities if p > 0)


def fold_shard(before: Snapshot, of: FoldInputs, rules: EvolutionRules) -> list[PairProbability]:
    """The snapshot after a shard: Eq. 8 seed by seed in ``of.seeds``' order, in float64, the floor once at the end.

    Only candidates that were drawn (origin memory or explore) earn; a null pi counts 0.
    """
    pi_of = {score.candidate_id: score.pi or 0.0 for score in of.scores}
    drawn: dict[str, list[tuple[str, float]]] = {}
    counts = dict.fromkeys(before.probabilities, 0)
    rewards = dict.fromkeys(before.probabilities, 0.0)
    for row in of.plan:
        if row.origin in ("memory", "explore") and row.pair_id in counts:
            drawn.setdefault(row.seed_id, []).append((row.pair_id, pi_of[row.candidate_id]))
            counts[row.pair_id] += 1
            rewards[row.pair_id] += pi_of[row.candidate_id]
    after = dict(before.probabilities)
    for seed in of.seeds:
        after = reward_seed(after, drawn.get(seed.seed_id, ()), rules.rate)
    if rules.floor > 0:
        after = apply_floor(after, rules.floor)
    name = identity.snapshot_id(before.snapshot_id, of.shard, list(after.items()))
    return [
        PairProbability(
            name,
            before.snapshot_id,
            of.shard,
            pair_id,
            counts[pair_id],
            rewards[pair_id],
            before.probabilities[pair_id],
            p,
        )
        for pair_id, p in after.items()
    ]
