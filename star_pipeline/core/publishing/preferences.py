"""Preference pairs (DPO) out of Eq. 6: two responses of one seed to the same prompt, of which the judge put one higher.

**Which pairs are sound.** Chosen and rejected answer the very same prompt: system, earlier turns, and an instruction that is equal
letter for letter. So a candidate whose instruction was rewritten is never set against the reference, whose instruction was not.
The judge compared each candidate with the seed's reference, in both orders, and agreed with itself (or, by log-probabilities, in the
margin, from which the order cancels; of several judges the majority is taken); where the preferred answer turned round with the order,
the verdict does not count unless it is asked for. So candidates stand in three ranks,
better > reference > worse, and a pair is one of a higher and one of a lower rank: the reference itself takes part where its
instruction is the same, and better over worse follows through it. Ties, reversals, and what was not judged say nothing and take no part.
Texts that are equal but for the space around them are no pair. Nor is a pair whose rejected side is what the final data set holds of
the seed: who trains on both would be taught a response and then to shun it.

**Which one of a seed's pairs is taken.** One whose chosen side is the selected candidate, if there is any; then better over worse before
the others; then the highest pi of the chosen side, the lowest of the rejected, the smaller candidate_id. One pair a seed. pi decides
only here: it also holds how difficult a sample is, which is no preference.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pyarrow as pa

from star_pipeline.core.equations.judging import Reference, references
from star_pipeline.core.publishing.exports import NoRecord, Record, chat
from star_pipeline.core.records import SEED_PAIR, Candidate, CompositeScore, JudgeVerdict, Message, Seed, StarRow
from star_pipeline.core.table_spec import FLOAT, TEXT
from star_pipeline.core.tables import STAR_DATASET

_RANKS = {"better": 2, "reference": 1, "worse": 0}
_OF_SIDE = (("candidate_id", TEXT), ("pair_id", TEXT), ("verdict", TEXT), ("pi", FLOAT), ("gap", FLOAT))
PREFERENCE_SCORE_FIELDS = (
    STAR_DATASET.schema.field("seed_id"),
    STAR_DATASET.schema.field("source"),
    *(pa.field(f"{side}_{name}", type_) for side in ("chosen", "rejected") for name, type_ in _OF_SIDE),
)
"""What may go along with a pair; a side's ``verdict`` is better, worse, or reference where it is that."""


@dataclass(frozen=True)
class Side:
    """A response that may stand in a pair; ``verdict`` is its rank, ``pi`` and ``gap`` are null where it was not scored."""

    candidate_id: str
    pair_id: str
    instruction: str
    response: str
    verdict: str
    pi: float | None
    gap: float | None
    margin: float | None = None
    """The judge's log-odds for it against the reference, where it gave them."""

    @property
    def rank(self) -> int:
        return _RANKS[self.verdict]


