"""Eq. 2: the planned pairs rewrite and respond."""

from contextlib import aclosing

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.stages import generator
from star_pipeline.core.checks import CORRECT, FAILED, failed_share, same_candidates
from star_pipeline.core.records import Candidate, PlanRow, Seed
from star_pipeline.core.tables import CANDIDATES
from star_pipeline.defs.asset_factory import counts, covers, lake_asset, plot, table_result
from star_pipeline.defs.resources import ChatResource, LakeResource, ProgressResource, SettingsResource
from star_pipeline.figures import asset_figures


@lake_asset(
    "candidates",
    "2_generate",
    "The candidates that the planned pairs made (Eq. 2: I' = A_I(I), R' = A_R(I')), with tokens, USD and time; what failed is kept "
    "with its reason. This is where LLMs are paid.",
    equation="Eq.2",
    spec=CANDIDATES,
    kinds=frozenset({"parquet", "llm"}),
    checks=(CORRECT, FAILED),
)
def candidates(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    sampling_plan: list[PlanRow],
    lake: LakeResource,
    settings: SettingsResource,
    chat: ChatResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[pa.Table]:
    config = settings.load()

    async def generate() -> list[Candidate]:
        async with aclosing(chat.chat()) as model:
            return await generator(config, model).candidates(sampling_plan, seed_shards, progress.progress())

    rows = event_loop.run(generate())
    shown = covers(lake.open(), [context.partition_key])
    failures = counts(row.error_kind for row in rows)
    return table_result(
        config,
        CANDIDATES,
        rows,
        ["pair_id", "status", "instruction", "response"],
        {
            "plot_cost_by_pair": plot(asset_figures.cost_by_pair(rows), shown),
            "failed": sum(failures.values()),
            "failures": dg.MetadataValue.json(failures),
            "warnings": dg.MetadataValue.json(counts(name for row in rows for name in row.warnings or ())),
            "cost_usd": sum(row.cost_usd for row in rows),
            "prompt_tokens": sum(row.prompt_tokens for row in rows),
            "completion_tokens": sum(row.completion_tokens for row in rows),
        },
        [
            same_candidates("candidates", sampling_plan, rows),
            failed_share(rows, config.shares),
        ],
    )
