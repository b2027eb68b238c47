"""Which pair is ahead, as far as the intervals tell: where two of them overlap, neither is called better."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from star_pipeline.core.aliases import JsonMapping

LEAST = 20
"""Values of a mean below which its interval (the normal approximation) is not relied on."""


@dataclass(frozen=True)
class Standing:
    """A pair's estimate with the ends of its 95% interval; ``sure``: from values enough for the interval to hold."""

    pair_id: str
    centre: float
    low: float | None
    high: float | None
    sure: bool = True


@dataclass(frozen=True)
class Ranking:
    """The pair with the highest estimate, and those whose intervals do not tell them from it, in order."""

    first: Standing
    rivals: tuple[str, ...]

    @property
    def clear(self) -> bool:
        """Whether the first is ahead of every other pair."""
        return not self.rivals


def order(standings: Sequence[Standing]) -> Ranking | None:
    """The first of the pairs and its rivals; None where there are not two to compare."""
    if len(standings) < 2:
        return None
    first, *others = sorted(standings, key=lambda one: (-one.centre, one.pair_id))
    return Ranking(first, tuple(one.pair_id for one in others if not _above(first, one)))


def _above(one: Standing, other: Standing) -> bool:
    return one.sure and other.sure and one.low is not None and other.high is not None and one.low > other.high


def by_mean_pi(board: Iterable[JsonMapping]) -> Ranking | None:
    """The order of the sampled pairs among the rows of the query pair_leaderboard."""
    return order(
        [
            Standing(
                row["pair_id"],
                row["mean_pi"],
                row["mean_pi_low"],
                row["mean_pi_high"],
                row["candidates"] - row["failed"] >= LEAST,
            )
            for row in board
            if row["probability"] is not None and row["mean_pi"] is not None
        ]
    )


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b and c``; of more than ``most`` the first, and how many others there are."""
    shown, rest = list(names[:most]), len(names) - most
    if rest > 0:
        shown.append(f"{rest:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def mean_pi_tells(found: Ranking | None) -> str:
    """In a sentence, what the mean π of the sampled pairs tells; empty where there are not two."""
    if found is None:
        return ""
    name = found.first.pair_id
    if found.clear:
        return f"By mean π {name} is ahead of every other sampled pair: its 95% interval lies above theirs."
    return (
        f"By mean π no sampled pair is clearly ahead: the 95% intervals, of {LEAST} candidates or more, do not tell {name} "
        f"from {listed(found.rivals)}."
    )
