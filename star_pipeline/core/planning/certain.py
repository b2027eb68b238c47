"""What is asked for a shard's seeds whatever its plan, or the last bits of its scores, turn out to be: so it can be asked before.
Pure decisions."""

from collections.abc import Sequence
from dataclasses import replace

from star_pipeline.core.equations.evolution import initial_snapshot
from star_pipeline.core.equations.sampling import SamplingRules, plan_shard
from star_pipeline.core.records import KEEP, IfdScore, Pair, PlanRow, Seed

_ROUNDING = {"float32": 2e-3}
"""How far a gap may lie from itself by the batches that it is computed in: ten thousand times what was seen of small models (2e-7)."""
_COARSE = 5e-2
"""The same of the other types of number, whose 8 to 11 bits may show in a loss: a thousand times what was seen (6e-5 in bfloat16)."""


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


def certainly_judged(score: IfdScore, dtype: str, skip_nonpositive: bool) -> bool:
    """Whether the judge is asked about a candidate, though its gap was computed in other batches than the one that will be kept."""
    least = _ROUNDING.get(dtype, _COARSE) if skip_nonpositive else float("-inf")
    return score.gap is not None and score.gap > least


def _drawable(rules: SamplingRules) -> tuple[Pair, ...]:
    return tuple(pair for pair in rules.sampled if pair not in rules.base)
