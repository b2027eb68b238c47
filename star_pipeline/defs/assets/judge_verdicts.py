"""Eq. 6: a judge LLM compares candidates with the reference, in both orders."""

from contextlib import aclosing

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.stages import judge
from star_pipeline.core.checks import (
    CORRECT,
    FLIPPED,
    UNPARSED,
    flipped_share,
    require,
    same_candidates,
    unparsed_share,
    verdicts_complete,
    verdicts_consistent,
)
from star_pipeline.core.equations.judging import calls_saved, reference_ids
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, Seed
from star_pipeline.core.tables import JUDGE_VERDICTS
from star_pipeline.defs.asset_factory import counts, covers, lake_asset, plot, table_result
from star_pipeline.defs.resources import ChatResource, LakeResource, ProgressResource, SettingsResource
from star_pipeline.figures import asset_figures


@lake_asset(
    "judge_verdicts",
    "3_evaluate",
    "Is a candidate better than the reference of its seed? A judge LLM, or the majority of several, compares the two in both orders "
    "(Eq. 6: 1, 0.5 or 0). Where the gap is not positive nobody needs to be asked (`skipped`); a reply without a verdict or a failed "
    "call is never turned into a number.",
    equation="Eq.6",
    spec=JUDGE_VERDICTS,
    kinds=frozenset({"parquet", "llm"}),
    checks=(CORRECT, UNPARSED, FLIPPED),
)
def judge_verdicts(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    candidates: list[Candidate],
    ifd_scores: list[IfdScore],
    lake: LakeResource,
    settings: SettingsResource,
    chat: ChatResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[pa.Table]:
    config, reference_of = settings.load(), reference_ids(candidates, seed_shards)
    require(same_candidates("ifd_scores", candidates, ifd_scores))

    async def verdicts() -> list[JudgeVerdict]:
        async with aclosing(chat.chat()) as model:
            return await judge(config, model, candidates, seed_shards, ifd_scores, progress.progress())

    rows = event_loop.run(verdicts())
    pair_of = {row.candidate_id: row.pair_id for row in candidates}
    shown = covers(lake.open(), [context.partition_key])
    saved, saved_usd = calls_saved(rows, ifd_scores)
    return table_result(
        config,
        JUDGE_VERDICTS,
        rows,
        ["candidate_id", "verdict", "verdict_first", "verdict_swapped", "pi_llm"],
        {
            "plot_verdicts_by_pair": plot(asset_figures.verdicts(rows, pair_of), shown),
            "verdicts": dg.MetadataValue.json(counts(row.verdict for row in rows)),
            "calls_saved": saved,
            "calls_saved_usd": saved_usd,
            "cost_usd": sum(row.cost_usd for row in rows),
        },
        [
            verdicts_complete(candidates, reference_of, rows),
            verdicts_consistent(rows, config.judge.margin, config.judge.soft, config.judge.ties),
            unparsed_share(rows, config.shares),
            flipped_share(rows, config.shares),
        ],
    )
