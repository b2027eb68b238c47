"""Eq. 5, 7 and 1: the composite score, and the best candidate of each seed."""

import dagster as dg
import pyarrow as pa

from star_pipeline.core.checks import (
    CORRECT,
    FALLBACKS,
    fallback_share,
    require,
    same_candidates,
    scores_consistent,
    verdicts_complete,
)
from star_pipeline.core.equations.composite import composite_scores as composite
from star_pipeline.core.equations.judging import reference_ids
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, PlanRow, Seed
from star_pipeline.core.tables import COMPOSITE_SCORES
from star_pipeline.defs.asset_factory import counts, lake_asset, table_result
from star_pipeline.defs.automation import keeps_up_with
from star_pipeline.defs.resources import SettingsResource


@lake_asset(
    "composite_scores",
    "3_evaluate",
    "pi = pi_llm * pi_dual of each candidate (Eq. 5 to 7), its rank in its seed, and which one is selected (Eq. 1): the highest "
    "positive pi (`best`), else the reference (`fallback_base`), else the seed itself (`fallback_seed`).",
    equation="Eq.5-Eq.7-Eq.1",
    spec=COMPOSITE_SCORES,
    automation=keeps_up_with("judge_verdicts"),
    checks=(CORRECT, FALLBACKS),
)
def composite_scores(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    sampling_plan: list[PlanRow],
    candidates: list[Candidate],
    ifd_scores: list[IfdScore],
    judge_verdicts: list[JudgeVerdict],
    settings: SettingsResource,
) -> dg.MaterializeResult[pa.Table]:
    config, reference_of = settings.load(), reference_ids(candidates, seed_shards)
    require(
        same_candidates("candidates", sampling_plan, candidates),
        same_candidates("ifd_scores", sampling_plan, ifd_scores),
        verdicts_complete(candidates, reference_of, judge_verdicts),
    )
    knobs = config.scoring
    rows = composite(
        sampling_plan,
        candidates,
        ifd_scores,
        judge_verdicts,
        reference_of,
        knobs.divisor,
        knobs.divide_over,
    )
    return table_result(
        config,
        COMPOSITE_SCORES,
        rows,
        ["seed_id", "pair_id", "gap", "pi_dual", "pi_llm", "pi", "rank", "selection"],
        {
            "selections": dg.MetadataValue.json(counts(row.selection for row in rows)),
            "selected_pairs": dg.MetadataValue.json(counts(row.pair_id for row in rows if row.selected)),
        },
        [
            same_candidates("composite_scores", sampling_plan, rows),
            scores_consistent(rows),
            fallback_share(rows, config.shares),
        ],
    )
