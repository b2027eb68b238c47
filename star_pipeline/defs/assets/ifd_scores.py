"""Eq. 4: how hard each response is to follow for the small and for the large model."""

import json

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters.scoring_weights import METADATA, RESCORE_TAG
from star_pipeline.adapters.stages import score
from star_pipeline.core.checks import CORRECT, IFD_ABOVE_1, gaps_consistent, ifd_above_1_share, same_candidates
from star_pipeline.core.rates import rate
from star_pipeline.core.records import Candidate, Seed
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline.defs.asset_factory import counts, covers, lake_asset, plot, table_result
from star_pipeline.defs.resources import LakeResource, ScorerResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.figures import asset_figures


@lake_asset(
    "ifd_scores",
    "3_evaluate",
    "Instruction-following difficulty of each candidate, PPL(R|I) / PPL(R) (Eq. 4), under the target model (small) and a larger one, "
    "and the gap between the two: what the larger model follows and the target does not yet. With scoring.calibration the gap that counts "
    "is between the ranks of the two in the shard (gap_calibrated).",
    equation="Eq.4",
    spec=IFD_SCORES,
    kinds=frozenset({"parquet", "huggingface"}),
    checks=(CORRECT, IFD_ABOVE_1),
)
def ifd_scores(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    candidates: list[Candidate],
    lake: LakeResource,
    settings: SettingsResource,
    scorer: ScorerResource,
) -> dg.MaterializeResult[pa.Table]:
    config = settings.load()
    small, large = scorer.small(), scorer.large()
    names = tuple(map(str, config.scoring.models))
    weights = {name: one.weights for name, one in zip(names, (small, large), strict=True) if one.weights}
    asked = context.run.job_name == Scope.of(context.asset_key).name("rescore") or RESCORE_TAG in context.run.tags
    scorer.settle_weights(weights, scoring_again=asked)
    knobs = config.scoring
    rows = score(config, candidates, seed_shards, small, large)
    pair_of = {row.candidate_id: row.pair_id for row in candidates}
    shown = covers(lake.open(), [context.partition_key])
    gaps = [gap for row in rows if (gap := row.working_gap) is not None]
    positive = sum(gap > 0 for gap in gaps)
    return table_result(
        config,
        IFD_SCORES,
        rows,
        ["candidate_id", "status", "n_tokens_small", "ifd_small", "ifd_large", "gap", "gap_calibrated"],
        {
            "plot_ifd_small_against_large": plot(asset_figures.ifd(rows), shown),
            "plot_gap_by_pair": plot(asset_figures.gaps(rows, pair_of), shown),
            "small": names[0],
            "large": names[1],
            **{f"weights of {name}": now for name, now in weights.items()},
            "statuses": dg.MetadataValue.json(counts(row.status for row in rows)),
            "positive_gaps": rate(positive, len(gaps)),
            "share_of_positive_gaps": positive / len(gaps) if gaps else 0.0,
        },
        [
            same_candidates("ifd_scores", candidates, rows),
            gaps_consistent(rows, knobs.calibration, knobs.least_tokens),
            ifd_above_1_share(rows, config.shares),
        ],
        origin={METADATA: json.dumps(weights)} if weights else {},
    )
