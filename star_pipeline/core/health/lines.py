"""A line of health: one figure, what is made of it, and the two limits that decide.

The rule is the same everywhere. A figure of fewer than ``least`` things is no ground for a verdict: the line is fine, and says that it is
too few to tell. Otherwise it is *doubtful* where the figure itself lies beyond the first limit, and *unfit* only where its whole 95%
interval lies beyond the second, so that chance alone hardly ever makes anything unfit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.intervals import Estimate, Judgement
from star_pipeline.core.records import HealthLine

Unit = Literal["share", "difference", "correlation"]
LEAST_COUNTED = 10
"""Things that a share must be of: Wilson's interval holds for few."""
LEAST_SEEDS = 20
"""Seeds that an interval by bootstrap must be of."""
FINE: Judgement = "fine"


@dataclass(frozen=True)
class Signature:
    """What is looked at: ``asks`` is the question, ``what`` the figure is, and what a reader is told.

    ``counted`` names the things that ``n`` counts, ``bad`` says what a doubtful figure means, ``remedy`` what to do about it.
    """

    name: str
    asks: str
    what: str
    counted: str
    unit: Unit
    bad: str
    remedy: str
    least: int = LEAST_COUNTED


def line(
    signature: Signature,
    found: Estimate | None,
    doubtful: Callable[[float], bool],
    unfit: Callable[[float], bool] = lambda _: False,
    note: str = "",
    bad: str | None = None,
    remedy: str | None = None,
) -> HealthLine:
    """The line of ``found``; ``unfit`` must hold at both ends of the interval. ``note`` is said of this lake whatever the verdict.

    ``bad`` and ``remedy`` take the place of the signature's where they depend on what was found.
    """
    verdict: Judgement = FINE
    if found is None or found.n < signature.least:
        count = 0 if found is None else found.n
        meaning = f"too few to tell: {count:,} {signature.counted}, {signature.least} or more are needed"
    else:
        if unfit(found.low) and unfit(found.high) and unfit(found.figure):
            verdict = "unfit"
        elif doubtful(found.figure):
            verdict = "doubtful"
        meaning = "nothing odd" if verdict == FINE else signature.bad if bad is None else bad
    return HealthLine(
        signature=signature.name,
        verdict=verdict,
        what=signature.what,
        unit=signature.unit,
        figure=found.figure if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        n=found.n if found else 0,
        meaning="; ".join(part for part in (note, meaning) if part),
        remedy="" if verdict == FINE else signature.remedy if remedy is None else remedy,
    )


def too_few(found: HealthLine) -> bool:
    """Whether the line is fine for want of rows."""
    return "too few to tell" in found.meaning


def figure_in_words(unit: str, figure: float | None, low: float | None, high: float | None) -> str:
    """``90% (74 to 97%)``, ``-0.62 (-0.81 to -0.40)``; ``none`` where there is no figure."""
    if figure is None or low is None or high is None:
        return "none"
    if unit == "share":
        return f"{figure:.0%} ({low * 100:.0f} to {high:.0%})"
    return f"{figure:+.2f} ({low:+.2f} to {high:+.2f})"


def measured(found: HealthLine) -> str:
    """What the figure is, with its interval."""
    return f"{found.what}: {figure_in_words(found.unit, found.figure, found.low, found.high)}, n {found.n:,}"


def in_words(found: HealthLine) -> str:
    """What, figure, meaning and remedy on one line, for a check and a card."""
    return "; ".join(part for part in (measured(found), found.meaning, found.remedy) if part)
