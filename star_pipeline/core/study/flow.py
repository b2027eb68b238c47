"""A study's course: arms to tuned models to what they are worth. The models and the measuring come in from outside."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import StudyAnswer, StudyGrade, StudyLoss, StudyResult, StudyTask, StudyWin
from star_pipeline.core.study.results import study_results


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be tuned: ``target`` on the rows of ``arm`` (named by ``digest``) with training seed ``seed``. On no rows, where the
    arm is ``names.UNTUNED``: then the target is only put into the form in which tuned models are asked."""

    target: str
    arm: str
    digest: str
    seed: int


@dataclass(frozen=True, slots=True)
class TunedModel:
    """An ordinary Hugging Face folder; ``model_id`` names all that decides it (``identity.model_id``)."""

    training: Training
    model_id: str
    folder: str


@dataclass(frozen=True)
class Measured:
    """What evaluations found, of all models."""

    losses: Sequence[StudyLoss] = ()
    wins: Sequence[StudyWin] = ()
    grades: Sequence[StudyGrade] = ()
    tasks: Sequence[StudyTask] = ()
    answers: Sequence[StudyAnswer] = ()


class Tuner(Protocol):
    def tune(self, training: Training) -> TunedModel:
        """Tune, or take what was tuned: the same model_id is never trained twice. Raises StarError."""


class Evaluation(Protocol):
    def measure(self, models: Sequence[TunedModel]) -> Measured:
        """Measure all models, or take what was measured of them. Raises StarError."""


@dataclass(frozen=True)
class Remembered:
    """Tunes by ``tuner``, each once."""

    tuner: Tuner
    models: dict[Training, TunedModel] = field(default_factory=dict)

    def tune(self, training: Training) -> TunedModel:
        if training not in self.models:
            self.models[training] = self.tuner.tune(training)
        return self.models[training]


@dataclass(frozen=True)
class StudyOutcome:
    """``models`` are those that were tuned."""

    models: Sequence[TunedModel] = ()
    measured: Measured = field(default_factory=Measured)
    results: Sequence[StudyResult] = ()


def trainings(targets: Sequence[str], arms: Iterable[tuple[str, str]], seeds: Iterable[int]) -> list[Training]:
    """All trainings; ``arms`` are (name, digest). Every arm with the first seed comes before the second, so that a study that is stopped
    in between compares all arms."""
    arms = list(arms)
    return [Training(target, arm, digest, seed) for seed in seeds for target in targets for arm, digest in arms]


def untuned(targets: Sequence[str], seed: int) -> list[Training]:
    """The targets as they are; ``seed`` is the training seed of the models that they are compared with one by one."""
    return [Training(target, UNTUNED, "", seed) for target in targets]


def carry_out(
    planned: Sequence[Training],
    tuner: Tuner,
    evaluations: Sequence[Evaluation],
    baseline: str,
    beside: Sequence[Training] = (),
) -> StudyOutcome:
    """Tune all, measure all, and compare with ``baseline``; ``beside`` are the untuned targets, where they are measured too."""
    models = [tuner.tune(training) for training in planned]
    measured_too = [tuner.tune(training) for training in beside] if evaluations else []
    found = [evaluation.measure([*models, *measured_too]) for evaluation in evaluations]
    measured = Measured(
        [row for part in found for row in part.losses],
        [row for part in found for row in part.wins],
        [row for part in found for row in part.grades],
        [row for part in found for row in part.tasks],
        [row for part in found for row in part.answers],
    )
    arms = list(dict.fromkeys(training.arm for training in planned))
    results = study_results(arms, baseline, measured.losses, measured.wins, measured.grades, measured.tasks)
    return StudyOutcome(models, measured, results)
