"""Answers to a study's questions: what a model is asked turn by turn, and what an agent's server says for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.equations.generation import UntilItEnds, gather_all
from star_pipeline.core.equations.ifd_templates import prompt_messages
from star_pipeline.core.equations.replies import read_reply
from star_pipeline.core.equations.reply_cleaning import spoken
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatModel, ChatRequest, Progress, ScoringSample
from star_pipeline.core.records import Message
from star_pipeline.core.study.records import Question, StudyAnswer

AnswerStatus = Literal["ok", "cut_off", "prompt_too_long", "prompt_refused", "failed", "not_asked"]
_TEMPLATE, _VERSION = "study_answer", "1"
"""The question goes out as it is; what a prompt's name and version stand for in a request's identity, these do here."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A tuned model as a study's tables name it: the target it was, the arm and the training seed."""

    target: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.target}/{self.arm}/{self.seed}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to turn ``turn`` (from 1) of a question. ``cut_off`` is one too, up to ``max_tokens``; others have no ``text``.

    ``not_asked``: the turn before has no answer. ``tokens`` are the answer's.
    """

    question: str
    turn: int
    text: str | None
    status: AnswerStatus
    error: str | None = None
    tokens: int = 0
    attempts: int = 0
    cost_usd: float = 0.0


def by_question(answers: Iterable[Answer]) -> dict[str, tuple[Answer, ...]]:
    """Each question's answers, in the order of its turns."""
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        found.setdefault(answer.question, []).append(answer)
    return {question: tuple(sorted(said, key=lambda answer: answer.turn)) for question, said in found.items()}


def answer_rows(questions: Sequence[Question], answers: Iterable[Answer], subject: Subject) -> list[StudyAnswer]:
    """The answers as a study's table has them."""
    known = {question.question: question for question in questions}
    return [
        StudyAnswer(
            subject.target, subject.arm, subject.seed, said.question, said.turn, known[said.question].source,
            known[said.question].category, said.text, said.status, said.error, said.tokens,
        )
        for said in answers
    ]  # fmt: skip  # a field's value each


def whole(question: Question, said: Sequence[Answer]) -> str | None:
    """All turns' answers as one text, for who compares whole conversations; None where one is missing."""
    texts = [answer.text for answer in said if answer.text is not None]
    return in_turns(texts) if len(texts) == len(question.turns) else None


def in_turns(texts: Sequence[str]) -> str:
    """The texts of one side of a conversation: a single one as it is, several numbered."""
    return texts[0] if len(texts) == 1 else "\n\n".join(f"[Turn {turn}]\n{text}" for turn, text in enumerate(texts, 1))


def asked(question: Question, said: Sequence[str], response: str = "") -> ScoringSample:
    """The turn that follows the answers ``said``, as the target is asked; ``response`` where one is scored."""
    history = list(question.history)
    for turn, text in zip(question.turns, said, strict=False):
        history += [Message("user", turn), Message("assistant", text)]
    return ScoringSample(question.system, tuple(history), question.turns[len(said)], response)


def not_asked(question: Question, turn: int) -> Answer:
    return Answer(question.question, turn, None, "not_asked", "the turn before it has no answer")


async def answers_of_agent(
    chat: ChatModel,
    agent: str,
    questions: Sequence[Question],
    params: JsonMapping,
    subject: Subject,
    progress: Progress,
    model_id: str = "",
) -> list[Answer]:
    """An answer to every turn of every question, in order, by ``agent``; all questions at once, the agent's limits queue them.

    ``params`` are sent with each request, over the agent's own. ``model_id`` names what the server holds under the model's name, for
    the journal: another tuning under the same name is asked anew.
    """
    progress.stage(f"answers of {subject}", sum(len(question.turns) for question in questions))
    chat = UntilItEnds(chat)  # type: ignore[assignment]  # all of a chat model that is needed

    async def one(question: Question) -> list[Answer]:
        made: list[Answer] = []
        for turn in range(1, len(question.turns) + 1):
            said = [answer.text for answer in made if answer.text is not None]
            if len(said) < len(made):
                made.append(not_asked(question, turn))
            else:
                request = ChatRequest(
                    agent,
                    _messages(asked(question, said)),
                    _TEMPLATE,
                    f"{_VERSION}/{model_id}" if model_id else _VERSION,
                    params,  # type: ignore[arg-type]  # it is only read
                    stage="answer",
                    purpose=f"answer/{subject}/{question.question}/{turn}",
                )
                made.append(await _answer(chat, request, question.question, turn))
            progress.advance()
        return made

    return [answer for made in await gather_all(map(one, questions)) for answer in made]


async def _answer(chat: ChatModel, request: ChatRequest, question: str, turn: int) -> Answer:
    try:
        reply = await chat.complete(request)
    except CallError as error:
        return Answer(question, turn, None, "failed", f"{error.kind}: {error}", attempts=error.attempts)
    paid = (reply.attempts, reply.cost_usd) if reply.booked else (0, 0.0)
    read = read_reply(reply)
    text = read.text if read.text is not None else (spoken(reply.text).text or None if read.kind == "cut_off" else None)
    if text is None and read.kind == "empty_reply":
        text = ""  # to say nothing is an answer
    if text is None:
        return Answer(question, turn, None, "failed", f"{read.kind}: {read.reason}", reply.completion_tokens, *paid)
    status: AnswerStatus = "cut_off" if read.kind == "cut_off" else "ok"
    return Answer(question, turn, text, status, None, reply.completion_tokens, *paid)


def _messages(sample: ScoringSample) -> tuple[Message, ...]:
    turns = prompt_messages(sample.system, sample.history, sample.instruction)
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)
