"""The pairs: does memory help, is there evidence for where the probabilities went, does one pair take all?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from star_pipeline.core.aliases import Numbers, Values
from star_pipeline.core.health.lines import LEAST_SEEDS, Signature, line
from star_pipeline.core.health.rows import Mask, Rows
from star_pipeline.core.intervals import Estimate, of_totals, share
from star_pipeline.core.records import SEED_PAIR, HealthLine

MOVED = 0.05
"""How far two pairs' probabilities must have moved apart for evidence to be asked for."""
SURE = 0.95
"""Under Thompson sampling: the chance of being the best from which evidence is asked for; smaller ones say themselves that they may err."""
MOST_OF_ALL = 0.6
FEWEST_PAIRS = 3

MEMORY = Signature(
    "memory",
    "Do pairs drawn from memory earn more than explored ones?",
    "mean π of the pairs drawn from memory minus mean π of the explored ones, by seed, averaged over the seeds that have both",
    "seeds with draws of both kinds",
    "difference",
    "draws from memory earn no more than explored ones",
    "sampling.from_memory: 0 does without; or raise memory.min_pi and lower memory.neighbours, so that it remembers what was good and near",
    LEAST_SEEDS,
)
EVOLUTION = Signature(
    "evolution",
    "Is there evidence for where the probabilities went?",
    "mean π a draw of the pair with the most probability, minus that of the best other sampled pair",
    "seeds that drew either",
    "difference",
    "",
    "evolution.method: thompson moves as far as the draws tell; under eq8 lower evolution.rate until more seeds tell them apart, or raise "
    "evolution.floor; see: star-pipeline query pair_leaderboard",
    LEAST_SEEDS,
)
CONCENTRATION = Signature(
    "concentration",
    "Does the final data set come from more than one pair?",
    "rows of the pair that made the most, the seeds' own text counted as one, of the final data set",
    "rows of the final data set",
    "share",
    "",
    "",
)


@dataclass(frozen=True)
class Drift:
    """Where the probabilities went: pair_id -> before its first shard, and after the last one; ``top`` has the most.

    ``chances``: whether they are chances of being the best (Thompson sampling).
    """

    start: Mapping[str, float]
    end: Mapping[str, float]
    chances: bool = False

    @property
    def top(self) -> str:
        return min(self.end, key=lambda pair: (-self.end[pair], pair))

    def apart(self, one: str, other: str) -> float:
        """By how much ``one`` has moved ahead of ``other``."""
        return (self.end[one] - self.start[one]) - (self.end[other] - self.start[other])

    def tells(self, rival: str) -> bool:
        """Whether ``top`` is held to be better than ``rival``, for which there should be evidence."""
        return self.end[self.top] >= SURE if self.chances else self.apart(self.top, rival) >= MOVED


def drift(moves: Sequence[Mapping[str, str | float | None]]) -> Drift | None:
    """Of the rows of ``agent_pair_probabilities`` (shard, pair_id, probability_before, probability, draws_total); None of none."""
    if not moves:
        return None
    start: dict[str, float] = {}
    for row in sorted(moves, key=lambda row: str(row["shard"])):
        start.setdefault(str(row["pair_id"]), float(row["probability_before"] or 0.0))
    last = max(str(row["shard"]) for row in moves)
    ends = [row for row in moves if row["shard"] == last]
    chances = any(row.get("draws_total") is not None for row in ends)
    return Drift(start, {str(row["pair_id"]): float(row["probability"] or 0.0) for row in ends}, chances)


def pair_lines(
    rows: Rows, moves: Sequence[Mapping[str, str | float | None]], published: Mapping[str, int]
) -> list[HealthLine]:
    """``published``: pair_id -> rows of the final data set."""
    return [_memory(rows), _evolution(rows, drift(moves)), _concentration(rows, published)]


