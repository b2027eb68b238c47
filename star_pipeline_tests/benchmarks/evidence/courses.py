"""A run over recorded answers without any call: the product's own plans and folds (Eq. 3, Eq. 8, Thompson sampling), and what one
might use in their place."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from star_pipeline.core.aliases import Numbers, Values, Vectors
from star_pipeline.core.equations.evolution import (
    EvolutionRules,
    FoldInputs,
    Snapshot,
    fold_shard,
    initial_snapshot,
    snapshot_of,
)
from star_pipeline.core.equations.sampling import SamplingRules, plan_shard
from star_pipeline.core.equations.thompson import Tally
from star_pipeline.core.publishing.domains import cluster
from star_pipeline.core.records import CompositeScore, Neighbour, Pair, Seed
from star_pipeline_tests.benchmarks.evidence.recorded import Matrix

SAME = 1 - 1e-5
"""Cosine beyond which two instructions are the same text."""


@dataclass(frozen=True)
class Arm:
    """How pairs are drawn. ``kind``: eq8, thompson (the product's), ucb, gaussian (not built; ``rate`` is their one knob), coins
    (Thompson sampling that takes every draw for one of 0 or 1; not built). ``first``: so many seeds have each of the first 1 + lag
    shards, the next ones twice as many, and so on up to the setting's (not built); 0: all shards are of one size."""

    name: str
    kind: str
    rate: float = 0.0
    floor: float = 0.0
    from_memory: int = 0
    weighting: str = "similarity"
    lag: int = 0
    domains: int = 1
    cost_weight: float = 0.0
    first: int = 0


@dataclass(frozen=True)
class Setting:
    """What all arms of a comparison share. ``seeds``: how many, drawn from the recorded ones; with ``once`` each of those once."""

    pairs_per_seed: int
    seeds: int
    once: bool = False
    shard: int = 64


@dataclass
class Outcome:
    """One run: ``selected`` π and USD a seed, and every pair's probability after every shard (shards, pairs); ``picked``: the pair that
    was selected of each seed, by its place in the matrix, -1 the reference."""

    selected: Values
    usd: Values
    calls: float
    moves: Values
    last: Snapshot
    draws: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    picked: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))


def seeds_of(setting: Setting, matrix: Matrix, run: int) -> Numbers:
    """Which recorded seeds a run sees, in its order: the same for all arms."""
    draw = np.random.default_rng((17, run))
    if setting.once:
        return draw.permutation(len(matrix.pi))[: setting.seeds].astype(np.int64)
    return draw.integers(len(matrix.pi), size=setting.seeds)


