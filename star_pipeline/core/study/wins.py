"""Win rates against a baseline: as the judge says, and as it would say of answers of like length."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_pipeline.core.aliases import Values
from star_pipeline.core.intervals import RESAMPLES
from star_pipeline.core.records import Verdict
from star_pipeline.core.study.statistics import LEVEL

_WINS: dict[Verdict, float] = {"better": 1.0, "worse": 0.0, "tie": 0.5, "inconsistent": 0.5}
_STEPS, _SURE = 50, 25.0
"""Newton's steps, and log-odds beyond which wins are so one-sided that no finite number fits."""


def win_of(verdict: Verdict) -> float | None:
    """1 or 0; 0.5 for a tie and for what turned round with the order; None where there is no verdict."""
    return _WINS.get(verdict)


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """``rate``: the win rate at equal length, with its 95% interval (Student-t over questions, on the log-odds), the same by bootstrap
    over questions, and the two-sided p of 0.5. ``slope``: log-odds for each standard deviation of length, near no difference."""

    rate: float
    low: float | None
    high: float | None
    boot_low: float | None
    boot_high: float | None
    p: float | None
    slope: float
    n: int


def length_controlled(
    wins: Sequence[float], lengths: Sequence[int], lengths_baseline: Sequence[int], questions: Sequence[str]
) -> LengthControlled | None:
    """AlpacaEval 2's rate in its minimal form (``length_controlled_minimal``): the logistic regression

        log-odds of a win = a + b * tanh(length difference / its standard deviation),

    and the rate at no difference, 1 / (1 + exp(-a)). Lengths are in characters. AlpacaEval's own form has a term for each
    instruction's difficulty besides, estimated from many models' answers to its 805 instructions: nobody has such answers to a user's
    questions, so there is none here. Nor is there its penalty: the fit is maximum likelihood. Ties count half a win and half a loss.
    ``questions`` names each comparison's question; those of one question (training seeds) are a cluster.

    None where no such fit exists: fewer than three questions, lengths that never differ by different amounts, or a win
    rate of 0 or 1 on one side of a length.
    """
    y = np.asarray(wins, dtype=np.float64)
    delta = np.asarray(lengths, dtype=np.float64) - np.asarray(lengths_baseline, dtype=np.float64)
    names, cluster = np.unique(np.asarray(questions), return_inverse=True)
    if len(names) < 3 or delta.std() == 0:
        return None
    x = np.column_stack([np.ones_like(delta), np.tanh(delta / delta.std(ddof=1))])
    found = _fit(x, y, np.ones((1, len(y))))[0]
    if not np.isfinite(found).all():
        return None
    error = _clustered_error(x, y, found, cluster, len(names))
    draws = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), size=RESAMPLES)
    drawn = _fit(x, y, draws[:, cluster].astype(np.float64), found)[:, 0]
    drawn = drawn[np.isfinite(drawn)]
    several = len(drawn) > RESAMPLES / 2
    boot_low, boot_high = np.quantile(_odds(drawn), (LEVEL / 2, 1 - LEVEL / 2)) if several else (None, None)
    low, high = _interval(float(found[0]), error, len(names) - 1)
    return LengthControlled(
        rate=float(_odds(found[:1])[0]),
        low=low,
        high=high,
        boot_low=None if boot_low is None else float(boot_low),
        boot_high=None if boot_high is None else float(boot_high),
        p=_p(float(found[0]), error, len(names) - 1),
        slope=float(found[1]),
        n=len(names),
    )


def _odds(values: Values) -> Values:
    return np.asarray(np.exp(-np.logaddexp(0, -values)), dtype=np.float64)


def _fit(x: NDArray[np.float64], y: Values, weights: NDArray[np.float64], start: Values | None = None) -> Values:
    """(draws, 2) coefficients by Newton's method, of weights of shape (draws, comparisons); nan where they grow without end."""
    found = np.zeros((len(weights), 2)) if start is None else np.tile(start, (len(weights), 1))
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            mean = _odds(found @ x.T)
            slope = (weights * (y - mean)) @ x
            spread = weights * mean * (1 - mean)
            a, b, c = spread.sum(axis=1), spread @ x[:, 1], spread @ (x[:, 1] ** 2)
            size = a * c - b * b
            step = (
                np.column_stack([c * slope[:, 0] - b * slope[:, 1], a * slope[:, 1] - b * slope[:, 0]]) / size[:, None]
            )
            found = found + np.clip(step, -5, 5)
            open_yet = np.abs(found).max(axis=1) < _SURE  # false for nan, too
            if np.abs(step[open_yet]).max(initial=0.0) < 1e-10:
                break
        there = np.isfinite(found).all(axis=1) & (np.abs(found).max(axis=1) < _SURE)
    return np.where(there[:, None], found, np.nan)


def _clustered_error(x: NDArray[np.float64], y: Values, found: Values, cluster: NDArray[np.int_], groups: int) -> float:
    """Standard error of the intercept, clustered, with the usual correction for few clusters."""
    mean = _odds(x @ found)
    bread = np.linalg.inv((x * (mean * (1 - mean))[:, None]).T @ x)
    scores = x * (y - mean)[:, None]
    summed = np.column_stack([np.bincount(cluster, column, groups) for column in scores.T])
    n, k = x.shape
    correction = groups / (groups - 1) * (n - 1) / (n - k)
    return math.sqrt(max(0.0, correction * float((bread @ summed.T @ summed @ bread)[0, 0])))


def _interval(log_odds: float, error: float, freedom: int) -> tuple[float, float]:
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    low, high = _odds(np.array([log_odds - reach, log_odds + reach]))
    return float(low), float(high)


def _p(log_odds: float, error: float, freedom: int) -> float:
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if log_odds == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(log_odds) / error))
