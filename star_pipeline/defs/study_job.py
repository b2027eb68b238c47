"""The job of a whole study: arms, models and results in one run, as the command makes them."""

import dagster as dg

from star_pipeline.config.study import StudyConfig
from star_pipeline.core.errors import StarError
from star_pipeline.defs.asset_factory import failure
from star_pipeline.defs.assets.study import (
    Result,
    compare_the_models,
    in_turn,
    make_the_arms,
    model_partition,
    study_pool,
    tune_the_models,
)
from star_pipeline.defs.scope import Scope
from star_pipeline.instance.scopes import SCOPE_TAG

STUDY = "study"


def study_job(scope: Scope, study: StudyConfig) -> dg.JobDefinition:
    """A job of assets cannot hold what has partitions beside what is made of all of them: so it is one of ops, which notes each asset."""
    needed = [scope.name(name) for name in ("lake", "settings", "progress")]

    @dg.op(name=scope.name("carry_out_study"), pool=study_pool(scope), required_resource_keys=set(needed))
    def carry_out_study(context: dg.OpExecutionContext) -> None:
        lake, settings, told = (getattr(context.resources, name) for name in needed)
        owner = f"run {context.run.run_id[:8]}"
        try:
            home, config, progress = lake.open(), settings.load(), told.progress()
            with in_turn(home, owner):
                _note(context, scope, "study_arms", make_the_arms(home, config, progress, owner))
                # every arm with the first seed comes first: what is stopped in between compares all arms
                for seed in study.seeds:
                    for arm in study.arm_names:
                        made = tune_the_models(home, config, progress, arm, seed)
                        _note(context, scope, "study_models", made, model_partition(arm, seed))
                results = compare_the_models(home, config, progress, owner)
                _note(context, scope, "study_results", results)
        except StarError as error:
            raise failure(error) from error
        for found in results.check_results or ():
            context.log.info(f"{found.check_name}: {'yes' if found.passed else 'no'}: {found.description}")

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


def _note(context: dg.OpExecutionContext, scope: Scope, asset: str, made: Result, partition: str | None = None) -> None:
    """Tell Dagster that the asset was made, as its own run would."""
    tags = {"dagster/data_version": made.data_version.value} if made.data_version else None
    context.log_event(
        dg.AssetMaterialization(scope.key(asset), partition=partition, tags=tags, metadata=dict(made.metadata or {}))
    )
