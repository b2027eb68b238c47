"""Gaps between models whose IFDs lie on scales of their own: each IFD by its place among those under the same model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from star_pipeline.core.aliases import Values
from star_pipeline.core.intervals import mid_ranks
from star_pipeline.core.records import IfdScore

Calibration = Literal["none", "rank", "rank_by_length"]
_A_CLASS, _MOST_CLASSES = 12, 5
"""Scored candidates that a class of like length has on average at least, and the most classes: of fewer a rank says little."""


def calibrated(scores: Sequence[IfdScore], rule: Calibration) -> list[IfdScore]:
    """The rows, with ``gap_calibrated`` where there is a ``gap`` and a rule: see ``ranked_gaps``, over all rows that have a gap."""
    if rule == "none":
        return list(scores)
    scored = [row for row in scores if row.gap is not None]
    small, large = ([getattr(row, name) for row in scored] for name in ("ifd_small", "ifd_large"))
    gaps = iter(ranked_gaps(small, large, [row.n_tokens_small or 0 for row in scored], rule).tolist())
    return [row if row.gap is None else replace(row, gap_calibrated=next(gaps)) for row in scores]


def ranked_gaps(
    ifd_small: Sequence[float], ifd_large: Sequence[float], n_tokens: Sequence[int], rule: Calibration
) -> Values:
    """r_small - r_large of each response, in (-1, 1): the mid-ranks, (rank - 0.5) / n with ties averaged, of its two IFDs.

    ``rank``: among all of them. ``rank_by_length``: among those of like length, in at most 5 classes of about equal size, 12 or more,
    by ``n_tokens``; of fewer than 24 responses there is one class. Of n responses a gap is a multiple of 1/2n, and of one it is 0.
    """
    classes = _by_length(n_tokens) if rule == "rank_by_length" else np.zeros(len(n_tokens), dtype=np.int64)
    gaps = np.zeros(len(n_tokens))
    small, large = np.asarray(ifd_small, dtype=np.float64), np.asarray(ifd_large, dtype=np.float64)
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        gaps[members] = np.subtract(mid_ranks(small[members]), mid_ranks(large[members]))
    return gaps


def _by_length(n_tokens: Sequence[int]) -> NDArray[np.int64]:
    """The class of each response; those of one length are never parted."""
    count = max(1, min(_MOST_CLASSES, len(n_tokens) // _A_CLASS))
    places = np.asarray(mid_ranks([float(tokens) for tokens in n_tokens]))
    classes: NDArray[np.int64] = np.floor(places * count).astype(np.int64)
    return classes


def broken_gaps(rows: Sequence[IfdScore], rule: Calibration, least_tokens: int) -> list[str]:
    """The candidates whose gap is not the difference of their IFDs, or is not there, where they are or are not long enough, or whose
    calibrated one does not follow from all rows' IFDs."""
    odd = []
    for row, again in zip(rows, calibrated(rows, rule), strict=True):
        status, gap = row.status if row.status not in ("ok", "too_short") else "", None
        if row.ifd_small is not None and row.ifd_large is not None:
            long_enough = min(row.n_tokens_small or 0, row.n_tokens_large or 0) >= least_tokens
            status, gap = ("ok", row.ifd_small - row.ifd_large) if long_enough else ("too_short", None)
        elif row.status == "too_short":  # one token, of which the start leaves none to score
            status = "too_short"
        ranked = None if rule == "none" else again.gap_calibrated
        if (row.status, row.gap, row.gap_calibrated) != (status, gap, ranked):
            odd.append(row.candidate_id)
    return odd
