"""Which rows of the final data set ask nearly the same: nearest neighbours and groups of near-duplicates, by cosine, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from star_pipeline.core.aliases import Numbers, Vectors

_ROWS, _COLUMNS = 1024, 8192
_NONE = -np.inf
_ROUNDING = 1e-6
"""What float32 may take off the cosine of equal rows."""


@dataclass(frozen=True)
class NearDuplicates:
    """For each of n rows: ``nearest`` other row (-1: there is none), its cosine ``similarity``, and the ``leader`` of its group."""

    nearest: Numbers
    similarity: Vectors
    leader: Numbers


def near_duplicates(
    vectors: Vectors,
    order: Sequence[int],
    context: Sequence[int],
    least: float,
    tile: tuple[int, int] = (_ROWS, _COLUMNS),
) -> NearDuplicates:
    """Nearest neighbours and groups among n rows.

    ``vectors``: float32, shape (n, d), rows of length 1. ``order``: the rows' numbers, best first. ``context``: a number for
    each row. Taken in ``order``, a row joins the group of the most similar row before it that leads a group, has the same
    context and a cosine of at least ``least`` (of equally similar leaders, the best); where there is none, it leads a group itself.
    The nearest neighbour is asked for without regard to context. A cosine that is 1e-6 short counts, for float32's sake.

    Every pair is compared, in tiles: O(n² d) time, O(n d) memory. Returns arrays of shape (n,), in the rows' own order.
    """
    taken = np.asarray(order, dtype=np.int64)
    ranked, contexts = np.asarray(vectors, np.float32)[taken], np.asarray(context)[taken]
    search = _Search(ranked, contexts, least - _ROUNDING)
    for start in range(0, len(ranked), tile[0]):
        search.block(start, min(start + tile[0], len(ranked)), tile[1])
    numbers = np.append(taken, -1)
    nearest, leader = np.empty_like(taken), np.empty_like(taken)
    similarity = np.empty(len(taken), np.float32)
    nearest[taken], leader[taken] = numbers[search.nearest], numbers[search.leader]
    similarity[taken] = np.clip(search.similarity, -1.0, 1.0)
    return NearDuplicates(nearest, similarity, leader)


class _Search:
    """The rows in their order; ``nearest``, ``similarity`` and ``leader`` are filled block by block."""

    def __init__(self, vectors: Vectors, contexts: Numbers, least: float) -> None:
        self.vectors, self.contexts, self.least = vectors, contexts, least
        count = len(vectors)
        self.nearest = np.full(count, -1)
        self.similarity = np.full(count, _NONE, np.float32)
        self.leader = np.arange(count)
        self._closest = np.full(count, _NONE, np.float32)  # cosine to the leader so far

    def block(self, start: int, stop: int, width: int) -> None:
        """Compare rows ``start`` to ``stop`` with all before them and with one another."""
        for left in range(0, start, width):
            right = min(left + width, start)
            cosines = self.vectors[start:stop] @ self.vectors[left:right].T
            near = self._note(start, left, cosines)
            self._note(left, start, cosines.T)
            self._join(start, near, left, cosines)
        inside = self.vectors[start:stop] @ self.vectors[start:stop].T
        np.fill_diagonal(inside, _NONE)
        self._note(start, start, inside)
        self._join_inside(start, inside)

    def _note(self, start: int, left: int, cosines: Vectors) -> Vectors:
        """Take over nearer neighbours; returns each row's highest cosine among these columns."""
        highest: Vectors = cosines.max(axis=1)
        better = np.flatnonzero(highest > self.similarity[start : start + len(highest)])
        if len(better):
            self.nearest[start + better] = left + cosines[better].argmax(axis=1)
            self.similarity[start + better] = highest[better]
        return highest

    def _join(self, start: int, highest: Vectors, left: int, cosines: Vectors) -> None:
        """Let the rows that are near enough join leaders among the columns, which are rows of earlier blocks."""
        rows = np.flatnonzero(highest >= self.least)
        columns = np.arange(left, left + cosines.shape[1])
        leaders = np.flatnonzero(self.leader[columns] == columns)
        if not len(rows) or not len(leaders):
            return
        near = cosines[np.ix_(rows, leaders)]
        near[self.contexts[start + rows, None] != self.contexts[left + leaders]] = _NONE
        best = near.argmax(axis=1)
        cosine = near[np.arange(len(rows)), best]
        joins = (cosine >= self.least) & (cosine > self._closest[start + rows])
        self.leader[start + rows[joins]] = left + leaders[best[joins]]
        self._closest[start + rows[joins]] = cosine[joins]

    def _join_inside(self, start: int, cosines: Vectors) -> None:
        """The same among the rows of one block, one after the other: who leads depends on those before."""
        own = self.contexts[start : start + len(cosines)]
        leads = self.leader[start : start + len(cosines)] == np.arange(start, start + len(cosines))
        for row in np.flatnonzero(cosines.max(axis=1, initial=_NONE) >= self.least):
            near = np.where(leads[:row] & (own[:row] == own[row]), cosines[row, :row], _NONE)
            best = int(near.argmax()) if row else 0
            if row and near[best] >= self.least and near[best] > self._closest[start + row]:
                self.leader[start + row], self._closest[start + row] = start + best, near[best]
                leads[row] = False
