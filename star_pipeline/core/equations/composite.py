"""Eq. 5 and Eq. 7: from gaps and verdicts to the composite score."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from star_pipeline.core.equations.selection import Contender, select_in_seed
from star_pipeline.core.records import Candidate, CompositeScore, IfdScore, JudgeVerdict, PlanRow

Divisor = Literal["p95", "max"]
DivideOver = Literal["shard", "seed"]


def divisor(gaps: Sequence[float], rule: Divisor) -> float | None:
    """What Eq. 5 divides by: 95th percentile (linear) or maximum of the positive gaps; None where no gap is positive."""
    positive = np.asarray([gap for gap in gaps if gap > 0], dtype=np.float64)
    if not positive.size:
        return None
    return float(positive.max() if rule == "max" else np.quantile(positive, 0.95, method="linear"))


def pi_dual(gap: float | None, divided_by: float | None) -> float | None:
    """min(1, max(gap, 0) / divisor) (Eq. 5); 0 where no gap of the group is positive; null where there is no gap."""
    if gap is None:
        return None
    if divided_by is None or gap <= 0:
        return 0.0
    return min(1.0, gap / divided_by)


def pi(pi_llm: float | None, dual: float | None, skipped: bool) -> float | None:
    """pi_llm * pi_dual (Eq. 7). A skipped verdict leaves 0, since pi_dual is 0 whatever the judge would say."""
    if dual is None:
        return None
    if skipped:
        return 0.0
    return None if pi_llm is None else pi_llm * dual


def composite_scores(
    plan: Sequence[PlanRow],
    candidates: Sequence[Candidate],
    ifd_scores: Sequence[IfdScore],
    verdicts: Sequence[JudgeVerdict],
    reference_ids: dict[str, str | None],
    rule: Divisor,
    over: DivideOver,
) -> list[CompositeScore]:
    """One row for every row of the plan, with pi, rank and selection (Eq. 5, 7 and 1), on calibrated gaps where there are any.

    ``reference_ids`` maps a seed to its reference candidate, whose pi_llm is 0.5 by definition (see ``judging.references``).
    """
    score_of = {score.candidate_id: score for score in ifd_scores}
    gaps = {name: score.working_gap for name, score in score_of.items()}
    verdict_of = {verdict.candidate_id: verdict for verdict in verdicts}
    status_of = {candidate.candidate_id: candidate.status for candidate in candidates}
    by_seed: dict[str, list[PlanRow]] = {}
    for row in plan:
        by_seed.setdefault(row.seed_id, []).append(row)

    shard_divisor = divisor([gap for gap in gaps.values() if gap is not None], rule)
    results: list[CompositeScore] = []
    for seed_id, rows in by_seed.items():
        seed_gaps = [gaps[row.candidate_id] for row in rows]
        divided_by = shard_divisor if over == "shard" else divisor([gap for gap in seed_gaps if gap is not None], rule)
        contenders = []
        for row, gap in zip(rows, seed_gaps, strict=True):
            verdict = verdict_of.get(row.candidate_id)
            judged = 0.5 if row.candidate_id == reference_ids.get(seed_id) else verdict.pi_llm if verdict else None
            dual = pi_dual(gap, divided_by)
            skipped = verdict is not None and verdict.verdict == "skipped"
            contenders.append(
                Contender(
                    row.candidate_id,
                    row.slot,
                    row.pair_id,
                    status_of[row.candidate_id],
                    gap,
                    dual,
                    judged,
                    pi(judged, dual, skipped),
                )
            )
        results.extend(
            CompositeScore(
                c.candidate_id,
                seed_id,
                c.slot,
                c.pair_id,
                score_of[c.candidate_id].gap,
                c.pi_dual,
                c.pi_llm,
                c.pi,
                rank,
                selection is not None,
                selection,
                score_of[c.candidate_id].gap_calibrated,
            )
            for c, rank, selection in select_in_seed(contenders)
        )
    return results
