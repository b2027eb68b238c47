"""The jobs: what comes before a run, its three, those that make a stage of a shard again, the refolding of snapshots, and a study."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from star_pipeline.adapters.consistency import write_with_origin
from star_pipeline.adapters.lake import content_hash
from star_pipeline.adapters.snapshots import refold_snapshots_after
from star_pipeline.config.study import StudyConfig
from star_pipeline.core.checks import probabilities_consistent, require, well_formed
from star_pipeline.core.errors import StarError
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES
from star_pipeline.defs.asset_factory import failure, stamped
from star_pipeline.defs.assets import LOOP_ASSETS
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.defs.study_job import study_job
from star_pipeline.instance.provenance import input_tags
from star_pipeline.instance.scopes import SCOPE_TAG

Job = Any
"""A job of assets: what ``define_asset_job`` gives has no public name. With the one of ops it has a ``name``."""
LOOP = tuple(asset.name for asset in LOOP_ASSETS)
PARENTS: Mapping[str, frozenset[str]] = {asset.name: asset.parents.intersection(LOOP) for asset in LOOP_ASSETS}
"""Asset of the loop -> those of the same shard that it is made from."""
PAID_FOR = frozenset({"sampling_plan"})
"""What is not made again because something before it was: candidates have been paid for by it."""
AGAIN: Mapping[str, str] = {"resample": "sampling_plan", "rescore": "ifd_scores", "rejudge": "judge_verdicts"}
"""What can be made again of a shard -> the asset that it begins with; all of the loop after it follows."""
PUBLISHED = ("task_domains", "star_dataset", "inspection", "report")
"""What is made of all shards together, in order."""
FREE = ("composite_scores", "memory_bank", "agent_pair_probabilities")
"""What is made of a shard without any call, after its verdicts, in order."""
CALIBRATE = "calibrate"
TAKE_IN_SEEDS, PROCESS_SHARD, PUBLISH, REFOLD_SNAPSHOTS = (
    "take_in_seeds",
    "process_shard",
    "publish",
    "refold_snapshots",
)
_FOLDED = next(asset for asset in LOOP_ASSETS if asset.name == AGENT_PAIR_PROBABILITIES.name)
_FOLDED_FROM = ("seed_shards", "sampling_plan", "composite_scores", "memory_bank")
_THEN = "Several shards run in key order, in whatever order they are picked; then run `refold_snapshots`."
_OF_A_SHARD: Mapping[str, tuple[str, str]] = {
    PROCESS_SHARD: (
        LOOP[0],
        "One iteration of the loop: plan, generate, score, judge, select, remember, evolve. A backfill runs in key order.",
    ),
    "resample": (
        AGAIN["resample"],
        "Draws the plan of a shard anew, from the snapshot and the memory as they are now, and pays for new candidates. The same "
        f"inputs draw the same plan: it changes where an earlier shard or the configuration has changed. {_THEN}",
    ),
    "rescore": (
        AGAIN["rescore"],
        f"Scores a shard's candidates again, as after a change of the target model, and judges them again. Generates nothing. {_THEN}",
    ),
    "rejudge": (
        AGAIN["rejudge"],
        f"Judges a shard's candidates again, as after a change of the judge. Generates and scores nothing. {_THEN}",
    ),
}
"""Job -> the asset that it begins with, and what it does."""


def make_jobs(scope: Scope, study: StudyConfig | None = None) -> list[Job]:
    """All jobs of a lake; that of a study where one is configured. Each runs in one process, whatever executor the code location
    has: concurrency inside a shard is asyncio within an asset, and a process for each step would cost seconds a step."""
    return [
        _job(
            scope,
            CALIBRATE,
            ["calibration"],
            "Before you pay: are judge, scoring models and agents fit? Measured on the first seeds; its replies stay in the journal, so "
            "that the run does not pay for them again.",
        ),
        _job(
            scope,
            TAKE_IN_SEEDS,
            ["seed_catalog"],
            "Looks at the files under seeds/ and makes a partition for each new shard.",
        ),
        *(
            _job(scope, name, LOOP[LOOP.index(first) :], does, scope.partitions)
            for name, (first, does) in _OF_A_SHARD.items()
        ),
        _job(
            scope,
            PUBLISH,
            PUBLISHED,
            "Rebuilds the final data set, its domains, the inspection file and the report from all shards that are done.",
        ),
        _refold_snapshots(scope),
        *([study_job(scope, study)] if study else ()),
    ]


def _job(
    scope: Scope,
    name: str,
    assets: Sequence[str],
    description: str,
    partitions: dg.PartitionsDefinition[str] | None = None,
) -> Job:
    return dg.define_asset_job(
        scope.name(name),
        selection=dg.AssetSelection.assets(*map(scope.key, assets)),
        partitions_def=partitions,
        description=description,
        tags={SCOPE_TAG: scope.tag},
        executor_def=dg.in_process_executor,
    )


def _refold_snapshots(scope: Scope) -> dg.JobDefinition:
    needed = [scope.name(name) for name in ("lake", "settings", "lake_lock")]

    @dg.op(
        name=scope.name("fold_snapshots_anew"),
        pool=scope.pool,
        required_resource_keys=set(needed),
        config_schema={
            "all": dg.Field(
                bool,
                default_value=False,
                description="fold every snapshot anew, with the configuration's present rate and floor; "
                "off: only those that do not follow from the one before any more",
            )
        },
    )
    def fold_snapshots_anew(context: dg.OpExecutionContext) -> None:
        lake, settings, lake_lock = (getattr(context.resources, name) for name in needed)
        try:
            lake_lock.require()
            folded = _fold(context, scope, lake, settings)
        except StarError as error:
            raise failure(error) from error
        context.log.info(f"{folded} snapshots folded anew")

    @dg.job(
        name=scope.name(REFOLD_SNAPSHOTS),
        description="After a shard was made again: folds the pairs' probabilities of all later shards anew, in order, without any LLM "
        "call. Nothing to select: start it from its Launchpad. Plans that are drawn and paid stay as they are.",
        tags={SCOPE_TAG: scope.tag},
        executor_def=dg.in_process_executor,
    )
    def refold_snapshots() -> None:
        fold_snapshots_anew()

    return refold_snapshots


def _fold(context: dg.OpExecutionContext, scope: Scope, lake: LakeResource, settings: SettingsResource) -> int:
    """Write the snapshots that are folded anew, and tell Dagster of each; returns how many."""
    home, config = lake.open(), settings.load()
    folded = 0
    for shard, rows in refold_snapshots_after(home, config, whole=context.op_config["all"]):
        table = AGENT_PAIR_PROBABILITIES.to_arrow(rows)
        require(
            well_formed(AGENT_PAIR_PROBABILITIES, table),
            probabilities_consistent(rows, rows[0].parent_snapshot_id, config.evolution.floor),
        )
        write_with_origin(home, AGENT_PAIR_PROBABILITIES, stamped(table, config, AGENT_PAIR_PROBABILITIES), shard)
        tags = input_tags(
            context.instance, map(scope.key, _FOLDED_FROM), shard, content_hash(table), _FOLDED.code_version
        )
        # `prior_state` is not observed: the next shard's plan is drawn and paid
        context.log_event(
            dg.AssetMaterialization(
                scope.key(AGENT_PAIR_PROBABILITIES.name),
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
    return folded
