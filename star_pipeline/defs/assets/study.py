"""A study of the lake: the training sets. They are in the graph where ``study:`` is in the configuration."""

import dagster as dg

from star_pipeline.adapters.study_arms import make_arms
from star_pipeline.core.study.tables import STUDY_ARMS
from star_pipeline.defs.asset_factory import lake_asset, table_result
from star_pipeline.defs.resources import LakeResource, ProgressResource, SettingsResource
from star_pipeline.defs.selected_rows import SELECTED_ROWS_DEPS


@lake_asset(
    "study_arms",
    "6_study",
    "The training sets that a study compares, `study/arms/<arm>.parquet`: one row of every seed, chosen by the rule that the arm is named "
    "after (`seeds`, `random`, `longest`, `ifd`, `likely`, `judge`, `gap`, `star`, or what another lake selected), all of the same seeds. "
    "Made of the lake's tables, without any call. Seeds that overlap with the evaluation's questions are in none, and are listed in "
    "`study_left_out`.",
    spec=STUDY_ARMS,
    partitioned=False,
    locked=False,
    deps=["seed_catalog", *SELECTED_ROWS_DEPS],
)
def study_arms(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource, progress: ProgressResource
) -> dg.MaterializeResult[None]:
    config, home = settings.load(), lake.open()
    made = make_arms(home, config, progress.progress())
    result = table_result(
        config,
        STUDY_ARMS,
        made.arms,
        ["arm", "rule", "rows", "tokens", "fallbacks", "own", "as_star"],
        {
            "seeds_left_out": len(made.left_out),
            "questions": made.questions,
            "tasks_not_looked_for": ", ".join(made.unseen) or "none",
            "shards": made.shards,
            "shards_not_done": made.of - made.shards,
            "path": dg.MetadataValue.path(str(home.study / "arms")),
        },
    )
    # written above, all arms before the table that names them
    return dg.MaterializeResult(metadata=result.metadata, data_version=result.data_version)
