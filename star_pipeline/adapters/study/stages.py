"""The stages of a study after its arms (``core.study.flow``): models tuned in the lake, and what is measured of each of them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

from upath import UPath

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.lake import Lake, write_whole
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.scoring import model_source
from star_pipeline.adapters.scoring.weights import weights_of
from star_pipeline.adapters.study import (
    Form,
    answer,
    answer_by_agent,
    compare,
    finished_training,
    grade,
    held_out,
    run_tasks,
    samples,
    serving,
    tune,
)
from star_pipeline.adapters.study.ifeval import verifiable_questions, verified
from star_pipeline.adapters.study.untuned import keep_untuned
from star_pipeline.adapters.study_arms import study_of
from star_pipeline.adapters.study_files import read_arm
from star_pipeline.config.models import AgentConfig, StarConfig
from star_pipeline.core import identity
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.ports import ChatModel, Progress
from star_pipeline.core.study.answers import Answer, Subject, answer_rows
from star_pipeline.core.study.flow import Evaluation, Measured, Training, TunedModel
from star_pipeline.core.study.identity import model_id
from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import Question, StudyAnswer, StudyGrade, StudyLoss, StudyTask, StudyWin

OpenChat = Callable[[Mapping[str, AgentConfig]], ChatModel]
"""Opens agents with the lake's journal and budget, in the event loop that uses them."""


@dataclass(frozen=True)
class Studied:
    """What every stage works with; ``open_chat`` is replaced in trials."""

    lake: Lake
    config: StarConfig
    progress: Progress
    open_chat: OpenChat

    def form(self, target: str) -> Form:
        """How the target named so in the configuration is asked."""
        known = {str(model): model for model in study_of(self.config).models(self.config.scoring.small)}
        if target not in known:
            raise ConfigError(f"study: {target!r} is no target; expected one of {', '.join(known)}")
        return Form.of(known[target], self.config.scoring)

    def kept(self, model: TunedModel) -> UPath:
        """The folder of what was measured of a model, which a kill does not take."""
        return self.lake.study_measured / model.model_id

    def local(self, path: UPath) -> Path:
        return Path(self.lake.local(path))


def study_stages(
    lake: Lake, config: StarConfig, progress: Progress, open_chat: OpenChat | None = None
) -> tuple["LakeTuner", list[Evaluation]]:
    """Who tunes, and what is measured, as the study of the configuration asks for it."""
    studied = Studied(lake, config, progress, open_chat or _opener(lake, config, progress))
    asked = study_of(config).evaluate
    kinds: list[tuple[object, Evaluation]] = [
        (asked.held_out, HeldOut(studied)),
        (asked.answers, Answers(studied)),
        (asked.lm_eval, LmEval(studied)),
        (asked.ifeval, Ifeval(studied)),
    ]
    return LakeTuner(studied), [evaluation for wanted, evaluation in kinds if wanted]


@dataclass(frozen=True)
class LakeTuner:
    """Tunes in ``study/models/``, each model in a folder named by all that decides it."""

    studied: Studied

    def tune(self, training: Training) -> TunedModel:
        from star_pipeline.adapters.scoring.numerics import settled_in

        lake, config, progress = self.studied.lake, self.studied.config, self.studied.progress
        made, source = self._placed(training)
        if training.arm == UNTUNED:
            form = self.studied.form(training.target)
            keep_untuned(source, Path(made.folder), study_of(config).tune, form, progress, str(_subject(made)))
            return made
        numerics = settled_in(lake.numerics, config.scoring.dtype, config.scoring.device)
        told = f"{training.target} on {training.arm}, seed {training.seed}"
        rows, form = samples(read_arm(lake, training.arm)), self.studied.form(training.target)
        how = study_of(config).tune
        tune(source, rows, Path(made.folder), how, form, training.seed, progress, told, threads=numerics.threads)
        return made

    def tuned(self, training: Training) -> TunedModel | None:
        """What was tuned before; None where it was not, or not all the way."""
        made, _ = self._placed(training)
        return made if finished_training(Path(made.folder)) else None

    def _placed(self, training: Training) -> tuple[TunedModel, str]:
        """Where the model belongs, and what it is tuned from."""
        lake, config, progress = self.studied.lake, self.studied.config, self.studied.progress
        how, form = study_of(config).tune, self.studied.form(training.target)
        source = model_source(training.target, lake, progress)
        weights = weights_of(source, form.template, progress)
        shape = f"{form.template}/{form.start}"
        if training.arm == UNTUNED:
            name = model_id(UNTUNED, weights, shape, {"dtype": how.dtype}, 0)
        else:
            name = model_id(training.digest, weights, shape, how.optimization, training.seed)
        return TunedModel(training, name, str(self.studied.local(lake.study_models / name))), source


