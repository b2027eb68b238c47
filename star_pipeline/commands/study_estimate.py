"""What the study of the configuration would train, ask and cost: ``star-pipeline estimate`` tells it beside the run."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.llm.prices import max_tokens, price, prompt_bound
from star_pipeline.adapters.model_size import model_size
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.study_course import targets_of
from star_pipeline.adapters.study_files import study_rows
from star_pipeline.commands.estimate_lines import priced
from star_pipeline.config import StarConfig
from star_pipeline.config.study import StudyConfig
from star_pipeline.core.equations.ifd_templates import prompt_text
from star_pipeline.core.errors import ModelError, StarError
from star_pipeline.core.planning.dry_run import (
    BYTES_A_TOKEN,
    CallTotals,
    DryRunChat,
    ReplyStatistics,
    TotalsByStage,
)
from star_pipeline.core.planning.study_estimate import StudyEstimate
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Seed
from star_pipeline.core.study.answers import Answer, Subject
from star_pipeline.core.study.records import Question
from star_pipeline.core.study.tables import STUDY_ARMS

Habit = Callable[[str, str], ReplyStatistics]
"""(agent, stage) -> how it replies"""


def estimate_study(
    settings: StarConfig, study: StudyConfig, lake: Lake, seeds: Sequence[Seed], rows: int, habit: Habit
) -> tuple[StudyEstimate, list[str]]:
    """The estimate, and how it came about. ``rows`` is the most that an arm can have, ``seeds`` are some of them. Nothing is sent.

    Raises ConfigError where a target is on a server.
    """
    targets, said = targets_of(settings), list[str]()
    rows, epoch = _an_epoch(settings, study, lake, seeds, rows, said)
    each = epoch * study.tune.epochs * len(study.seeds)
    said.append(
        "study: 6 FLOPs a parameter and token (fewer with lora); measuring is not counted; as if nothing of it were done yet: what is "
        "tuned, answered or in the journal is taken"
    )
    made = StudyEstimate(
        trainings=len(targets) * len(study.arm_names) * len(study.seeds),
        rows=rows,
        tokens=round(each * len(targets)),
        flops={target: _flops(target, each) for target in targets},
        answers=0,
        agents=(),
    )
    try:
        answers, lines = asyncio.run(_asked(settings, study, seeds, habit, len(targets), said))
    except StarError as error:  # `study` will say so too; a run needs no questions
        return replace(made, answers=None, problem=str(error)), said
    agents = tuple(
        priced(agent, stage, line, price(settings.agents[agent])) for (agent, stage), line in sorted(lines.items())
    )
    return replace(made, answers=answers, agents=agents), said


def _an_epoch(
    settings: StarConfig, study: StudyConfig, lake: Lake, seeds: Sequence[Seed], rows: int, said: list[str]
) -> tuple[int, float]:
    """(rows of an arm, tokens of a pass over all arms), of one target and training seed."""
    form = "plain" if settings.scoring.template == "plain" else "alpaca"
    prompts = [prompt_text(form, seed.system, seed.history, seed.instruction) for seed in seeds]
    prompt = _tokens(prompts)
    made = {arm.arm: arm for arm in study_rows(lake, STUDY_ARMS)}
    if all(arm in made for arm in study.arm_names):
        arms = [made[arm] for arm in study.arm_names]
        said.append("study: rows and response tokens as counted in study_arms, prompts as long as the seeds'")
        longest = study.tune.max_length
        return max(arm.rows for arm in arms), sum(
            arm.rows * min(longest, prompt + arm.tokens / max(arm.rows, 1)) for arm in arms
        )
    each = min(study.tune.max_length, prompt + _tokens([seed.response for seed in seeds]))
    said.append(
        f"study: at most a row of each of {rows:,} seeds in each arm, {each:.0f} tokens as the seeds' own ({BYTES_A_TOKEN:g} bytes a "
        "token, assumed)"
    )
    return rows, rows * each * len(study.arm_names)


def _tokens(texts: Sequence[str]) -> float:
    return sum(len(text.encode("utf-8", "replace")) for text in texts) / BYTES_A_TOKEN / max(len(texts), 1)


def _flops(target: str, tokens: float) -> float | str:
    try:
        return 6.0 * model_size(target).parameters * tokens
    except ModelError as error:
        return str(error)


async def _asked(
    settings: StarConfig, study: StudyConfig, seeds: Sequence[Seed], habit: Habit, targets: int, said: list[str]
) -> tuple[int, TotalsByStage]:
    """(turns to answer, what agents are asked), by putting stand-ins before the study's own code, once as expected, once at most."""
    asked, tuned = study.evaluate, targets * len(study.arm_names) * len(study.seeds)
    models = tuned + (targets if asked.untuned else 0)
    questions = read_questions(asked.answers.questions, settings.seed_fields) if asked.answers else []
    verified = read_questions(asked.ifeval.questions, settings.seed_fields) if asked.ifeval else []
    answers = models * sum(len(question.turns) for question in (*questions, *verified))
    if asked.answers is None:
        return answers, {}
    most = asked.answers.max_tokens
    expected = min(most, max(1.0, _tokens([seed.response for seed in seeds])))
    likely, worst = [await _once(settings, study, questions, verified, habit, tokens) for tokens in (expected, most)]
    if likely:
        said.append(
            f"study: an answer is expected to have {expected:.0f} tokens as the seeds' responses, at most max_tokens ({most:,}), of "
            f"{BYTES_A_TOKEN:g} bytes; a judge's reply is as long as measured in this lake, else assumed"
        )
    baseline = asked.pairwise.baseline if asked.pairwise else None
    compared = models - tuned // len(study.arm_names) if baseline else 0
    lines: TotalsByStage = {}
    for key, line in likely.items():
        line.most_prompt, line.most_completion = worst[key].most_prompt, worst[key].most_completion
        tries = _tries(settings, study, key[1])
        line.most_prompt *= tries
        line.most_completion = None if line.most_completion is None else tries * line.most_completion
        lines.setdefault(key, CallTotals()).add(line, compared if key[1] == "judge" else models)
    return answers, lines


