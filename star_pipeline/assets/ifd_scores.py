"""Eq. 4: how hard each response is to follow for the small and for the large model."""

import dagster as dg
import pyarrow as pa

from star_pipeline.assets.face import counts, lake_asset, made
from star_pipeline.core.checks import CORRECT, IFD_ABOVE_1, ifd_above_1_share, whole
from star_pipeline.core.difficulty import score_candidates
from star_pipeline.core.records import Candidate, Seed
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline.plots import gap_plot, ifd_plot
from star_pipeline.resources import ScorerResource, SettingsResource


@lake_asset(
    "ifd_scores",
    "3_evaluate",
    "Instruction-following difficulty of each candidate, PPL(R|I) / PPL(R) (Eq. 4), under the target model (small) and a larger one, "
    "and the gap between the two: what the larger model follows and the target does not yet.",
    equation="Eq.4",
    spec=IFD_SCORES,
    kinds=frozenset({"parquet", "huggingface"}),
    checks=(CORRECT, IFD_ABOVE_1),
)
def ifd_scores(
    context: dg.AssetExecutionContext,
    seed_shards: list[Seed],
    candidates: list[Candidate],
    settings: SettingsResource,
    scorer: ScorerResource,
) -> dg.MaterializeResult[pa.Table]:
    config = settings.load()
    rows = score_candidates(candidates, seed_shards, scorer.small, scorer.large)
    pair_of = {row.candidate_id: row.pair_id for row in candidates}
    gaps = [row.gap for row in rows if row.gap is not None]
    return made(
        config,
        IFD_SCORES,
        rows,
        ["candidate_id", "status", "n_tokens_small", "ifd_small", "ifd_large", "gap"],
        {
            "plot_ifd_small_against_large": ifd_plot(rows, pair_of),
            "plot_gap_by_pair": gap_plot(rows, pair_of),
            "small": str(config.scoring.small),
            "large": str(config.scoring.large),
            "statuses": dg.MetadataValue.json(counts(row.status for row in rows)),
            "share_of_positive_gaps": sum(gap > 0 for gap in gaps) / len(gaps) if gaps else 0.0,
        },
        [
            whole("ifd_scores", candidates, rows),
            ifd_above_1_share(rows, config.shares),
        ],
    )