@dataclass(frozen=True)
class Taken:
    """Tunes nothing: takes what was tuned before. What is untuned anyway is made where it is not there."""

    tuner: LakeTuner

    def tune(self, training: Training) -> TunedModel:
        found = self.tuner.tune(training) if training.arm == UNTUNED else self.tuner.tuned(training)
        if found is None:
            raise LakeError(
                f"study: {training.target} is not tuned on the arm {training.arm} as it is now with seed {training.seed}; expected its "
                f"folder under {self.tuner.studied.lake.study_models}; materialise study_models of {training.arm}|{training.seed}, "
                "or run: star-pipeline study"
            )
        return found


@dataclass(frozen=True)
class HeldOut:
    studied: Studied

    def measure(self, models: Sequence[TunedModel]) -> Measured:
        config = self.studied.config
        questions = read_questions(study_of(config).evaluate.held_out, config.seed_fields, answered=True)
        scoring = config.scoring
        decides = [[q.question, q.references] for q in questions], scoring.max_length, scoring.dtype, scoring.device
        rows: list[StudyLoss] = []
        for model in models:
            file = self.studied.kept(model) / f"held_out-{identity.digest(*decides)}.json"
            if file.exists():
                told = json.loads(file.read_text("utf-8"))
                rows += [StudyLoss(**{**row, **_named(model)}) for row in told]
                continue
            made = held_out(
                model.folder, questions, _subject(model), self.studied.form(model.training.target), config,
                self.studied.lake, self.studied.progress,
            )  # fmt: skip  # the same arguments as the next stage's
            _keep(file, made)
            rows += made
        return Measured(losses=rows)


@dataclass(frozen=True)
class Answers:
    """Answers of all models, and what judges say of them."""

    studied: Studied

    def measure(self, models: Sequence[TunedModel]) -> Measured:
        config = self.studied.config
        asked = study_of(config).evaluate
        assert asked.answers is not None, "asked for with questions"
        questions = read_questions(asked.answers.questions, config.seed_fields)
        wanted = asked.answers
        said = {
            _subject(model): _answers(
                self.studied, model, questions, wanted.max_tokens, wanted.temperature, wanted.agent
            )
            for model in models
        }
        wins, grades = event_loop.run(self._judged(questions, said))
        told = [row for who, answers in said.items() for row in answer_rows(questions, answers, who)]
        return Measured(wins=wins, grades=grades, answers=told)

    async def _judged(
        self, questions: Sequence[Question], said: Mapping[Subject, Sequence[Answer]]
    ) -> tuple[list[StudyWin], list[StudyGrade]]:
        config, progress = self.studied.config, self.studied.progress
        asked, wins, grades = study_of(config).evaluate, list[StudyWin](), list[StudyGrade]()
        if not (asked.pairwise or asked.grades):
            return wins, grades
        async with aclosing(self.studied.open_chat(_judges(config))) as chat:
            for who, answers in said.items():
                if asked.pairwise and who.arm != asked.pairwise.baseline:
                    other = said[Subject(who.target, asked.pairwise.baseline, who.seed)]
                    wins += await compare(chat, config, asked.pairwise, questions, answers, other, who, progress)
                if asked.grades:
                    grades += await grade(chat, config, asked.grades, questions, answers, who, progress)
        return wins, grades