def shards_of(arm: Arm, setting: Setting, seeds: int) -> list[range]:
    """The seeds of each shard, by their places in the run's order."""
    found: list[range] = []
    while not found or found[-1].stop < seeds:
        begin, size = found[-1].stop if found else 0, setting.shard
        if arm.first:
            size = min(size, arm.first << len(found) // (1 + arm.lag))
        found.append(range(begin, min(begin + size, seeds)))
    return found


class _Other:
    """A bandit that is not built into the product: upper confidence bounds, or Thompson sampling with other distributions."""

    def __init__(self, arm: Arm, pairs: Sequence[str], run: int) -> None:
        self._arm, self._random = arm, np.random.default_rng((3, run))

    def order(self, snapshot: Snapshot, pending: Values, pairs: Sequence[str]) -> Numbers:
        """The pairs, best first; ``pending``: how often each was drawn in the shard already."""
        tallies = [(snapshot.tallies or {}).get(pair, Tally()) for pair in pairs]
        draws, reward = np.array([t.draws for t in tallies]), np.array([t.reward for t in tallies])
        mean = (reward + 0.5) / (draws + 1)
        if self._arm.kind == "coins":
            values = self._random.beta(1 + reward, 1 + draws - reward)
        elif self._arm.kind == "gaussian":
            values = mean + self._random.normal(size=len(pairs)) * self._arm.rate / np.sqrt(draws + 1)
        else:
            counted = draws + pending
            values = mean + self._arm.rate * np.sqrt(np.log(counted.sum() + 2) / (counted + 1))
            values = values + 1e-9 * self._random.random(len(pairs))
        return np.argsort(-values, kind="stable")


class _Memory:
    """The bank's answers without a bank: every selected row so far, searched exactly. The same instruction never remembers itself."""

    def __init__(self, vectors: Vectors) -> None:
        self._cosines = vectors @ vectors.T
        self._rows: list[tuple[int, int, str, str]] = []

    def nearest(self, seeds: Sequence[int], before: int, limit: int = 10) -> list[list[Neighbour]]:
        rows = [row for row in self._rows if row[0] < before]
        places = np.array([row[1] for row in rows], np.int64)
        found = []
        for seed in seeds:
            cosines = self._cosines[seed][places]
            cosines = np.where((places == seed) | (cosines > SAME), -2.0, cosines)
            top = [n for n in np.argsort(-cosines, kind="stable")[:limit] if cosines[n] > -2]
            found.append([Neighbour(rows[n][2], rows[n][3], float(cosines[n])) for n in top])
        return found

    def add(self, shard: int, seed: int, name: str, pair: str) -> None:
        self._rows.append((shard, seed, name, pair))


def run_course(arm: Arm, setting: Setting, matrix: Matrix, vectors: Vectors | None, run: int) -> Outcome:
    """One run of ``arm`` over the run's seeds, shard by shard with the arm's lag."""
    order, place = seeds_of(setting, matrix, run), {pair: n for n, pair in enumerate(matrix.pairs)}
    sampled = tuple(Pair.parse(pair) for pair in matrix.pairs)
    base = (Pair.parse(matrix.base),)
    rules = SamplingRules(sampled, base, False, setting.pairs_per_seed, arm.from_memory, arm.weighting, run)  # type: ignore[arg-type]
    method = "eq8" if arm.kind == "eq8" else "thompson"
    fold = EvolutionRules(arm.rate if method == "eq8" else 0.0, arm.floor, method, arm.cost_weight)  # type: ignore[arg-type]
    groups = (
        cluster(vectors, arm.domains) if arm.domains > 1 and vectors is not None else np.zeros(len(matrix.pi), np.int64)
    )
    history = [[initial_snapshot(matrix.pairs)] for _ in range(arm.domains)]
    memory = _Memory(vectors) if arm.from_memory and vectors is not None else None
    other = _Other(arm, matrix.pairs, run) if arm.kind in ("ucb", "gaussian", "coins") else None
    selected, usd, draws, moves = np.zeros(len(order)), np.zeros(len(order)), 0, []
    drawn_pairs, picked = np.zeros(len(matrix.pairs), np.int64), np.full(len(order), -1)
    for number, shard in enumerate(shards_of(arm, setting, len(order))):
        for domain in range(arm.domains):
            places = [n for n in shard if groups[order[n]] == domain]
            snapshot = history[domain][max(0, number - arm.lag)]
            seeds = [Seed(f"{n}", "f", n, None, (), matrix.instructions[order[n]], "r") for n in places]
            near: list[list[Neighbour]] = [[] for _ in seeds]
            if memory:
                near = memory.nearest([int(order[n]) for n in places], number - arm.lag)
            plan = plan_shard(seeds, snapshot, near, rules)
            if other:
                plan = _redrawn(plan, snapshot, other, matrix.pairs, setting.pairs_per_seed)
            plan = [row for row in plan if row.origin != "base"]
            rows = [(row, int(order[int(row.seed_id)]), place[row.pair_id]) for row in plan]
            scores = [
                CompositeScore(
                    r.candidate_id,
                    r.seed_id,
                    r.slot,
                    r.pair_id,
                    None,
                    None,
                    None,
                    float(matrix.pi[s, p]),
                    None,
                    False,
                    None,
                )
                for r, s, p in rows
            ]
            costs = {r.candidate_id: float(matrix.usd[s, p]) for r, s, p in rows} if arm.cost_weight else None
            best: dict[int, tuple[float, str]] = {n: (float(matrix.base_pi[order[n]]), matrix.base) for n in places}
            for row, seed, pair in rows:
                at, pi = int(row.seed_id), float(matrix.pi[seed, pair])
                usd[at] += matrix.usd[seed, pair]
                drawn_pairs[pair] += 1
                draws += 1
                if pi > best[at][0]:
                    best[at] = (pi, row.pair_id)
            for n, (pi, pair_id) in best.items():
                selected[n], picked[n] = pi, place.get(pair_id, -1)
                if memory:
                    memory.add(number, int(order[n]), f"{n}", pair_id)
            inputs = FoldInputs(f"{number}", seeds, plan, scores, costs)
            history[domain].append(snapshot_of(fold_shard(history[domain][-1], inputs, fold)))
        moves.append([history[0][-1].probabilities[pair] for pair in matrix.pairs])
    return Outcome(selected, usd, draws / len(order), np.array(moves), history[0][-1], drawn_pairs, picked)


def _redrawn(plan, snapshot, other, pairs, count):  # type: ignore[no-untyped-def]
    """The plan with its explored pairs drawn by another bandit: as many of them, each seed in turn."""
    pending, made, waiting = np.zeros(len(pairs)), [], {}
    for row in plan:
        if row.origin == "base":
            made.append(row)
            continue
        if row.seed_id not in waiting:
            waiting[row.seed_id] = iter(other.order(snapshot, pending, pairs)[:count])
        pick = next(waiting[row.seed_id])
        pending[pick] += 1
        made.append(replace(row, pair_id=pairs[pick]))
    return made
