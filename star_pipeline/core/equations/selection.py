"""Eq. 1: the best candidate of each seed, and what is taken where there is none; what of it the memory bank remembers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from star_pipeline.core.records import (
    SEED_PAIR,
    Candidate,
    CompositeScore,
    MemoryEntry,
    Selection,
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate as selection sees it; ``status`` is the candidate's (ok or failed), ``gap`` what Eq. 5 works on."""

    candidate_id: str
    slot: int
    pair_id: str
    status: str
    gap: float | None
    pi_dual: float | None
    pi_llm: float | None
    pi: float | None


def select_in_seed(contenders: Sequence[Contender]) -> list[tuple[Contender, int | None, Selection | None]]:
    """(contender, rank, selection) in the given order; exactly one has a selection.

    Highest positive pi wins; ties go to the larger gap, then the smaller candidate_id. Where no pi is positive the reference
    (slot 0) is taken, ``fallback_base``; where that failed, the seed itself, ``fallback_seed``: marked on the seed's own
    candidate, or on slot 0 where the plan has none.
    """
    ranked = sorted(
        (c for c in contenders if c.pi is not None),
        key=lambda c: (-(c.pi or 0.0), -(c.gap or 0.0), c.candidate_id),
    )
    ranks = {c.candidate_id: place for place, c in enumerate(ranked, start=1)}
    selection: Selection
    if ranked and (ranked[0].pi or 0.0) > 0:
        chosen, selection = ranked[0], "best"
    else:
        reference = min(contenders, key=lambda c: c.slot)
        if reference.status == "ok":
            chosen, selection = reference, "fallback_base"
        else:
            own = [c for c in contenders if c.pair_id == SEED_PAIR]
            chosen, selection = (own or [reference])[0], "fallback_seed"
    return [(c, ranks.get(c.candidate_id), selection if c is chosen else None) for c in contenders]


def memory_entries(
    shard: str, sequence: int, scores: Iterable[CompositeScore], candidates: Iterable[Candidate], min_pi: float
) -> list[MemoryEntry]:
    """What the memory bank keeps of a shard: the rows selected as ``best`` with pi >= ``min_pi``, in table order."""
    candidate_of = {candidate.candidate_id: candidate for candidate in candidates}
    return [
        MemoryEntry(
            score.seed_id,
            score.candidate_id,
            shard,
            sequence,
            candidate_of[score.candidate_id].instruction or "",
            score.pair_id,
            score.pi,
        )
        for score in scores
        if score.selection == "best" and score.pi is not None and score.pi >= min_pi
    ]
