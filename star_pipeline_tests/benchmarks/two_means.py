"""The difference of two means of runs, as if no run of the one had anything to do with one of the other."""

from collections.abc import Sequence

from star_pipeline.core.intervals import Estimate


def independent(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Mean of ``one`` less mean of ``other``, with Welch's 95% interval: its half is about two standard errors of the difference."""
    from scipy import stats

    found = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    apart = sum(one) / len(one) - sum(other) / len(other)
    return Estimate(apart, float(found.low), float(found.high), len(one) + len(other))