async def _once(
    settings: StarConfig,
    study: StudyConfig,
    questions: Sequence[Question],
    verified: Sequence[Question],
    habit: Habit,
    tokens: float,
) -> TotalsByStage:
    """What agents are asked for one tuned model, whose answers have ``tokens`` tokens."""
    from star_pipeline.adapters.study import answer_by_agent, compare, grade

    def most(request: ChatRequest) -> int | None:
        return max_tokens({**settings.agents[request.agent].params, **request.params})

    asked, who, silent = study.evaluate, Subject("", "", 0), SilentProgress()
    assert asked.answers is not None, "judged are answers"
    chat = DryRunChat(lambda _: None, habit, most, prompt_bound)
    if agent := asked.answers.agent:
        await answer_by_agent(chat, agent, questions, who, silent, asked.answers.max_tokens)
        if asked.ifeval:
            await answer_by_agent(chat, agent, verified, who, silent, asked.ifeval.max_tokens)
    own, other = (_stand_ins(questions, letter, tokens) for letter in "xy")
    if asked.pairwise:
        await compare(chat, settings, asked.pairwise, questions, own, other, who, silent)
    if asked.grades:
        await grade(chat, settings, asked.grades, questions, own, who, silent)
    return chat.lines


def _stand_ins(questions: Sequence[Question], letter: str, tokens: float) -> list[Answer]:
    text = letter * max(1, round(tokens * BYTES_A_TOKEN))
    return [Answer(one.question, turn, text, "ok") for one in questions for turn in range(1, len(one.turns) + 1)]


def _tries(settings: StarConfig, study: StudyConfig, stage: str) -> int:
    from star_pipeline.adapters.study import comparison_rules

    if stage == "judge" and study.evaluate.pairwise:
        return comparison_rules(settings, study.evaluate.pairwise).tries
    return study.evaluate.grades.attempts if stage == "grade" and study.evaluate.grades else 1
