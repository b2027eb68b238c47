"""What a run would ask, cost and compute, as figures, and what they mean beside the budget."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from star_pipeline.core.planning.unlearnt import Unlearnt

if TYPE_CHECKING:
    from star_pipeline.core.planning.study_estimate import StudyEstimate


@dataclass(frozen=True)
class Reach:
    """How far the rest of a budget goes: ``seeds`` and whole ``shards`` as expected, ``least_seeds`` in the worst case."""

    seeds: int
    shards: int
    least_seeds: int


def reach(usd: float, most_usd: float, left_usd: float, seeds: int, shards: int) -> Reach:
    """Of ``seeds`` in ``shards`` that are to cost ``usd``, at most ``most_usd``; a seed is taken to cost the mean."""
    expected, least = (min(1.0, max(0.0, left_usd) / cost) if cost > 0 else 1.0 for cost in (usd, most_usd))
    return Reach(int(expected * seeds), int(expected * shards), int(least * seeds))


@dataclass(frozen=True)
class AgentEstimate:
    """A stage of an agent. ``usd`` expected, ``most_usd`` if every reply is as long as ``max_tokens`` allows and every verdict
    has to be asked for as often as ``judge.attempts`` allows; None where no price or no ``max_tokens`` is known."""

    agent: str
    stage: str
    calls: int
    in_journal: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    most_usd: float | None


@dataclass(frozen=True)
class RunEstimate:
    """``flops`` by role (small, large); a reason in place of the number where a model's size cannot be had. ``study`` comes after the
    run and beside its cost; None where none is configured. ``unlearnt``: what of the lake is drawn before anything is learnt, where a
    lag makes that more than the first shard."""

    seeds_to_do: int
    shards_to_do: int
    agents: tuple[AgentEstimate, ...]
    candidates_to_score: int
    scoring_tokens: int
    flops: Mapping[str, float | str]
    spent_usd: float
    budget_usd: float | None
    assumptions: tuple[str, ...] = field(default=())
    study: "StudyEstimate | None" = None
    unlearnt: Unlearnt | None = None

    @property
    def usd(self) -> float | None:
        return _sum([line.usd for line in self.agents])

    @property
    def most_usd(self) -> float | None:
        return _sum([line.most_usd for line in self.agents])

    @property
    def within_budget(self) -> Reach | None:
        """How far the rest of the budget goes; None where there is no budget, or a cost is unknown."""
        if self.budget_usd is None or self.usd is None or self.most_usd is None:
            return None
        left = self.budget_usd - self.spent_usd
        return reach(self.usd, self.most_usd, left, self.seeds_to_do, self.shards_to_do)

    @property
    def conclusion(self) -> str:
        """What the costs and the budget mean for the run, in a sentence."""
        usd, most = self.usd, self.most_usd
        if self.budget_usd is None:
            if usd == 0 == most:
                return "nothing to pay for"
            upper = f"at most {most:,.4f} USD, " if most is not None else "an amount without a known limit, "
            return f"no budget is set: the run may spend {upper}and nothing stops it; budget.usd does"
        if usd is None or most is None:
            return (
                "the run will not start: a budget needs a price and params.max_tokens of each agent (star-pipeline doctor names the "
                "first that lacks one)"
            )
        left = max(0.0, self.budget_usd - self.spent_usd)
        found = reach(usd, most, left, self.seeds_to_do, self.shards_to_do)
        of = f"{self.seeds_to_do:,} seeds"
        if most <= left:
            return f"the {left:,.4f} USD left are enough, even in the worst case"
        worst = f"{most:,.4f} USD, if every reply is as long as it may be and every verdict is asked for as often"
        if usd <= left:
            return (
                f"the {left:,.4f} USD left are enough for the {usd:,.4f} expected, not for the worst case ({worst}): then the run "
                f"stops after about {found.least_seeds:,} of {of}"
            )
        return (
            f"the {left:,.4f} USD left are not enough for the {usd:,.4f} expected: the run will stop at the budget after about "
            f"{found.seeds:,} of {of} ({found.shards:,} of {self.shards_to_do:,} shards whole), in the worst case ({worst}) after about "
            f"{found.least_seeds:,}. What is finished stays; with budget.usd of {math.ceil((self.spent_usd + usd) * 100) / 100:g} it is "
            "expected to reach the end"
        )


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(value or 0.0 for value in values)
