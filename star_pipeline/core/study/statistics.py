"""What a measure says of arms: differences paired by question, with intervals, p, and what it would take to show them.

A question is asked of every model, so an arm's answers are compared with the baseline's to the same question, and by models tuned with
the same seed. The mean of a question over training seeds is one independent thing: seeds of one question are a cluster. The interval
is over questions, and says what other questions of this kind would give of these models. What tuning again would give is told by the
differences of each training seed: their interval stands beside it, and a difference counts as shown only where it excludes 0 too.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_pipeline.core.aliases import Values
from star_pipeline.core.intervals import of_totals

LEVEL, POWER = 0.05, 0.8
_MOST_QUESTIONS = 10_000_000

Matrix = NDArray[np.float64]
"""(questions, training seeds), nan where there is no value."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One value of a measure."""

    arm: str
    seed: int
    question: str
    value: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` independent things and the ends of its 95% interval (Student-t); without ends of fewer than two."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    sd: float
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A mean difference: over questions, by bootstrap over questions, and over training seeds (None of fewer than two)."""

    questions: Interval
    boot_low: float | None
    boot_high: float | None
    seeds: Interval | None
    missing: int


def matrix(observations: Iterable[Observation], arm: str, questions: Sequence[str], seeds: Sequence[int]) -> Matrix:
    """The arm's values of these questions and seeds."""
    row = {name: place for place, name in enumerate(questions)}
    column = {name: place for place, name in enumerate(seeds)}
    values = np.full((len(row), len(column)), np.nan)
    for seen in observations:
        if seen.arm == arm and seen.question in row and seen.seed in column:
            values[row[seen.question], column[seen.seed]] = seen.value
    return values


def compare(differences: Matrix) -> Comparison | None:
    """Of differences of each question and training seed, nan where either has no value; None where all are."""
    by_question = _means(differences)
    if not by_question.size:
        return None
    boot = of_totals(
        np.arange(by_question.size), [by_question, np.ones_like(by_question)], lambda sums: sums[0] / sums[1]
    )
    by_seed = _means(differences.T)
    several = by_question.size > 1 and boot is not None
    return Comparison(
        student_t(by_question),
        boot.low if boot and several else None,
        boot.high if boot and several else None,
        student_t(by_seed) if by_seed.size > 1 else None,
        len(differences) - by_question.size,
    )


def _means(values: Matrix) -> Values:
    """The mean of each row that has a value."""
    there = ~np.isnan(values)
    some = there.any(axis=1)
    return np.asarray(np.where(there, values, 0.0).sum(axis=1)[some] / there.sum(axis=1)[some], dtype=np.float64)


def student_t(values: Values) -> Interval:
    """The mean, its 95% interval and the two-sided p of a mean of 0. Values that are all the same leave nothing open."""
    from scipy.special import stdtr, stdtrit  # here, since the package takes a while to load

    n, mean = int(values.size), float(values.mean())
    if n < 2:
        return Interval(mean, None, None, None, 0.0, n)
    sd = float(values.std(ddof=1))
    error = sd / math.sqrt(n)
    if error <= 1e-15 * abs(mean) or error == 0:
        return Interval(mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0, n)
    reach = float(stdtrit(n - 1, 1 - LEVEL / 2)) * error
    return Interval(mean, mean - reach, mean + reach, float(2 * stdtr(n - 1, -abs(mean) / error)), sd, n)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of the p that there are."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = highest
    return adjusted


def power(effect: float, n: int) -> float:
    """The chance that a paired t-test of ``n`` questions at the 5% level shows a mean of ``effect`` standard deviations."""
    from scipy.special import nctdtr, stdtrit

    critical = float(stdtrit(n - 1, 1 - LEVEL / 2))
    away = abs(effect) * math.sqrt(n)
    found = 1 - float(nctdtr(n - 1, away, critical)) + float(nctdtr(n - 1, away, -critical))
    return 1.0 if math.isnan(found) else found  # the distribution is not computed far out, where nothing is left of it


def questions_needed(difference: float, sd: float) -> int | None:
    """The fewest questions that show such a difference 4 times of 5; None where there is none, or no number would do."""
    if difference == 0 or not math.isfinite(difference):
        return None
    if sd == 0:
        return 2
    effect = abs(difference) / sd
    return _least(lambda n: power(effect, n) >= POWER, 2, _MOST_QUESTIONS)


def detectable(sd: float, n: int) -> float | None:
    """The smallest difference that ``n`` questions show 4 times of 5; None of fewer than two."""
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while power(high, n) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n) >= POWER else (middle, high)
    return high * sd


def _least(holds: Callable[[int], bool], low: int, most: int) -> int | None:
    """The smallest number from ``low`` on for which it holds, where it holds for every larger one; None beyond ``most``."""
    high = low
    while not holds(high):
        low, high = high + 1, high * 2
        if low > most:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
