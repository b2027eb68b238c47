"""A study's course in a lake, step by step: what the command and the assets have in common. Nothing here brings PyTorch in."""

from collections.abc import Sequence

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.study_arms import MadeArms, make_arms, study_of
from star_pipeline.adapters.study_files import study_rows, write_results, write_study_rows
from star_pipeline.config import StarConfig
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.flow import Evaluation, StudyOutcome, Training, Tuner, carry_out, trainings, untuned
from star_pipeline.core.study.names import SEEDS
from star_pipeline.core.study.records import StudyArm
from star_pipeline.core.study.tables import (
    STUDY_ANSWERS,
    STUDY_ARMS,
    STUDY_GRADES,
    STUDY_LOSSES,
    STUDY_TASKS,
    STUDY_WINS,
)


def targets_of(settings: StarConfig) -> list[str]:
    """The models to tune. Raises ConfigError where no study is configured, or a target is on a server."""
    study = study_of(settings)
    try:
        return [str(model) for model in study.models(settings.scoring.small)]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def arms_made(lake: Lake, settings: StarConfig, progress: Progress, owner: str) -> MadeArms:
    """Make the arms; the caller holds the study."""
    with lake_lock(settings, lake).hold_publishing(owner):
        return make_arms(lake, settings, progress)


def arms_there(lake: Lake, settings: StarConfig) -> list[StudyArm]:
    """The configured arms as they were made. Raises LakeError where one was not."""
    made = {arm.arm: arm for arm in study_rows(lake, STUDY_ARMS)}
    wanted = study_of(settings).arm_names
    if missing := [arm for arm in wanted if arm not in made]:
        raise LakeError(
            f"{lake.study / 'arms'} has no training set of {', '.join(missing)}; materialise study_arms, or run: star-pipeline study"
        )
    return [made[arm] for arm in wanted]


def planned(settings: StarConfig, arms: Sequence[StudyArm]) -> list[Training]:
    """All trainings of these arms."""
    return trainings(targets_of(settings), [(arm.arm, arm.digest) for arm in arms], study_of(settings).seeds)


def carried_out(
    lake: Lake, settings: StarConfig, arms: Sequence[StudyArm], tuner: Tuner, evaluations: Sequence[Evaluation]
) -> StudyOutcome:
    """Tune on all arms, measure, compare, and write the tables; the caller holds the study. Raises StarError."""
    study = study_of(settings)
    baseline = SEEDS if SEEDS in study.arms else study.arm_names[0]
    beside = untuned(targets_of(settings), study.seeds[0]) if study.evaluate.untuned else []
    outcome = carry_out(planned(settings, arms), tuner, evaluations, baseline, beside)
    found = outcome.measured
    write_study_rows(lake, STUDY_ANSWERS, found.answers)
    write_study_rows(lake, STUDY_LOSSES, found.losses)
    write_study_rows(lake, STUDY_WINS, found.wins)
    write_study_rows(lake, STUDY_GRADES, found.grades)
    write_study_rows(lake, STUDY_TASKS, found.tasks)
    # last: where they are, what they were made from is there too
    write_results(lake, outcome.results, arms)
    return outcome
