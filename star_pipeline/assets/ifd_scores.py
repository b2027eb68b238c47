"""Eq. 4: how hard each response is to follow for the small and for the large model."""

import dagster as dg
import pyarrow as pa

from star_pipeline.assets.face import counts, covers, lake_asset, made, plot
from star_pipeline.core.checks import CORRECT, IFD_ABOVE_1, ifd_above_1_share, whole
from star_pipeline.core.difficulty import score_candidates
from star_pipeline.core.rates import rate
from star_pipeline.core.records import Candidate, Seed
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline.figures import of_records
from star_pipeline.resources import LakeResource, ScorerResource, SettingsResource


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
    lake: LakeResource,
    settings: SettingsResource,
    scorer: ScorerResource,
) -> dg.MaterializeResult[pa.Table]:
    config = settings.load()
    rows = score_candidates(candidates, seed_shards, scorer.small, scorer.large)
    pair_of = {row.candidate_id: row.pair_id for row in candidates}
    shown = covers(lake.open(), [context.partition_key])
    gaps = [row.gap for row in rows if row.gap is not None]
    positive = sum(gap > 0 for gap in gaps)
    return made(
        config,
        IFD_SCORES,
        rows,
        ["candidate_id", "status", "n_tokens_small", "ifd_small", "ifd_large", "gap"],
        {
            "plot_ifd_small_against_large": plot(of_records.ifd(rows), shown),
            "plot_gap_by_pair": plot(of_records.gaps(rows, pair_of), shown),
            "small": str(config.scoring.small),
            "large": str(config.scoring.large),
            "statuses": dg.MetadataValue.json(counts(row.status for row in rows)),
            "positive_gaps": rate(positive, len(gaps)),
            "share_of_positive_gaps": positive / len(gaps) if gaps else 0.0,
        },
        [
            whole("ifd_scores", candidates, rows),
            ifd_above_1_share(rows, config.shares),
        ],
    )