def _earned(rows: Rows) -> tuple[Numbers, Numbers, Values, Values]:
    """(row numbers, seeds' numbers, π with 0 for none, whether from memory) of the draws that have been scored; as in Eq. 8."""
    drawn = np.flatnonzero(rows.among("origin", "memory", "explore") & rows.known("selected"))
    pi = np.nan_to_num(rows.numbers("pi")[drawn], nan=0.0)
    return drawn, rows.seeds[drawn], pi, rows.among("origin", "memory")[drawn].astype(np.float64)


def _memory(rows: Rows) -> HealthLine:
    _, seeds, pi, memory = _earned(rows)
    of = [np.bincount(seeds, weights) for weights in (memory, 1 - memory, pi * memory, pi * (1 - memory))]
    both = np.flatnonzero((of[0] > 0) & (of[1] > 0))
    remembered, explored, from_memory, from_explored = (column[both] for column in of)
    differences = from_memory / np.maximum(remembered, 1) - from_explored / np.maximum(explored, 1)
    found = of_totals(both, [differences, np.ones(len(both))], lambda totals: totals[0] / totals[1])
    surely = found is not None and found.high < 0
    return line(
        MEMORY, found, lambda x: x <= 0, bad="draws from memory surely earn less than explored ones" if surely else None
    )


def _evolution(rows: Rows, went: Drift | None) -> HealthLine:
    drawn, seeds, pi, _ = _earned(rows)
    codes, names = rows.codes("pair_id")
    codes = codes[drawn]
    draws = np.bincount(codes, minlength=len(names))
    means = np.bincount(codes, pi, len(names)) / np.maximum(draws, 1)
    earned = {name: mean for name, mean, count in zip(names, means, draws, strict=True) if count}
    others = [name for name in went.end if name != went.top and name in earned] if went else []
    if went is None or not others or went.top not in earned:
        return line(EVOLUTION, None, bool)
    rival = min(others, key=lambda name: (-earned[name], name))
    sampled = np.isin(codes, [names.index(name) for name in went.end if name in names])
    top, best = (codes == names.index(name) for name in (went.top, rival))
    found, beside_all = (_ahead(seeds, pi, top, others) for others in (best, sampled & ~top))
    apart, tells = went.apart(went.top, rival), went.tells(rival)
    # held against all others: one that is picked as the best of many is ahead by chance more often than its interval says
    poor = beside_all is not None and beside_all.high < 0
    return line(
        EVOLUTION,
        found,
        lambda _: tells and not (found is not None and found.low > 0),
        lambda x: tells and poor and x < 0,
        note=f"{went.top} has the most probability, {went.end[went.top]:.0%}, and has moved {apart * 100:+.1f} points ahead of {rival}",
        bad=f"it rose though the others, {rival} first, surely earn more"
        if poor
        else "the seeds do not tell the two apart: it may have risen by chance",
    )


def _ahead(seeds: Numbers, pi: Values, ours: Mask, others: Mask) -> Estimate | None:
    """Mean π of our draws minus that of the others."""
    either = ours | others
    columns = [(mask * values)[either] for mask in (ours, others) for values in (pi, np.ones(len(pi)))]
    return of_totals(seeds[either], columns, _difference)


def _difference(totals: Values) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(totals[0] / totals[1] - totals[2] / totals[3])


def _concentration(rows: Rows, published: Mapping[str, int]) -> HealthLine:
    """Where the configuration has fewer than three sources of rows, one of them takes most as a matter of course."""
    if not published:
        return line(CONCENTRATION, None, bool)
    top = min(published, key=lambda pair: (-published[pair], pair))
    choice = len(rows.codes("pair_id")[1]) >= FEWEST_PAIRS
    own = top == SEED_PAIR
    return line(
        CONCENTRATION,
        share(published[top], sum(published.values())),
        lambda x: choice and x >= MOST_OF_ALL,
        note="the seeds' own text, unchanged, has most rows" if own else f"{top} has most rows",
        bad="the run gave most seeds back as they were"
        if own
        else "the data set is nearly one pair's work, and has its style and faults",
        remedy="pairs.include_seed: false asks for new text only; or take stronger agents"
        if own
        else "look at its samples in the report; raise evolution.floor, or take it out of pairs if they are poor",
    )
