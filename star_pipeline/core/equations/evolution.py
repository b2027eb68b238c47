"""Eq. 8, or Thompson sampling: pairs that made good data are called more often.

Snapshot k is a pure function of snapshot k-1 and shard k's tables.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from star_pipeline.core import identity
from star_pipeline.core.equations import thompson
from star_pipeline.core.equations.thompson import Tally
from star_pipeline.core.records import CompositeScore, PairProbability, PlanRow, Seed

NO_PARENT = ""
Method = Literal["eq8", "thompson"]


@dataclass(frozen=True)
class Snapshot:
    """All pair probabilities at one moment; they sum to 1. ``probabilities`` are in the order of their pair_ids.

    ``tallies``: what Thompson sampling draws from, where the snapshot was folded by it; None: the probabilities themselves are drawn
    from. ``floor``: the share that each pair has whatever its tally.
    """

    snapshot_id: str
    probabilities: Mapping[str, float]
    tallies: Mapping[str, Tally] | None = None
    floor: float = 0.0


@dataclass(frozen=True)
class EvolutionRules:
    """What a fold needs of a configuration: β of Eq. 8, the least probability of a pair, the method, and π per USD."""

    rate: float
    floor: float
    method: Method = "eq8"
    cost_weight: float = 0.0


@dataclass(frozen=True)
class FoldInputs:
    """What a fold needs of a shard. ``costs``: candidate_id -> USD; None where the rules do not ask for it."""

    shard: str
    seeds: Sequence[Seed]
    plan: Sequence[PlanRow]
    scores: Sequence[CompositeScore]
    costs: Mapping[str, float] | None = None


def initial_snapshot(pair_ids: Sequence[str]) -> Snapshot:
    """Every sampled pair at 1/K."""
    probabilities = {pair_id: 1 / len(pair_ids) for pair_id in sorted(pair_ids)}
    return Snapshot(identity.snapshot_id(NO_PARENT, "", list(probabilities.items())), probabilities)


def snapshot_of(rows: Sequence[PairProbability]) -> Snapshot:
    """The snapshot that a table holds."""
    tallies = {
        row.pair_id: Tally(
            row.draws_total, row.reward_total or 0.0, row.squares_total or 0.0, row.cost_total_usd, row.handicap or 0.0
        )
        for row in rows
        if row.draws_total is not None
    }
    probabilities = {row.pair_id: row.probability for row in rows}
    return Snapshot(rows[0].snapshot_id, probabilities, tallies or None, rows[0].floor or 0.0)


def for_pairs(snapshot: Snapshot, pair_ids: Sequence[str]) -> Snapshot:
    """The snapshot as a configuration with other pairs sees it; the snapshot itself where the pairs are the same.

    A removed pair's share is spread over the rest in proportion; each new pair enters at 1/K and the others are scaled. Under Thompson
    sampling a new pair is one of which nothing is known.
    """
    known, pair_ids = snapshot.probabilities, sorted(pair_ids)
    if set(known) == set(pair_ids):
        return replace(snapshot, probabilities={pair_id: known[pair_id] for pair_id in pair_ids})
    count = len(pair_ids)
    if snapshot.tallies is not None:
        tallies = _tallies_for(snapshot.tallies, pair_ids)
        floor = min(snapshot.floor, 1 / count)
        name = identity.snapshot_id(snapshot.snapshot_id, "pairs changed", _numbers(tallies, floor))
        return Snapshot(name, thompson.chances(tallies, floor), tallies, floor)
    stay = [pair_id for pair_id in pair_ids if pair_id in known]
    total = math.fsum(known[pair_id] for pair_id in stay)
    if total <= 0:
        adapted = dict.fromkeys(pair_ids, 1 / count)
    else:
        share = len(stay) / count
        adapted = {pair_id: known[pair_id] / total * share if pair_id in known else 1 / count for pair_id in pair_ids}
    return Snapshot(identity.snapshot_id(snapshot.snapshot_id, "pairs changed", list(adapted.items())), adapted)


def _tallies_for(known: Mapping[str, Tally], pair_ids: Sequence[str]) -> dict[str, Tally]:
    """A new pair costs as much as the mean draw did."""
    draws = sum(tally.draws for tally in known.values())
    mean = math.fsum(tally.handicap * tally.draws for tally in known.values()) / max(draws, 1)
    return {pair_id: known.get(pair_id, Tally(handicap=mean)) for pair_id in pair_ids}


def _numbers(tallies: Mapping[str, Tally], floor: float) -> list[tuple[str, float]]:
    """What a snapshot of tallies is named by: exact sums, of which the chances follow on any processor."""
    return [("floor", floor)] + [
        (f"{pair_id} {what}", number)
        for pair_id, tally in sorted(tallies.items())
        for what, number in (
            ("draws", float(tally.draws)),
            ("reward", tally.reward),
            ("squares", tally.squares),
            ("handicap", tally.handicap),
        )
    ]


def reward_seed(
    probabilities: Mapping[str, float], earned: Iterable[tuple[str, float]], rate: float
) -> dict[str, float]:
    """p_j <- p_j + rate * pi for each (pair, pi) of one seed, then divide all by their sum once (Eq. 8).

    What was earned can be negative where costs are taken off: a probability then sinks, to 0 at most.
    """
    raised = dict(probabilities)
    for pair_id, pi in earned:
        raised[pair_id] = max(raised[pair_id] + rate * pi, 0.0)
    total = math.fsum(raised.values())
    return {pair_id: p / total for pair_id, p in raised.items()} if total > 0 else dict(probabilities)


def apply_floor(probabilities: Mapping[str, float], floor: float) -> dict[str, float]:
    """p <- (1 - K f) p + f, so that no pair is lost for good."""
    keep = 1 - len(probabilities) * floor
    return {pair_id: keep * p + floor for pair_id, p in probabilities.items()}


def entropy(probabilities: Iterable[float]) -> float:
    """Shannon entropy in bits: log2 K where all K pairs are alike, 0 where one has everything."""
    return -sum(p * math.log2(p) for p in probabilities if p > 0)


def tally_shard(of: FoldInputs, pair_ids: Iterable[str]) -> dict[str, Tally]:
    """What each pair's draws brought in the shard: only candidates that were drawn (origin memory or explore) earn; a null pi counts 0."""
    drawn: dict[str, list[tuple[float, float]]] = {pair_id: [] for pair_id in pair_ids}
    pi_of = {score.candidate_id: score.pi or 0.0 for score in of.scores}
    for row in of.plan:
        if row.origin in ("memory", "explore") and row.pair_id in drawn:
            drawn[row.pair_id].append((pi_of[row.candidate_id], of.costs[row.candidate_id] if of.costs else 0.0))
    return {
        pair_id: Tally(
            len(those),
            _sum(pi for pi, _ in those),
            math.fsum(pi * pi for pi, _ in those),
            math.fsum(cost for _, cost in those) if of.costs is not None else None,
        )
        for pair_id, those in drawn.items()
    }