@dataclass(frozen=True)
class LmEval:
    studied: Studied

    def measure(self, models: Sequence[TunedModel]) -> Measured:
        config, rows = self.studied.config, list[StudyTask]()
        wanted = study_of(config).evaluate.lm_eval
        assert wanted is not None, "asked for with tasks"
        for model in models:
            kept = self.studied.local(self.studied.kept(model)) / f"lm_eval-{config.scoring.dtype}"
            rows += run_tasks(
                model.folder, wanted, _subject(model), config, self.studied.lake, kept, self.studied.progress
            )
        return Measured(tasks=rows)


@dataclass(frozen=True)
class Ifeval:
    studied: Studied

    def measure(self, models: Sequence[TunedModel]) -> Measured:
        config, rows, told = self.studied.config, list[StudyTask](), list[StudyAnswer]()
        asked = study_of(config).evaluate
        assert asked.ifeval is not None, "asked for with questions"
        questions = verifiable_questions(asked.ifeval.questions)
        agent = asked.answers.agent if asked.answers else None
        for model in models:
            said = _answers(
                self.studied, model, [one.question for one in questions], asked.ifeval.max_tokens, 0.0, agent
            )
            rows += verified(questions, said, _subject(model))
            told += answer_rows([one.question for one in questions], said, _subject(model))
        return Measured(tasks=rows, answers=told)


def _answers(
    studied: Studied,
    model: TunedModel,
    questions: Sequence[Question],
    max_tokens: int,
    temperature: float,
    agent: str | None,
) -> list[Answer]:
    """By a server that holds the model, or here."""
    who = _subject(model)
    if agent is None:
        scoring = studied.config.scoring
        name = identity.digest(max_tokens, temperature, who.seed if temperature else None, scoring.dtype)
        kept = studied.local(studied.kept(model) / f"answers-{name}.jsonl")
        form = studied.form(model.training.target)
        return answer(
            model.folder, questions, who, form, studied.config, studied.lake, kept, studied.progress, max_tokens, temperature
        )  # fmt: skip

    async def asked(agent: str) -> list[Answer]:
        async with aclosing(studied.open_chat({agent: serving(studied.config, agent, model.model_id)})) as chat:
            return await answer_by_agent(
                chat, agent, questions, who, studied.progress, max_tokens, temperature, model.model_id
            )

    return event_loop.run(asked(agent))


def _judges(config: StarConfig) -> dict[str, AgentConfig]:
    evaluate = study_of(config).evaluate
    named = {part.judge for part in (evaluate.pairwise, evaluate.grades) if part and part.judge}
    return {name: config.agents[name] for name in sorted({*config.judge.judges, *named})}


def _subject(model: TunedModel) -> Subject:
    return Subject(model.training.target, model.training.arm, model.training.seed)


def _named(model: TunedModel) -> dict[str, object]:
    """Two arms of the same rows are one model: what was measured of it is each arm's."""
    return {"target": model.training.target, "arm": model.training.arm, "seed": model.training.seed}


def _keep(file: UPath, rows: Iterable[StudyLoss]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps([asdict(row) for row in rows], ensure_ascii=False).encode())


def _opener(lake: Lake, config: StarConfig, progress: Progress) -> OpenChat:
    def opened(agents: Mapping[str, AgentConfig]) -> ChatModel:
        from star_pipeline.adapters.journal.opening import open_journal
        from star_pipeline.adapters.llm.chat import AgentChat
        from star_pipeline.adapters.llm.servers import OF_THIS_PROCESS

        journal = open_journal(config, lake)
        try:
            return AgentChat(agents, journal, config.budget.usd, servers=OF_THIS_PROCESS, tell=progress.note)
        except BaseException:
            journal.close()
            raise

    return opened
