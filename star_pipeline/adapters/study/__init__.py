"""What a study does outside: it tunes models, asks them, has their answers judged, and runs others' tasks on them.

Each function does one thing for one tuned model, and keeps what it did where the caller says, so that the same call after a kill goes
on: ``tune`` in the model's folder, ``answer`` and ``run_tasks`` under ``kept``; what is paid is in the journal behind ``chat``. Which
models there are, and what is made of the rows, is the caller's and the core's (``star_pipeline.core.study``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.study.form import Form as Form
from star_pipeline.adapters.study.tuning import FinishedTraining as FinishedTraining
from star_pipeline.adapters.study.tuning import finished_training as finished_training
from star_pipeline.adapters.study.tuning import tune as tune
from star_pipeline.config.models import AgentConfig, StarConfig
from star_pipeline.config.params import optional_params
from star_pipeline.config.study import GradesConfig, LmEvalConfig, PairwiseConfig
from star_pipeline.core.equations.judging import JudgeRules
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import ChatModel, Progress, ScoringSample
from star_pipeline.core.study.answers import Answer, Subject, answers_of_agent
from star_pipeline.core.study.grading import GradeRules, graded_answers
from star_pipeline.core.study.held_out import held_out_losses
from star_pipeline.core.study.pairwise import compared_answers
from star_pipeline.core.study.records import ArmRow, Question, StudyGrade, StudyLoss, StudyTask, StudyWin


def samples(rows: Iterable[ArmRow]) -> list[ScoringSample]:
    """An arm's rows as a target is taught them: the conversation up to the last user turn, and the response."""
    made = []
    for row in rows:
        before = row.messages[: -2 if row.messages[-1].role == "assistant" else -1]
        system = before[0].content if before and before[0].role == "system" else None
        history = before[1:] if before and before[0].role == "system" else before
        made.append(ScoringSample(system, tuple(history), row.instruction, row.response))
    return made


def held_out(
    source: str,
    questions: Sequence[Question],
    subject: Subject,
    form: Form,
    config: StarConfig,
    lake: Lake,
    progress: Progress,
) -> list[StudyLoss]:
    """The loss of each question's reference answers under the model in ``source``, through the project's own scorer."""
    from star_pipeline.adapters.scoring import scorer_of

    scorer = scorer_of(
        source,
        config.scoring,
        lake.numerics,
        progress,
        template=form.template,
        start=form.start,
        weights=_version(source),
        alone=False,
    )
    return held_out_losses(scorer, questions, subject)


def answer(
    source: str,
    questions: Sequence[Question],
    subject: Subject,
    form: Form,
    config: StarConfig,
    lake: Lake,
    kept: Path,
    progress: Progress,
    max_tokens: int,
    temperature: float = 0.0,
) -> list[Answer]:
    """An answer to every turn of every question by the model in ``source``, loaded here. ``kept`` is a file of this model, form, and
    ``max_tokens`` alone: the caller names it by them; where all is in it, no model is loaded."""
    from star_pipeline.adapters.scoring.numerics import settled_in
    from star_pipeline.adapters.study.generation import Writer
    from star_pipeline.adapters.study.kept_answers import KeptAnswers, written_answers

    numerics = settled_in(lake.numerics, config.scoring.dtype, config.scoring.device)
    writer = Writer(source, form, numerics, max_tokens, temperature, subject.seed, _version(source))
    return written_answers(writer, questions, KeptAnswers(kept), subject, progress)


async def answer_by_agent(
    chat: ChatModel,
    agent: str,
    questions: Sequence[Question],
    subject: Subject,
    progress: Progress,
    max_tokens: int,
    temperature: float = 0.0,
    model_id: str = "",
) -> list[Answer]:
    """The same by an agent whose server holds the tuned model (see ``serving``); ``model_id`` names the model for the journal."""
    params = {"max_tokens": max_tokens, "temperature": temperature, **({"seed": subject.seed} if temperature else {})}
    return await answers_of_agent(chat, agent, questions, params, subject, progress, model_id)


def serving(config: StarConfig, agent: str, model: str) -> AgentConfig:
    """The agent, with ``model`` (a tuned model's name on its server) in the place of its own; litellm's provider stays."""
    known = config.agents[agent]
    provider, slash, _ = known.model.partition("/")
    return known.model_copy(update={"model": f"{provider}/{model}" if slash else model})


async def compare(
    chat: ChatModel,
    config: StarConfig,
    settings: PairwiseConfig,
    questions: Sequence[Question],
    answers: Iterable[Answer],
    baseline_answers: Iterable[Answer],
    subject: Subject,
    progress: Progress,
) -> list[StudyWin]:
    """The judge's verdicts on a model's answers beside those of the baseline arm tuned with the same seed."""
    rules = comparison_rules(config, settings)
    return await compared_answers(
        chat, config.prompt_library, rules, questions, answers, baseline_answers, subject, settings.baseline, progress
    )


def comparison_rules(config: StarConfig, settings: PairwiseConfig) -> JudgeRules:
    """As Eq. 6 is judged in this lake, by the study's own judge where it names one; a reversal is a tie."""
    first, *others = (settings.judge,) if settings.judge else config.judge.judges
    optional = optional_params(settings, settings.params, config.judge.mode)
    return replace(
        config.judge_rules, agent=first, others=tuple(others), attempts=settings.attempts, params=settings.params, optional=optional,
        on_reversal="tie", ties="half", skip_nonpositive_gap=False, soft=False,
    )  # fmt: skip


async def grade(
    chat: ChatModel,
    config: StarConfig,
    settings: GradesConfig,
    questions: Sequence[Question],
    answers: Iterable[Answer],
    subject: Subject,
    progress: Progress,
) -> list[StudyGrade]:
    """The judge's grade of each answer, from 1 to 10; of several judges the first of the configuration grades."""
    optional = optional_params(settings, settings.params)
    rules = GradeRules(settings.judge or config.judge.judges[0], settings.attempts, settings.params, optional)
    return await graded_answers(chat, config.prompt_library, rules, questions, answers, subject, progress)


def run_tasks(
    source: str,
    settings: LmEvalConfig,
    subject: Subject,
    config: StarConfig,
    lake: Lake,
    kept: Path,
    progress: Progress,
) -> list[StudyTask]:
    """What lm-eval's tasks say of the model; a finished task is kept in the folder ``kept``, which is this model's alone."""
    from star_pipeline.adapters.scoring.numerics import settled_in
    from star_pipeline.adapters.study.tasks import task_rows

    numerics = settled_in(lake.numerics, config.scoring.dtype, config.scoring.device)
    return task_rows(source, settings, subject, kept, numerics, progress)


def _version(source: str) -> str:
    """A tuned model's folder is named by what decides it; what is in it never changes."""
    found = finished_training(Path(source))
    if found is None and not Path(source).is_dir():
        raise ConfigError(f"study: {source} is no tuned model; expected the folder that tune made")
    return Path(source).name