def _sum(values: Iterable[float]) -> float:
    total = 0.0
    for value in values:  # one after the other, as it has always been done: Python's own sum is another one since 3.12
        total += value
    return total


def fold_shard(before: Snapshot, of: FoldInputs, rules: EvolutionRules) -> list[PairProbability]:
    """The snapshot after a shard, by Eq. 8 or from all that is known of the pairs by then (``rules.method``)."""
    shard = tally_shard(of, before.probabilities)
    after = _thompson(before, shard, rules) if rules.method == "thompson" else _eq8(before, of, rules)
    name = identity.snapshot_id(
        before.snapshot_id,
        of.shard,
        _numbers(after.tallies, after.floor) if after.tallies else list(after.probabilities.items()),
    )
    rows = []
    for pair_id, p in after.probabilities.items():
        was, told = before.probabilities[pair_id], (before.snapshot_id, of.shard, pair_id)
        row = PairProbability(name, *told, shard[pair_id].draws, shard[pair_id].reward, was, p)
        if after.tallies:
            known = after.tallies[pair_id]
            row = replace(
                row,
                draws_total=known.draws,
                reward_total=known.reward,
                squares_total=known.squares,
                cost_total_usd=known.cost_usd,
                handicap=known.handicap,
                floor=after.floor,
            )
        rows.append(row)
    return rows


def _thompson(before: Snapshot, shard: Mapping[str, Tally], rules: EvolutionRules) -> Snapshot:
    known = before.tallies or {}
    tallies = {pair_id: thompson.add(known.get(pair_id, Tally()), new) for pair_id, new in shard.items()}
    prices = thompson.handicaps(tallies, rules.cost_weight)
    tallies = {pair_id: replace(tally, handicap=prices[pair_id]) for pair_id, tally in tallies.items()}
    return Snapshot("", thompson.chances(tallies, rules.floor), tallies, rules.floor)


def _eq8(before: Snapshot, of: FoldInputs, rules: EvolutionRules) -> Snapshot:
    """Eq. 8 seed by seed in ``of.seeds``' order, in float64, the floor once at the end."""
    pi_of = {score.candidate_id: score.pi or 0.0 for score in of.scores}
    drawn: dict[str, list[tuple[str, float]]] = {}
    for row in of.plan:
        if row.origin in ("memory", "explore") and row.pair_id in before.probabilities:
            cost = rules.cost_weight * of.costs[row.candidate_id] if rules.cost_weight and of.costs else 0.0
            drawn.setdefault(row.seed_id, []).append((row.pair_id, pi_of[row.candidate_id] - cost))
    after = dict(before.probabilities)
    for seed in of.seeds:
        after = reward_seed(after, drawn.get(seed.seed_id, ()), rules.rate)
    return Snapshot("", apply_floor(after, rules.floor) if rules.floor > 0 else after)