def preference_records(
    rows: Iterable[StarRow],
    seeds: Sequence[Seed],
    candidates: Sequence[Candidate],
    verdicts: Iterable[JudgeVerdict],
    scores: Iterable[CompositeScore],
    with_scores: bool = False,
    with_reversed: bool = False,
    barred: AbstractSet[str] = frozenset(),
) -> Iterator[Record | NoRecord]:
    """For each of ``rows``, which are of the shard that the other tables hold: its pair as a record, or why there is none.

    prompt, chosen and rejected are lists of messages. A verdict counts only if it was given against the seed's present reference, and,
    without ``with_reversed``, if it is the same in both orders. ``margin`` is by how much chosen is above rejected: in the judge's
    log-odds where it gave them (the reference has 0), else in ranks, 1 or 2. ``barred`` candidate_ids stand on no side.
    """
    candidate_of = {candidate.candidate_id: candidate for candidate in candidates}
    score_of = {score.candidate_id: score for score in scores}
    sides_of: dict[str, list[Side]] = {}
    reference_of = references(candidates, seeds)
    for seed_id, reference in reference_of.items():
        sides_of[seed_id] = [_reference_side(reference, candidate_of, score_of)] if reference else []
    for verdict in verdicts:
        candidate, reference = candidate_of.get(verdict.candidate_id), reference_of.get(verdict.seed_id)
        if (
            candidate
            and reference
            and verdict.verdict in _RANKS
            and (with_reversed or not verdict.flipped)
            and verdict.base_candidate_id == reference.candidate_id
        ):
            texts = candidate.instruction or "", candidate.response or ""
            sides_of[verdict.seed_id].append(_side(candidate, *texts, verdict.verdict, score_of, verdict.margin))
    for row in rows:
        sides = sides_of.get(row.seed_id, [])
        free = [side for side in sides if side.candidate_id not in barred]
        pair = best_pair(free, row.candidate_id, row.response)
        if len(free) < len(sides) and isinstance(pair, NoRecord):
            other = best_pair(sides, row.candidate_id, row.response)
            pair = other if isinstance(other, NoRecord) else NoRecord.OVERLAP
        yield pair if isinstance(pair, NoRecord) else _record(row, *pair, with_scores)


def best_pair(sides: Sequence[Side], selected: str, held: str | None = None) -> tuple[Side, Side] | NoRecord:
    """(chosen, rejected) out of one seed's sides, as the module says.

    ``selected`` is the selected candidate_id, ``held`` the response that the final data set holds of the seed.
    """
    ordered = [(high, low) for high in sides for low in sides if high.rank > low.rank]
    if not ordered:
        return NoRecord.NOT_JUDGED
    alike = [(high, low) for high, low in ordered if high.instruction == low.instruction]
    if not alike:
        return NoRecord.OTHER_INSTRUCTION
    pairs = [(high, low) for high, low in alike if high.response.strip() != low.response.strip()]
    if not pairs:
        return NoRecord.SAME_TEXT
    if held is not None:
        pairs = [(high, low) for high, low in pairs if low.response.strip() != held.strip()]
    if not pairs:
        return NoRecord.REJECTS_SELECTED

    def order(pair: tuple[Side, Side]) -> tuple[object, ...]:
        high, low = pair
        names = high.candidate_id, low.candidate_id
        return high.candidate_id != selected, low.rank - high.rank, -(high.pi or 0.0), low.pi or 0.0, *names

    return min(pairs, key=order)


def _reference_side(
    reference: Reference, candidate_of: dict[str, Candidate], score_of: dict[str, CompositeScore]
) -> Side:
    candidate = candidate_of.get(reference.candidate_id or "")
    return _side(candidate, reference.instruction, reference.response, "reference", score_of, 0.0)


def _side(
    candidate: Candidate | None,
    instruction: str,
    response: str,
    verdict: str,
    score_of: dict[str, CompositeScore],
    margin: float | None,
) -> Side:
    """``candidate`` is None where the reference is the seed's own text."""
    name, pair_id = (candidate.candidate_id, candidate.pair_id) if candidate else ("", SEED_PAIR)
    score = score_of.get(name)
    pi, gap = (score.pi, score.gap) if score else (None, None)
    return Side(name, pair_id, instruction, response, verdict, pi, gap, margin)


def _record(row: StarRow, chosen: Side, rejected: Side, with_scores: bool) -> Record:
    record: Record = {"prompt": chat((*row.messages[:-2], Message("user", chosen.instruction)))}
    both = {"chosen": chosen, "rejected": rejected}
    record |= {name: chat([Message("assistant", side.response)]) for name, side in both.items()}
    above, below = chosen.margin, rejected.margin
    record["margin"] = float(chosen.rank - rejected.rank) if above is None or below is None else above - below
    if with_scores:
        record |= {"seed_id": row.seed_id, "source": row.source}
        record |= {f"{name}_{field}": getattr(side, field) for name, side in both.items() for field, _ in _OF_SIDE}
    return record
