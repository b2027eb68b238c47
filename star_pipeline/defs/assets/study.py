"""A study of the lake: training sets, models tuned on them, and what those are worth. In the graph where ``study:`` is configured."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.study_arms import MadeArms
from star_pipeline.adapters.study_course import arms_made, arms_there, carried_out, planned
from star_pipeline.config import StarConfig
from star_pipeline.config.study import StudyConfig
from star_pipeline.core import identity
from star_pipeline.core.errors import LakeBusy
from star_pipeline.core.locking import LakeLock
from star_pipeline.core.study.better import AN_ARM_IS_BETTER, better_arms
from star_pipeline.core.study.flow import StudyOutcome, Tuner
from star_pipeline.core.study.records import StudyArm
from star_pipeline.core.study.tables import STUDY_ARMS, STUDY_RESULTS
from star_pipeline.core.tables import COMPOSITE_SCORES
from star_pipeline.defs.asset_factory import AllShards, LakeAsset, check_result, covers, lake_asset, plot, table_result
from star_pipeline.defs.resources import LakeResource, ProgressResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.defs.selected_rows import SELECTED_ROWS_DEPS
from star_pipeline.report.show_study import show_study
from star_pipeline.report.study import StudySection

GROUP, POOL = "6_study", "study"
ARM, SEED = "arm", "seed"
_IN_TURN_S = 7 * 86_400.0
"""Trainings take hours, and however many runs of them there are, they take turns."""
Result = dg.MaterializeResult[None]


@contextmanager
def in_turn(lock: LakeLock, owner: str, telling: AbstractContextManager[None]) -> Iterator[None]:
    """Hold the study, after whoever holds it now; the run's log says who that is, and its tags that it is held (``telling``)."""
    with ExitStack() as held:
        try:
            held.enter_context(lock.hold_study(owner))
        except LakeBusy as error:
            dg.get_dagster_logger().info(f"{error}: this run waits")
            held.enter_context(lock.hold_study(owner, _IN_TURN_S))
        held.enter_context(telling)
        yield


def study_pool(scope: Scope) -> str:
    return scope.name(POOL)


def models_by(study: StudyConfig) -> dg.MultiPartitionsDefinition:
    """One partition an arm and training seed; it has the models of all targets."""
    return dg.MultiPartitionsDefinition(
        {
            ARM: dg.StaticPartitionsDefinition(list(study.arm_names)),
            SEED: dg.StaticPartitionsDefinition([str(seed) for seed in study.seeds]),
        }
    )


def model_partition(arm: str, seed: int) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({ARM: arm, SEED: str(seed)})


@lake_asset(
    "study_arms",
    GROUP,
    "The training sets that a study compares, `study/arms/<arm>.parquet`: one row of every seed, chosen by the rule that the arm is named "
    "after (`seeds`, `random`, `longest`, `ifd`, `likely`, `judge`, `gap`, `star`, or what another lake selected), all of the same seeds. "
    "Made of the lake's tables, without any call. Seeds that overlap with the evaluation's questions are in none, and are listed in "
    "`study_left_out`.",
    spec=STUDY_ARMS,
    partitioned=False,
    locked=False,
    alone=in_turn,
    pool=POOL,
    deps=["seed_catalog", *SELECTED_ROWS_DEPS],
)
def study_arms(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource, progress: ProgressResource
) -> Result:
    home, config = lake.open(), settings.load()
    return told_of_arms(home, config, arms_made(home, config, progress.progress(), f"run {context.run.run_id[:8]}"))


def study_models(study: StudyConfig) -> LakeAsset:
    @lake_asset(
        "study_models",
        GROUP,
        "One model for each arm and training seed (and target, where the configuration names several): the target tuned on that arm's "
        "rows, all arms in the same way (`study.tune`). Each is an ordinary Hugging Face folder under `study/models/`, named by all that "
        "decides it, and never trained twice; a training that was killed goes on from its last checkpoint. Minutes to hours each, on this "
        "machine, one at a time; nothing is paid. The job `study` makes all of them in one run. Needs the extra: "
        '`pip install "star-pipeline[study]"`.',
        partitioned=models_by(study),
        locked=False,
        alone=in_turn,
        pool=POOL,
        deps=["study_arms"],
        kinds=frozenset({"huggingface"}),
    )
    def study_models(
        context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource, progress: ProgressResource
    ) -> Result:
        key = context.partition_key
        assert isinstance(key, dg.MultiPartitionKey), "as models_by has them"
        arm, seed = (key.keys_by_dimension[name] for name in (ARM, SEED))
        from star_pipeline.adapters.study.stages import study_stages  # it brings PyTorch

        home, config = lake.open(), settings.load()
        tuner, _ = study_stages(home, config, progress.progress())
        return tune_the_models(config, arms_there(home, config), tuner, arm, int(seed))

    return study_models


