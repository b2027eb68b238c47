"""Thompson sampling in place of Eq. 8: each seed draws a quality for every pair from what is known of it, and calls the highest.

What is known of a pair is a Beta distribution, Beta(1 + c Σπ, 1 + c (n − Σπ)) after n draws: flat at first, the narrower the more often
the pair was drawn. So pairs that may still be the best are tried, pairs that surely are not are left, and no rate has to be chosen. The
weight c of a draw is how many draws of 0 or 1 tell as much as one that varies as the draws did: π is a product, and varies less.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from star_pipeline.core.aliases import Values

CELLS = 4096
"""A distribution is kept as its mass in that many equal parts of [0, 1]."""
ASSUMED = 10
"""The weight of a draw is found as if that many draws more had been 0 or 1: few draws alike are no proof that all are."""
DIGITS = 12
"""Chances are rounded to so many: their last bits depend on the processor."""


@dataclass(frozen=True)
class Tally:
    """What a pair's draws have brought so far: ``draws``, the sums of their π and of its squares, and in USD what they cost (None where
    nobody asked).

    ``handicap``: what is taken off the pair's quality for its price, in units of π.
    """

    draws: int = 0
    reward: float = 0.0
    squares: float = 0.0
    cost_usd: float | None = None
    handicap: float = 0.0


def add(one: Tally, other: Tally) -> Tally:
    """Both one after the other; the handicap is that of ``one``. A cost that is not known of both is not known."""
    known = all(tally.cost_usd is not None or not tally.draws for tally in (one, other))
    cost = (one.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None
    sums = one.draws + other.draws, one.reward + other.reward, one.squares + other.squares
    return Tally(*sums, cost, one.handicap)


def weight(tallies: Mapping[str, Tally]) -> float:
    """How many draws of 0 or 1 one of these draws tells as much as, 1 at least: Σ n μ (1 − μ) / Σ n by the variance within pairs."""
    drawn = [tally for _, tally in sorted(tallies.items()) if tally.draws]
    draws = sum(tally.draws for tally in drawn)
    if not draws:
        return 1.0
    as_counts = math.fsum(tally.reward * (1 - tally.reward / tally.draws) for tally in drawn) / draws
    apart = math.fsum(tally.squares - tally.reward * tally.reward / tally.draws for tally in drawn)
    free = draws - len(drawn)
    within = (max(apart, 0.0) + ASSUMED * as_counts) / (free + ASSUMED)
    return max(1.0, as_counts / within) if within > 0 else 1.0


def handicaps(tallies: Mapping[str, Tally], cost_weight: float) -> dict[str, float]:
    """``cost_weight`` (π per USD) × the mean cost of a draw; a pair that was never drawn counts as the mean draw of all."""
    if not cost_weight:
        return dict.fromkeys(tallies, 0.0)
    draws = sum(tally.draws for tally in tallies.values())
    mean = math.fsum(tally.cost_usd or 0.0 for tally in tallies.values()) / max(draws, 1)
    return {
        pair_id: cost_weight * ((tally.cost_usd or 0.0) / tally.draws if tally.draws else mean)
        for pair_id, tally in tallies.items()
    }


@functools.lru_cache(maxsize=512)
def _masses(draws: float, reward: float) -> tuple[Values, Values]:
    """(mass of each cell, cumulative mass at the CELLS + 1 edges) of Beta(1 + reward, 1 + draws - reward)."""
    middles = (np.arange(CELLS) + 0.5) / CELLS
    logs = reward * np.log(middles) + max(draws - reward, 0.0) * np.log1p(-middles)
    mass = np.exp(logs - logs.max())
    mass /= mass.sum()
    return mass, np.concatenate([[0.0], np.cumsum(mass)])


_EDGES = np.arange(CELLS + 1) / CELLS
_NOTHING = 1e-300
"""Chances below it are none: a slope between two of them would be infinite."""


def quality(tally: Tally, u: float, of_a_draw: float = 1.0) -> float:
    """The quality below which a share ``u`` of the distribution lies, less the handicap: with u uniform in [0, 1) a draw from it."""
    cumulative = _masses(of_a_draw * tally.draws, of_a_draw * tally.reward)[1]
    cumulative[cumulative < _NOTHING] = 0.0
    return float(np.interp(u, cumulative, _EDGES)) - tally.handicap


def chances(tallies: Mapping[str, Tally], floor: float = 0.0) -> dict[str, float]:
    """The chance with which each pair's draw is the highest of all: that it is the first that a seed calls. They sum to 1.

    With ``floor`` f a share K·f of the seeds draw by equal chances, so that each pair has at least f.
    """
    names = sorted(tallies)
    middles, c = (np.arange(CELLS) + 0.5) / CELLS, weight(tallies)
    found = []
    for name in names:
        own, below = tallies[name], np.ones(CELLS)
        for other in (tallies[one] for one in names if one != name):
            cumulative = _masses(c * other.draws, c * other.reward)[1]
            shift = other.handicap - own.handicap
            below *= (
                (cumulative[1:] + cumulative[:-1]) / 2
                if shift == 0
                else np.interp(middles + shift, _EDGES, cumulative, 0.0, 1.0)
            )
        found.append(float(_masses(c * own.draws, c * own.reward)[0] @ below))
    total, keep = math.fsum(found), 1 - len(names) * floor
    return {name: round(keep * chance / total + floor, DIGITS) for name, chance in zip(names, found, strict=True)}


def best_first(tallies: Mapping[str, Tally], numbers: Mapping[str, float]) -> Sequence[str]:
    """The pairs by their drawn quality, the highest first; ``numbers``: a uniform number in [0, 1) a pair."""
    c = weight(tallies)
    drawn = {pair_id: quality(tallies[pair_id], numbers[pair_id], c) for pair_id in sorted(numbers)}
    return sorted(drawn, key=lambda pair_id: (-drawn[pair_id], pair_id))
