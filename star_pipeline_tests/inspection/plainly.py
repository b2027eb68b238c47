"""What the shipped queries compute, in plain Python from its definition."""

import math
import statistics
from collections import defaultdict

import numpy as np
import pytest

Z = statistics.NormalDist().inv_cdf(0.975)
COMPARED = ("better", "worse", "tie", "inconsistent")


def wilson(wins, of):
    """The rates p from which the observed one lies z standard errors off: the roots of (w - p)² = z² p (1 - p) / n."""
    if not of:
        return None, None
    return tuple(sorted(np.roots([1 + Z**2 / of, -(2 * wins / of + Z**2 / of), (wins / of) ** 2]).real))


def mean_interval(values):
    if not values:
        return None, None, None
    mean = math.fsum(values) / len(values)
    half = Z * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return mean, None if math.isnan(half) else mean - half, None if math.isnan(half) else mean + half


def rate(wins, of):
    return (wins / of if of else None, *wilson(wins, of))


def same(found, expected):
    """All columns of ``expected``, exactly but for the last digits of floats."""
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert {name: row[name] for name in wanted} == {
            name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            for name, value in wanted.items()
        }


def known(value):
    return None if value is None or value != value else value


def groups(rows, key):
    found = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(found)


def values(rows, table, column):
    return [row[table][column] for row in rows if row[table] and row[table][column] is not None]
