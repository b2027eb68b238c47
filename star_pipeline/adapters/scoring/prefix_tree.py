"""Passes packed into batches without padding; tokens that several passes begin with are computed once a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Indices = NDArray[np.int64]
Span = tuple[int, int]

ROUND = 64
"""Batches are filled up to a multiple of so many tokens: oneDNN compiles and keeps a kernel for each shape, and for a few rows
matrix libraries take other kernels than for many, whose last bits differ."""
WORTH_SHARING = 8
"""Fewer common tokens are computed again: a segment of its own costs more than they do."""


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """One pass of Eq. 4: ``tokens`` begin with the start token, the last ``scored`` (at least 1) of them are the response's."""

    tokens: Tokens
    scored: int

    @property
    def prefix(self) -> Tokens:
        return self.tokens[: -self.scored]

    @property
    def key(self) -> tuple[bytes, int]:
        """Equal for passes that give equal losses; sorts in the order of the tokens."""
        return self.tokens.astype(">i4").tobytes(), self.scored


@dataclass(frozen=True)
class Segment:
    """Neighbouring tokens of one branch, at ``start:end`` in the batch; ``before`` are its ancestors' spans, root first."""

    start: int
    end: int
    before: tuple[Span, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        return (*self.before, (self.start, self.end))

    @property
    def depth(self) -> int:
        return sum(end - start for start, end in self.before)


@dataclass(frozen=True, eq=False)
class Batch:
    """Branches of a forest, one after the other in one row; or, without ``segments``, passes in rows, padded on the right.

    ``tokens`` and ``positions`` have shape (rows, width). The scored tokens of all passes, one pass after the other, are ``targets``,
    of shape (S,); the model tells their probability at the tokens numbered ``sources``, counted row by row. ``members`` numbers the
    passes, ``counts`` says how many targets each has.
    """

    tokens: Indices
    positions: Indices
    segments: tuple[Segment, ...]
    members: tuple[int, ...]
    counts: tuple[int, ...]
    sources: Indices
    targets: Indices


def forest(passes: Sequence[ForwardPass], members: Sequence[int], whole: bool = False) -> Batch:
    """The passes ``members`` as one batch.

    The last token of a pass is only ever a target, nothing is predicted from it: it is left out unless ``whole``, for models to
    which the length of what they see matters.
    """
    keys = {number: passes[number].key for number in members}
    ordered = sorted(members, key=lambda number: keys[number])
    inputs = [passes[number].tokens if whole else passes[number].tokens[:-1] for number in ordered]
    common = [_common(a, b) for a, b in pairwise(inputs)]
    segments: list[Segment] = []
    texts: list[Tokens] = []
    paths: list[tuple[Span, ...]] = [()] * len(ordered)

    def add(row: int, depth: int, end: int, before: tuple[Span, ...]) -> tuple[Span, ...]:
        start = segments[-1].end if segments else 0
        segments.append(Segment(start, start + end - depth, before))
        texts.append(inputs[row][depth:end])
        return segments[-1].spans

    def grow(first: int, last: int, depth: int, before: tuple[Span, ...]) -> None:
        """Rows ``first`` to ``last`` agree in their first ``depth`` tokens, which lie at ``before``."""
        row = first
        while row <= last:
            end = row
            while end < last and common[end] >= depth + WORTH_SHARING:
                end += 1
            if end == row:
                left = len(inputs[row]) > depth
                paths[row] = add(row, depth, len(inputs[row]), before) if left else before
            else:
                shared = min(common[row:end])
                grow(row, end, shared, add(row, depth, shared, before))
            row = end + 1

    grow(0, len(ordered) - 1, 0, ())
    total = segments[-1].end
    if full := filled_up(total) - total:
        segments.append(Segment(total, total + full, ()))
        texts.append(np.zeros(full, dtype=np.int32))
    counts = tuple(passes[number].scored for number in ordered)
    reached = [np.concatenate([np.arange(*span) for span in path]) for path in paths]
    where = [_sources(path, count, whole) for path, count in zip(reached, counts, strict=True)]
    positions = np.concatenate([np.arange(s.depth, s.depth + s.end - s.start) for s in segments])
    # what only fills up must not be what reaches farthest
    positions[total:] = 0
    return Batch(
        tokens=np.concatenate(texts).astype(np.int64)[None],
        positions=positions[None],
        segments=tuple(segments),
        members=tuple(ordered),
        counts=counts,
        sources=np.concatenate(where),
        targets=_targets(passes, ordered),
    )


def filled_up(count: int) -> int:
    """The number of tokens that a batch of ``count`` is filled up to."""
    return -(-count // ROUND) * ROUND


def rows(passes: Sequence[ForwardPass], members: Sequence[int], whole: bool = False) -> Batch:
    """The passes ``members`` in a row each. Padding is on the right, where no token that counts can see it."""
    width = max(len(passes[number].tokens) for number in members) - (not whole)
    tokens = np.zeros((len(members), width), dtype=np.int64)
    sources = []
    for row, number in enumerate(members):
        inputs = passes[number].tokens if whole else passes[number].tokens[:-1]
        tokens[row, : len(inputs)] = inputs
        sources.append(_sources(row * width + np.arange(len(inputs)), passes[number].scored, whole))
    return Batch(
        tokens=tokens,
        positions=np.broadcast_to(np.arange(width), tokens.shape),
        segments=(),
        members=tuple(members),
        counts=tuple(passes[number].scored for number in members),
        sources=np.concatenate(sources),
        targets=_targets(passes, members),
    )


def _sources(path: Indices, count: int, whole: bool) -> Indices:
    """Where on a pass's path the last ``count`` tokens are predicted."""
    return path[-count - 1 : -1] if whole else path[-count:]


def _targets(passes: Sequence[ForwardPass], members: Sequence[int]) -> Indices:
    return np.concatenate([passes[number].tokens[-passes[number].scored :] for number in members]).astype(np.int64)


def _common(a: Tokens, b: Tokens) -> int:
    length = min(len(a), len(b))
    differs = a[:length] != b[:length]
    return int(differs.argmax()) if differs.any() else length


def packed(passes: Sequence[ForwardPass], budget: int) -> Iterator[list[int]]:
    """Numbers of the passes of each forest of about ``budget`` tokens: the largest group first, filled up with the smallest that fit.

    Passes of one prompt stay together; one that is longer than the budget is alone.
    """
    groups = _groups(passes, budget)
    # what all prompts begin with, such as a template's preamble, counts once a batch
    prompts = [passes[group[0]].prefix for group in groups if len(passes[group[0]].prefix) > WORTH_SHARING]
    shared = min((_common(prompts[0], other) for other in prompts[1:]), default=0)
    sizes = [_size(passes, group, shared) for group in groups]
    order = sorted(range(len(groups)), key=lambda number: (-sizes[number], number))
    first, last = 0, len(order) - 1
    while first <= last:
        chosen = list(groups[order[first]])
        room = budget - shared - sizes[order[first]]
        first += 1
        while first <= last and sizes[order[last]] <= room:
            room -= sizes[order[last]]
            chosen += groups[order[last]]
            last -= 1
        yield chosen


def padded(passes: Sequence[ForwardPass], budget: int) -> Iterator[list[int]]:
    """Numbers of the passes of each batch of rows, at most ``budget`` tokens with their padding, longest first."""
    chosen: list[int] = []
    for number in sorted(range(len(passes)), key=lambda number: -len(passes[number].tokens)):
        if chosen and len(passes[chosen[0]].tokens) * (len(chosen) + 1) > budget:
            yield chosen
            chosen = []
        chosen.append(number)
    if chosen:
        yield chosen


def _groups(passes: Sequence[ForwardPass], budget: int) -> list[list[int]]:
    """Passes of equal prefix together, as long as they fit a batch."""
    by_prefix: dict[bytes, list[int]] = {}
    for number, item in enumerate(passes):
        prefix = item.prefix
        key = prefix.tobytes() if len(prefix) > WORTH_SHARING else b"alone%d" % number
        by_prefix.setdefault(key, []).append(number)
    groups: list[list[int]] = []
    for members in by_prefix.values():
        room = 0
        for number in members:
            if passes[number].scored > room:
                groups.append([])
                room = budget - len(passes[number].prefix)
            groups[-1].append(number)
            room -= passes[number].scored
    return groups


def _size(passes: Sequence[ForwardPass], group: Sequence[int], shared: int) -> int:
    prefix = len(passes[group[0]].prefix)
    own = prefix - shared if prefix > WORTH_SHARING else prefix
    return own + sum(passes[number].scored - 1 for number in group)
