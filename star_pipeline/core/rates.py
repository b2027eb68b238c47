"""A rate as people should read it: the counts first, since 33% of three says little, and an interval of what it may really be."""

import math

FEW = 20
"""Of fewer things than this a percentage is not said."""
Z95 = 1.959963984540054
"""The standard normal distribution's 0.975 quantile."""


def rate(count: int, of: int) -> str:
    """``1 of 3``; from twenty on with the percentage: ``12 of 60 (20%)``."""
    return f"{count:,} of {of:,}" + (f" ({count / of:.0%})" if of >= FEW else "")


def wilson(count: int, of: int) -> tuple[float, float]:
    """Ends of Wilson's 95% interval of ``count`` successes in ``of`` > 0 trials, in [0, 1]; the queries' macro says the same."""
    return _low(count, of), 1 - _low(of - count, of)


def _low(count: int, of: int) -> float:
    share, z2 = count / of, Z95**2
    if not count:
        return 0.0
    return (share + z2 / (2 * of) - Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))) / (1 + z2 / of)