@lake_asset(
    "study_results",
    GROUP,
    "Which arm makes the better model, and whether that is sure: a row an arm and measure, with its difference from the baseline, the 95% "
    "interval, and the same in words. It puts the evaluation's questions to all models of `study_models`, has the answers judged where "
    "`study.evaluate` asks for that (judges are paid, within the budget; what is in the journal is not paid again), writes "
    "`study_answers`, `study_losses`, `study_wins`, `study_grades`, `study_tasks` and `study_results`, and makes `inspect.duckdb` and "
    "`report.html` "
    "again. It tunes nothing: a model that is missing is named.",
    spec=STUDY_RESULTS,
    partitioned=False,
    locked=False,
    alone=in_turn,
    pool=POOL,
    deps=["study_arms", AllShards("study_models")],
    kinds=frozenset({"parquet", "llm", "huggingface"}),
    checks=[AN_ARM_IS_BETTER],
)
def study_results(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource, progress: ProgressResource
) -> Result:
    from star_pipeline.adapters.study.stages import Taken, study_stages  # it brings PyTorch

    home, config = lake.open(), settings.load()
    tuner, evaluations = study_stages(home, config, progress.progress())
    outcome = carried_out(home, config, arms_there(home, config), Taken(tuner), evaluations)
    return told_of_results(home, config, outcome, show_study(home, config, f"run {context.run.run_id[:8]}"))


def study_assets(study: StudyConfig) -> list[LakeAsset]:
    return [study_arms, study_models(study), study_results]


def told_of_arms(home: Lake, config: StarConfig, made: MadeArms) -> Result:
    """What Dagster shows of the three steps, for the assets and for the job ``study``."""
    result = table_result(
        config,
        STUDY_ARMS,
        made.arms,
        ["arm", "rule", "rows", "tokens", "fallbacks", "own", "as_star"],
        {
            "seeds_left_out": len(made.left_out),
            "questions": made.questions,
            "questions_of_lm_eval": made.of_tasks,
            "shards": made.shards,
            "shards_not_done": made.of - made.shards,
            "path": dg.MetadataValue.path(str(home.study / "arms")),
        },
    )
    # written above, all arms before the table that names them
    return dg.MaterializeResult(metadata=result.metadata, data_version=result.data_version)


def tune_the_models(config: StarConfig, arms: Sequence[StudyArm], tuner: Tuner, arm: str, seed: int) -> Result:
    """A partition of ``study_models``; the caller holds the study."""
    from star_pipeline.adapters.study import finished_training

    wanted = [one for one in planned(config, arms) if (one.arm, one.seed) == (arm, seed)]
    models = [tuner.tune(training) for training in wanted]
    told: dict[str, Any] = {}  # as asset_factory.Metadata
    for model in models:
        values: dict[str, Any] = {"model": dg.MetadataValue.path(model.folder)}
        if facts := finished_training(Path(model.folder)):
            values |= {
                "rows": facts.rows,
                "rows_cut": facts.cut,
                "rows_left_out": facts.left_out,
                "tokens_of_an_epoch": facts.taught_tokens,
                "updates": facts.updates,
                "mean_loss": facts.loss,
                "seconds": round(facts.seconds, 1),
            }
        one = len(models) == 1
        told |= values if one else {f"{model.training.target}: {name}": value for name, value in values.items()}
    version = dg.DataVersion(identity.digest(*(model.model_id for model in models)))
    return dg.MaterializeResult(metadata={**told, "config_fingerprint": config.fingerprint}, data_version=version)


def told_of_results(home: Lake, config: StarConfig, outcome: StudyOutcome, told: StudySection | None) -> Result:
    whole = covers(home, home.shards_of(COMPOSITE_SCORES))
    found = better_arms(outcome.results)
    result = table_result(
        config,
        STUDY_RESULTS,
        outcome.results,
        ["arm", "measure", "part", "figure", "difference", "low", "high", "shown"],
        {
            "conclusion": told.opening if told else "",
            "words": dg.MetadataValue.md("\n".join(f"- {row.words}" for row in outcome.results)),
            **{
                f"plot_{figure.name}": plot(figure, whole)
                for figure in (told.figures[:1] if outcome.results and told else ())
            },
            "models": len(outcome.models),
            "path": dg.MetadataValue.path(str(home.table(STUDY_RESULTS))),
        },
    )
    return dg.MaterializeResult(
        metadata=result.metadata, data_version=result.data_version, check_results=[check_result(found)]
    )
