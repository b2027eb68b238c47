"""The snapshot after a shard (Eq. 8). Last of the loop, so that its existence means that the memory bank is written too."""

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters.lake import content_hash
from star_pipeline.adapters.snapshots import REFOLD_TAG, costs_of, folded_from, neighbour_shard, snapshots_before
from star_pipeline.core.checks import CORRECT, probabilities_consistent, require, same_candidates
from star_pipeline.core.equations.evolution import FoldInputs, fold_shard
from star_pipeline.core.records import CompositeScore, PairProbability, PlanRow, Seed
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES
from star_pipeline.defs.asset_factory import covers, lake_asset, plot, table_result
from star_pipeline.defs.automation import keeps_up_with
from star_pipeline.defs.partitions import PRIOR_STATE
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.figures import asset_figures
from star_pipeline.instance.tags import DATA_VERSION


@lake_asset(
    "agent_pair_probabilities",
    "4_evolve",
    "The probability of every agent-pair after the shard (Thompson sampling, or Eq. 8): pairs that made good data rise. The next shard's "
    "`sampling_plan` draws with them, through `prior_state` (with `evolution.lag` L, that of the shard 1 + L places on).",
    equation="Eq.8",
    spec=AGENT_PAIR_PROBABILITIES,
    deps=["memory_bank"],
    automation=keeps_up_with("composite_scores"),
    checks=(CORRECT,),
)
def agent_pair_probabilities(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    sampling_plan: list[PlanRow],
    composite_scores: list[CompositeScore],
    lake: LakeResource,
    settings: SettingsResource,
) -> dg.MaterializeResult[pa.Table]:
    config, home, shard = settings.load(), lake.open(), context.partition_key
    require(same_candidates("composite_scores", sampling_plan, composite_scores))
    rules = config.evolution_rules
    before = folded_from(home, shard, config.sampled_ids, rules)
    costs = costs_of(home, shard, rules)
    rows = fold_shard(before, FoldInputs(shard, seed_shards, sampling_plan, composite_scores, costs), rules)
    following = neighbour_shard(home, shard, 1 + config.evolution.lag)
    if following and REFOLD_TAG not in context.run.tags:
        version = content_hash(AGENT_PAIR_PROBABILITIES.to_arrow(rows))
        context.instance.report_runless_asset_event(
            dg.AssetObservation(
                Scope.of(context.asset_key).key(PRIOR_STATE),
                partition=following,
                tags={DATA_VERSION: version},
            )
        )
    snapshots = snapshots_before(home, shard) | {shard: rows}
    top = max(rows, key=lambda row: row.probability)
    return table_result(
        config,
        AGENT_PAIR_PROBABILITIES,
        rows,
        ["pair_id", "n_sampled", "reward", "probability_before", "probability"],
        {
            "plot_probabilities_over_shards": plot(
                asset_figures.probabilities(
                    {
                        place: snapshots[key]
                        for place, key in enumerate(home.catalog_shards(), start=1)
                        if key in snapshots
                    }
                ),
                covers(home, snapshots),
            ),
            "method": rules.method,
            "snapshot_id": top.snapshot_id,
            "top_pair": top.pair_id,
            "top_probability": top.probability,
            # numbers by partition: the UI draws them under "Plots"
            **{f"probability of {row.pair_id}": row.probability for row in rows},
            **{f"mean pi of {row.pair_id}": _mean(row) for row in rows if row.draws_total},
        },
        [
            same_candidates("composite_scores", sampling_plan, composite_scores),
            probabilities_consistent(rows, before.snapshot_id, config.evolution.floor),
        ],
    )


def _mean(row: PairProbability) -> float:
    """Of all its draws so far."""
    return (row.reward_total or 0.0) / (row.draws_total or 1)
