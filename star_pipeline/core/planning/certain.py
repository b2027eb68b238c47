"""What is asked for a shard's seeds whatever its plan turns out to be: so it can be asked before the plan is drawn. Pure decisions."""

from collections.abc import Sequence
from dataclasses import replace

from star_pipeline.core.equations.evolution import initial_snapshot
from star_pipeline.core.equations.sampling import SamplingRules, plan_shard
from star_pipeline.core.records import KEEP, Pair, PlanRow, Seed


def certain_rows(seeds: Sequence[Seed], rules: SamplingRules) -> list[PlanRow]:
    """Rows of a plan with the pairs that every plan has; their ids and slots mean nothing.

    These are the base pairs, and all others where as many are drawn as there are.
    """
    drawable = _drawable(rules)
    pairs = rules.base + (drawable if len(drawable) <= rules.pairs_per_seed else ())
    fixed = replace(rules, sampled=(), base=pairs, include_seed=False, pairs_per_seed=0, from_memory=0)
    snapshot = initial_snapshot([pair.pair_id for pair in pairs])
    return plan_shard(seeds, snapshot, [[] for _ in seeds], fixed)


def certain_rewriters(rules: SamplingRules) -> list[str]:
    """The instruction agents that rewrite every seed: distinct pairs are drawn, and those without the agent are too few."""
    drawable = _drawable(rules)
    count = min(rules.pairs_per_seed, len(drawable))
    agents = dict.fromkeys(pair.instruction_agent for pair in drawable)
    return [
        agent for agent in agents if agent != KEEP and sum(pair.instruction_agent != agent for pair in drawable) < count
    ]


def _drawable(rules: SamplingRules) -> tuple[Pair, ...]:
    return tuple(pair for pair in rules.sampled if pair not in rules.base)
