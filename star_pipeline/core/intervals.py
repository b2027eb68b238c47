"""Estimates with their 95% intervals: what a figure from few seeds may really be, and what is made of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from star_pipeline.core.aliases import Numbers, Values
from star_pipeline.core.rates import wilson

Judgement = Literal["fine", "doubtful", "unfit"]
RESAMPLES = 2000
MOST_BLOCKS = 1000
"""Groups beyond this number are drawn together by several, which leaves the interval as it is and the time bounded."""


@dataclass(frozen=True)
class Estimate:
    """``figure`` with the ends of its 95% interval, from ``n`` independent things (seeds, pairs of texts)."""

    figure: float
    low: float
    high: float
    n: int


def share(count: int, of: int) -> Estimate | None:
    """``count`` of ``of`` with Wilson's interval; None of nothing."""
    return Estimate(count / of, *wilson(count, of), of) if of else None


def mean(values: Sequence[float]) -> Estimate | None:
    """The mean with its bootstrap interval (percentiles, seeded: the same values give the same ends); None of nothing."""
    return bootstrap([[value] for value in values], lambda groups: float(np.mean(np.concatenate(groups))))


def bootstrap(groups: Sequence[Sequence[float]], statistic: Callable[[list[Values]], float]) -> Estimate | None:
    """``statistic`` of all groups, and the percentiles of it over groups drawn again with replacement; None of no group.

    A group is what is independent of the others: the values of one seed, say. Draws at which the statistic has no value (nan) are
    left out.
    """
    if not groups:
        return None
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    draws = np.random.default_rng(0).integers(len(arrays), size=(RESAMPLES, len(arrays)))
    drawn = np.asarray([statistic([arrays[place] for place in draw]) for draw in draws])
    drawn = drawn[~np.isnan(drawn)]
    figure = statistic(arrays)
    low, high = np.quantile(drawn, (0.025, 0.975)) if drawn.size else (figure, figure)
    return Estimate(figure, float(low), float(high), len(arrays))


def of_totals(
    groups: Numbers, columns: Sequence[Values | NDArray[np.bool_]], statistic: Callable[[Values], Values]
) -> Estimate | None:
    """``statistic`` of the columns' sums over all rows, with its bootstrap interval over groups; None of no row.

    ``groups`` names each row's group by a number. ``statistic`` takes sums of shape (columns, draws) and gives a value a draw, nan
    where there is none. It does in one go what ``bootstrap`` does for any statistic: tens of thousands of groups take a fraction of a
    second.
    """
    if not len(groups):
        return None
    present, inverse = np.unique(groups, return_inverse=True)
    blocks = min(len(present), MOST_BLOCKS)
    sums = np.stack([np.bincount(inverse % blocks, np.asarray(column, dtype=np.float64), blocks) for column in columns])
    draws = np.random.default_rng(0).integers(blocks, size=(RESAMPLES, blocks)) + blocks * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(draws.ravel(), minlength=RESAMPLES * blocks).reshape(RESAMPLES, blocks).astype(np.float64)
    figure = float(statistic(sums.sum(axis=1, keepdims=True))[0])
    values = statistic(sums @ drawn.T)
    values = values[~np.isnan(values)]
    if np.isnan(figure):
        return None
    low, high = np.quantile(values, (0.025, 0.975)) if values.size else (figure, figure)
    return Estimate(figure, float(low), float(high), len(present))


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The chance that a value of ``positives`` is above one of ``negatives``, ties counting half (Mann-Whitney); nan of nothing."""
    if not (len(positives) and len(negatives)):
        return float("nan")
    above = np.subtract.outer(np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def mid_ranks(values: Sequence[float] | Values) -> list[float]:
    """(rank - 0.5) / n of each value, in (0, 1), ties averaged."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return [float(place) for place in (((2 * ends - counts) / 2) / max(len(values), 1))[inverse]]


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's rank correlation; nan where either does not vary."""
    a, b = np.asarray(mid_ranks(xs)), np.asarray(mid_ranks(ys))
    if len(a) < 2 or not (a.std() and b.std()):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
