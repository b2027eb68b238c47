"""Eq. 3: which pairs are called for which seed. Drawn before any LLM is called, and the same on every rerun."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core import identity
from star_pipeline.core.equations.evolution import Snapshot
from star_pipeline.core.equations.thompson import best_first
from star_pipeline.core.records import SEED, Neighbour, Origin, Pair, PlanRow, Seed

Weighting = Literal["similarity", "probability"]


@dataclass(frozen=True)
class SamplingRules:
    """What Eq. 3 needs of a configuration. ``base`` may hold the seed pair; its first entry is the reference."""

    sampled: tuple[Pair, ...]
    base: tuple[Pair, ...]
    include_seed: bool
    pairs_per_seed: int
    from_memory: int
    weighting: Weighting
    run_seed: int


def uniform(*parts: object) -> float:
    """A number in [0, 1) that is a pure function of ``parts``: the first 53 bits of their SHA-256."""
    text = "\x1f".join(str(part) for part in parts)
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") >> 3) / 2**53


def draw(weights: Mapping[str, float], count: int, *stream: object) -> list[str]:
    """``count`` distinct keys, one after the other, each with its weight over the sum of those left.

    Keys of weight 0 are never drawn; fewer keys than ``count`` give what there is. ``stream`` names the random numbers. The order
    in which the keys are given says nothing.
    """
    left = {key: weights[key] for key in sorted(weights) if weights[key] > 0}
    drawn: list[str] = []
    while left and len(drawn) < count:
        # exact, and so without an order: Python's own sum is another one since 3.12
        target = uniform(*stream, len(drawn)) * math.fsum(left.values())
        for key, weight in left.items():
            chosen = key
            target -= weight
            if target < 0:
                break
        drawn.append(chosen)
        del left[chosen]
    return drawn


def explore(snapshot: Snapshot, rest: Mapping[str, float], count: int, *stream: object) -> list[str]:
    """``count`` of the pairs ``rest`` (pair_id -> probability): by their probabilities, or by Thompson sampling."""
    if snapshot.tallies is None:
        return draw(rest, count, *stream)
    if snapshot.floor and uniform(*stream, "floor") < len(snapshot.tallies) * snapshot.floor:
        return draw(dict.fromkeys(rest, 1.0), count, *stream)
    return list(best_first(snapshot.tallies, {pair_id: uniform(*stream, pair_id) for pair_id in rest})[:count])


def memory_weights(
    neighbours: Sequence[Neighbour], probabilities: Mapping[str, float], weighting: Weighting
) -> dict[str, float]:
    """The pool of pairs attached to the neighbours: p times the sum of max(cosine, 0) over that pair's neighbours (Eq. 3).

    With weighting ``probability`` (the paper's) plain p. Pairs that are not in ``probabilities`` cannot be drawn.
    """
    near: dict[str, list[float]] = {}
    for neighbour in neighbours:
        if neighbour.pair_id in probabilities:
            near.setdefault(neighbour.pair_id, []).append(max(neighbour.similarity, 0.0))
    if weighting == "probability":
        return {pair_id: probabilities[pair_id] for pair_id in near}
    return {pair_id: probabilities[pair_id] * math.fsum(cosines) for pair_id, cosines in near.items()}


def plan_seed(seed: Seed, snapshot: Snapshot, neighbours: Sequence[Neighbour], rules: SamplingRules) -> list[PlanRow]:
    """The seed's rows of the plan: base pairs, the seed's own response, pairs from memory, pairs explored.

    A pure function of (run seed, seed_id, snapshot, neighbours), whatever the order of ``rules.sampled``.
    """
    base_ids = {pair.pair_id for pair in rules.base}
    drawable = {p.pair_id: snapshot.probabilities[p.pair_id] for p in rules.sampled if p.pair_id not in base_ids}
    if drawable and not any(drawable.values()):
        drawable = dict.fromkeys(drawable, 1.0)
    # not of the snapshot: under another configuration only those draws differ whose probabilities moved enough, and are paid
    stream = (rules.run_seed, seed.seed_id)
    remembered = draw(memory_weights(neighbours, drawable, rules.weighting), rules.from_memory, *stream, "memory")
    rest = {pair_id: p for pair_id, p in drawable.items() if pair_id not in remembered}
    explored = explore(snapshot, rest, rules.pairs_per_seed - len(remembered), *stream, "explore")

    chosen: list[tuple[Pair, Origin, float | None]] = [(pair, "base", None) for pair in rules.base]
    if rules.include_seed and SEED not in rules.base:
        chosen.append((SEED, "seed", None))
    chosen += [(Pair.parse(pair_id), "memory", snapshot.probabilities[pair_id]) for pair_id in remembered]
    chosen += [(Pair.parse(pair_id), "explore", snapshot.probabilities[pair_id]) for pair_id in explored]
    return [
        PlanRow(
            candidate_id=identity.candidate_id(seed.seed_id, pair.pair_id, snapshot.snapshot_id),
            seed_id=seed.seed_id,
            slot=slot,
            pair_id=pair.pair_id,
            instruction_agent=pair.instruction_agent,
            response_agent=pair.response_agent,
            origin=origin,
            probability=probability,
            snapshot_id=snapshot.snapshot_id,
            neighbour_seed_ids=tuple(n.seed_id for n in neighbours),
            neighbour_pair_ids=tuple(n.pair_id for n in neighbours),
            neighbour_similarities=tuple(n.similarity for n in neighbours),
        )
        for slot, (pair, origin, probability) in enumerate(chosen)
    ]


def plan_shard(
    seeds: Sequence[Seed], snapshot: Snapshot, neighbours: Sequence[Sequence[Neighbour]], rules: SamplingRules
) -> list[PlanRow]:
    """The plan of a shard, sorted by (seed order, slot); ``neighbours`` has one list a seed."""
    return [row for seed, near in zip(seeds, neighbours, strict=True) for row in plan_seed(seed, snapshot, near, rules)]
