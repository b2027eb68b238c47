"""The jobs: the three of a run, those that make one stage of a shard again, and the one that refolds the snapshots."""

from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from star_pipeline.adapters.consistency import write_made
from star_pipeline.adapters.lake import content_hash
from star_pipeline.adapters.snapshots import refolded
from star_pipeline.core.checks import probabilities_consistent, require, well_formed
from star_pipeline.core.errors import StarError
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES
from star_pipeline.defs.asset_factory import failure, stamped
from star_pipeline.defs.assets import LOOP_ASSETS
from star_pipeline.defs.partitions import POOL, SHARDS
from star_pipeline.defs.resources import LakeLockResource, LakeResource, SettingsResource
from star_pipeline.instance.provenance import input_tags

LOOP = tuple(asset.key.path[-1] for asset in LOOP_ASSETS)
AGAIN: Mapping[str, str] = {"resample": "sampling_plan", "rescore": "ifd_scores", "rejudge": "judge_verdicts"}
"""What can be made again of a shard -> the asset that it begins with; all of the loop after it follows."""
PUBLISHED = ("task_domains", "star_dataset", "inspection", "report")
"""What is made of all shards together, in order."""
FREE = ("composite_scores", "memory_bank", "agent_pair_probabilities")
"""What is made of a shard without any call, after its verdicts, in order."""
_FOLDED_FROM = ("seed_shards", "sampling_plan", "composite_scores", "memory_bank")
_THEN = "Several shards run in key order, in whatever order they are picked; then run `refold_snapshots`."

take_in_seeds = dg.define_asset_job(
    "take_in_seeds",
    selection=dg.AssetSelection.assets("seed_catalog"),
    description="Looks at the files under seeds/ and makes a partition for each new shard.",
)
process_shard = dg.define_asset_job(
    "process_shard",
    selection=dg.AssetSelection.assets(*LOOP),
    partitions_def=SHARDS,
    description="One iteration of the loop: plan, generate, score, judge, select, remember, evolve. A backfill runs in key order.",
)
publish = dg.define_asset_job(
    "publish",
    selection=dg.AssetSelection.assets(*PUBLISHED),
    description="Rebuilds the final data set, its domains, the inspection file and the report from all shards that are done.",
)


def again(name: str, description: str) -> UnresolvedAssetJobDefinition:
    """The job that makes a shard again from the stage that ``name`` begins with."""
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*LOOP[LOOP.index(AGAIN[name]) :]),
        partitions_def=SHARDS,
        description=description,
    )


resample = again(
    "resample",
    "Draws the plan of a shard anew, from the snapshot and the memory as they are now, and pays for new candidates. The same inputs "
    f"draw the same plan: it changes where an earlier shard or the configuration has changed. {_THEN}",
)
rescore = again(
    "rescore",
    f"Scores a shard's candidates again, as after a change of the target model, and judges them again. Generates nothing. {_THEN}",
)
rejudge = again(
    "rejudge",
    f"Judges a shard's candidates again, as after a change of the judge. Generates and scores nothing. {_THEN}",
)


@dg.op(
    name="fold_snapshots_anew",
    pool=POOL,
    config_schema={
        "all": dg.Field(
            bool,
            default_value=False,
            description="fold every snapshot anew, with the configuration's present rate and floor; "
            "off: only those that do not follow from the one before any more",
        )
    },
)
def fold_snapshots_anew(
    context: dg.OpExecutionContext, lake: LakeResource, settings: SettingsResource, lake_lock: LakeLockResource
) -> None:
    try:
        lake_lock.require()
        home, config = lake.open(), settings.load()
        folded = 0
        for shard, rows in refolded(home, config, whole=context.op_config["all"]):
            table = AGENT_PAIR_PROBABILITIES.to_arrow(rows)
            require(
                well_formed(AGENT_PAIR_PROBABILITIES, table),
                probabilities_consistent(rows, rows[0].parent_snapshot_id, config.evolution.floor),
            )
            write_made(home, AGENT_PAIR_PROBABILITIES, stamped(table, config, AGENT_PAIR_PROBABILITIES), shard)
            tags = input_tags(context.instance, _FOLDED_FROM, shard, content_hash(table))
            # `prior_state` is not observed: the next shard's plan is drawn and paid
            context.log_event(
                dg.AssetMaterialization(
                    AGENT_PAIR_PROBABILITIES.name,
                    description="Folded anew, since an earlier shard was made again.",
                    partition=shard,
                    tags=tags,
                    metadata={
                        "dagster/row_count": len(rows),
                        "snapshot_id": rows[0].snapshot_id,
                        **{f"probability of {row.pair_id}": row.probability for row in rows},
                    },
                )
            )
            folded += 1
        context.log.info(f"{folded} snapshots folded anew")
    except StarError as error:
        raise failure(error) from error


@dg.job(
    name="refold_snapshots",
    description="After a shard was made again: folds the pairs' probabilities of all later shards anew, in order, without any LLM call. "
    "Nothing to select: start it from its Launchpad. Plans that are drawn and paid stay as they are.",
)
def refold_snapshots() -> None:
    fold_snapshots_anew()


JOBS: list[UnresolvedAssetJobDefinition | dg.JobDefinition] = [
    take_in_seeds,
    process_shard,
    publish,
    resample,
    rescore,
    rejudge,
    refold_snapshots,
]
