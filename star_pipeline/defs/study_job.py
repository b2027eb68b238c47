"""The job of a whole study: arms, models and results in one run, for the UI and for ``star-pipeline study`` alike."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import dagster as dg

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.study_arms import MadeArms
from star_pipeline.adapters.study_course import arms_made, carried_out
from star_pipeline.config import StarConfig
from star_pipeline.config.study import StudyConfig
from star_pipeline.core.errors import StarError
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.flow import Remembered
from star_pipeline.defs.asset_factory import failure
from star_pipeline.defs.assets.study import (
    Result,
    in_turn,
    model_partition,
    study_pool,
    told_of_arms,
    told_of_results,
    tune_the_models,
)
from star_pipeline.defs.scope import Scope
from star_pipeline.defs.study_resource import StudyResource
from star_pipeline.instance.home import database_of
from star_pipeline.instance.processes import told_to_hold
from star_pipeline.instance.provenance import input_tags
from star_pipeline.instance.scopes import SCOPE_TAG
from star_pipeline.instance.tags import DATA_VERSION
from star_pipeline.report.show_study import show_study

STUDY = "study"
CARRY_OUT = "carry_out_study"
ARMS_ONLY = "arms_only"
Made = dg.AssetMaterialization | dg.AssetCheckEvaluation


def study_job(scope: Scope, study: StudyConfig) -> dg.JobDefinition:
    """A job of assets cannot hold what has partitions beside what is made of all of them: so it is one of ops, which notes each asset."""
    needed = [scope.name(name) for name in ("lake", "settings", "progress", STUDY)]

    @dg.op(
        name=scope.name(CARRY_OUT),
        pool=study_pool(scope),
        required_resource_keys=set(needed),
        out=dg.Out(dg.Nothing),
        config_schema={
            ARMS_ONLY: dg.Field(
                bool,
                default_value=False,
                description="make the training sets alone: seconds; off: tune and measure too",
            )
        },
    )
    def carry_out_study(context: dg.OpExecutionContext) -> Iterator[Made]:
        lake, settings, told, studying = (getattr(context.resources, name) for name in needed)
        owner = f"run {context.run.run_id[:8]}"
        try:
            home, config, progress = lake.open(), settings.load(), told.progress()
            telling = told_to_hold(context.instance, context.run.run_id, home, database_of(config), "study")
            with in_turn(lake_lock(config, home), owner, telling):
                steps = _arms_alone if context.op_config[ARMS_ONLY] else _all_of_it
                yield from steps(_Notes(scope, context.instance), home, config, progress, studying, owner)
        except StarError as error:
            studying.hear(error)
            raise failure(error) from error
        except Exception as error:
            studying.hear(error)
            raise

    @dg.job(
        name=scope.name(STUDY),
        description="Does the data make a better model? The whole study in one run, as `star-pipeline study`: training sets, a model tuned "
        "on each with every training seed, and what each is worth. Nothing to select: start it from its Launchpad. What is there already "
        "is not made again. It takes as long as its trainings; only judges are paid. `star-pipeline estimate` tells both before.",
        tags={SCOPE_TAG: scope.tag},
        executor_def=dg.in_process_executor,
    )
    def whole_study() -> None:
        carry_out_study()

    return whole_study


def _arms(
    notes: "_Notes", home: Lake, config: StarConfig, progress: Progress, studying: StudyResource, owner: str
) -> Generator[Made, None, MadeArms]:
    studying.before_a_step()
    began = time.monotonic()
    made = arms_made(home, config, progress, owner)
    studying.hear(made)
    yield from notes.of("study_arms", told_of_arms(home, config, made), began)
    return made


def _arms_alone(
    notes: "_Notes", home: Lake, config: StarConfig, progress: Progress, studying: StudyResource, owner: str
) -> Iterator[Made]:
    yield from _arms(notes, home, config, progress, studying, owner)
    if section := show_study(home, config, owner):
        studying.hear(section)


def _all_of_it(
    notes: "_Notes", home: Lake, config: StarConfig, progress: Progress, studying: StudyResource, owner: str
) -> Iterator[Made]:
    made = yield from _arms(notes, home, config, progress, studying, owner)
    study, (tuner, evaluations) = config.study, studying.stages(home, config, progress)
    assert study is not None, "it has arms"
    tuner = Remembered(tuner)
    # every arm with the first seed comes first: what is stopped in between compares all arms
    for seed in study.seeds:
        for arm in study.arm_names:
            studying.before_a_step()
            tuned = tune_the_models(config, made.arms, tuner, arm, seed)
            yield from notes.of("study_models", tuned, partition=model_partition(arm, seed))
    studying.before_a_step()
    began = time.monotonic()
    outcome = carried_out(home, config, made.arms, tuner, evaluations)
    studying.hear(outcome)
    if section := show_study(home, config, owner):
        studying.hear(section)
    yield from notes.of("study_results", told_of_results(home, config, outcome, section), began)


_MADE_OF = {"study_models": ("study_arms",), "study_results": ("study_arms", "study_models")}
"""Asset -> those of the study that it is made from."""


@dataclass(frozen=True)
class _Notes:
    """Tells Dagster that an asset was made, as its own run would."""

    scope: Scope
    instance: dg.DagsterInstance

    def of(
        self, asset: str, made: Result, began: float | None = None, partition: str | None = None
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        """A model says itself how long it took, whenever that was."""
        key = self.scope.key(asset)
        metadata = dict(made.metadata or {}) | (
            {} if began is None else {"seconds": round(time.monotonic() - began, 1)}
        )
        version, parents = made.data_version, [self.scope.key(name) for name in _MADE_OF.get(asset, ())]
        assert version is not None, "all of a study's have one"
        tags = input_tags(self.instance, parents, None, version.value, STUDY)
        if not parents:  # it is made from the tables of all shards, of which Dagster is to go by the time
            tags = {DATA_VERSION: version.value}
        yield dg.AssetMaterialization(key, partition=partition, tags=tags, metadata=metadata)
        for found in made.check_results or ():
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=found.check_name or "",
                passed=found.passed,
                severity=found.severity,
                description=found.description,
                metadata=dict(found.metadata or {}),
            )
