"""What a lag costs the evolution: the mean of the selected candidates' pi, over simulated runs, lag by lag.

    python -m star_pipeline_tests.benchmarks.lag_evolution [--runs 20] [--shards 30] [--lags 0 1 2 4]

No LLM and no model: pairs have a quality of their own, and another one for each kind of instruction, which a candidate's pi follows with
noise. Plans, folds and memory are the pipeline's own functions (Eq. 3 and 8, and an exact search). Beside each lag stands its difference
from lag 0: run by run, and as if its runs were others than those of lag 0; and what is to be expected, lag / shards times what evolution
has gained over equal chances by the last quarter of the shards. At the end: what equal chances without memory give.
"""

import argparse
import random
import statistics
from collections.abc import Mapping, Sequence

from star_pipeline.adapters.fakes import HashEmbedder, ListBank
from star_pipeline.core.equations.evolution import (
    EvolutionRules,
    FoldInputs,
    Snapshot,
    fold_shard,
    initial_snapshot,
    snapshot_of,
)
from star_pipeline.core.equations.sampling import SamplingRules, plan_shard
from star_pipeline.core.intervals import mean
from star_pipeline.core.records import CompositeScore, MemoryEntry, Pair, PlanRow, Seed
from star_pipeline_tests.benchmarks.two_means import independent

KINDS = ("poem verse rhyme stanza", "sum digits add total", "code loop function bug", "letter polite reply office")
AGENTS = ("a", "b", "c", "d")
PAIRS = tuple(Pair(j, k) for j in ("keep", *AGENTS[:2]) for k in AGENTS)
BASE = Pair("keep", "z")


def simulate(run: int, lag: int, shards: int, size: int, rate: float, memory: int) -> list[float]:
    """The pi of the best candidate of each seed."""
    draw = random.Random(run)
    quality = {pair.pair_id: draw.uniform(0.1, 0.6) for pair in PAIRS}
    liking = {(pair.pair_id, kind): draw.gauss(0, 0.15) for pair in PAIRS for kind in KINDS}
    rules = SamplingRules(PAIRS, (BASE,), False, 3, memory, "similarity", run)
    snapshots: list[Snapshot] = [initial_snapshot([pair.pair_id for pair in PAIRS])]
    bank, embedder, best = ListBank(), HashEmbedder(), list[float]()
    for number in range(shards):
        kinds = {f"{number}-{n}": draw.choice(KINDS) for n in range(size)}
        seeds = [Seed(name, "f", 0, None, (), f"{kind} {name}", "r") for name, kind in kinds.items()]
        vectors = embedder.embed([seed.instruction for seed in seeds])
        near = bank.nearest(vectors, 10, before=number - lag)
        plan = plan_shard(seeds, snapshots[max(0, number - lag)], near, rules)
        noise = random.Random(f"{run} {number}")
        scores = [_score(row, quality[row.pair_id] + liking[row.pair_id, kinds[row.seed_id]], noise)
                  for row in plan if row.origin != "base"]  # fmt: skip
        inputs = FoldInputs(f"{number}", seeds, plan, scores)
        snapshots.append(snapshot_of(fold_shard(snapshots[-1], inputs, EvolutionRules(rate, 0.005))))
        entries = list(_remember(number, seeds, scores, best))
        bank.replace_shard(f"{number}", entries, embedder.embed([entry.instruction for entry in entries]))
    return best


def _score(row: PlanRow, mean: float, noise: random.Random) -> CompositeScore:
    pi = min(1.0, max(0.0, noise.gauss(mean, 0.2)))
    return CompositeScore(row.candidate_id, row.seed_id, row.slot, row.pair_id, None, None, None, pi, None, False, None)


def _remember(
    number: int, seeds: Sequence[Seed], scores: Sequence[CompositeScore], best: list[float]
) -> Sequence[MemoryEntry]:
    of: Mapping[str, Seed] = {seed.seed_id: seed for seed in seeds}
    top: dict[str, CompositeScore] = {}
    for score in scores:
        if score.seed_id not in top or (score.pi or 0.0) > (top[score.seed_id].pi or 0.0):
            top[score.seed_id] = score
    best += [score.pi or 0.0 for score in top.values()]
    return [
        MemoryEntry(name, score.candidate_id, f"{number}", number, of[name].instruction, score.pair_id, score.pi or 0.0)
        for name, score in top.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--shards", type=int, default=30)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--lags", type=int, nargs="+", default=[0, 1, 2, 4])
    options = parser.parse_args()

    def runs(lag: int, rate: float, memory: int) -> list[list[float]]:
        return [simulate(run, lag, options.shards, options.size, rate, memory) for run in range(options.runs)]

    last = options.shards * options.size // 4
    whole, uniform = runs(0, options.rate, 1), runs(0, 0.0, 0)
    first = [statistics.fmean(run) for run in whole]
    gain = statistics.fmean(pi for run in whole for pi in run[-last:]) - statistics.fmean(
        pi for run in uniform for pi in run[-last:]
    )
    for lag in options.lags:
        found = first if lag == 0 else [statistics.fmean(run) for run in runs(lag, options.rate, 1)]
        apart = [one - other for one, other in zip(found, first, strict=True)]
        said = f"lag {lag}: mean selected pi {statistics.fmean(found):.4f}"
        if lag and (between := mean(apart)):
            alone = independent(found, first)
            said += (
                f"; from lag 0, run by run, {between.figure:+.4f}, 95% interval {between.low:+.4f} to {between.high:+.4f}, "
                f"lower in {sum(one < 0 for one in apart)} of {len(apart)}; as of independent runs {alone.low:+.4f} to {alone.high:+.4f}; "
                f"expected {-lag / options.shards * gain:+.4f}"
            )
        print(said, flush=True)
    print(
        f"two runs of lag 0 differ by {statistics.stdev(first):.4f} (standard deviation); uniform: mean selected pi "
        f"{statistics.fmean(pi for run in uniform for pi in run):.4f}, in the last quarter lag 0 has {gain:.4f} more"
    )


if __name__ == "__main__":
    main()
