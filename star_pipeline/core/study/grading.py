"""Single-answer grades from 1 to 10: a judge reads one model's answer, as in MT-bench's single mode."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.equations.generation import UntilItEnds, gather_all
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatModel, ChatReply, ChatRequest, Progress
from star_pipeline.core.study.answers import Answer, Subject, asked, by_question
from star_pipeline.core.study.grades import parse_grade
from star_pipeline.core.study.records import Question, StudyGrade

TEMPLATE = "grade_answer"


@dataclass(frozen=True)
class GradeRules:
    """``attempts``: tries to get a readable grade; ``optional`` names those of ``params`` that a judge may go without."""

    agent: str
    attempts: int
    params: JsonMapping = field(default_factory=dict)
    optional: frozenset[str] = frozenset()


async def graded_answers(
    chat: ChatModel,
    prompts: PromptLibrary,
    rules: GradeRules,
    questions: Sequence[Question],
    answers: Iterable[Answer],
    subject: Subject,
    progress: Progress,
) -> list[StudyGrade]:
    """A row a question and turn, in order; each turn's answer is graded with the turns before it in sight.

    The question's reference, where it has one, is shown to the judge. A turn without an answer has no grade and its reason.
    """
    said = by_question(answers)
    rows = [(question, turn) for question in questions for turn in range(1, len(question.turns) + 1)]
    progress.stage(f"grades of {subject}", len(rows))
    chat = UntilItEnds(chat)  # type: ignore[assignment]  # all of a chat model that is needed

    async def one(question: Question, turn: int) -> StudyGrade:
        row = await _grade(chat, prompts, rules, question, turn, said.get(question.question, ()), subject)
        progress.advance()
        return row

    return await gather_all(one(question, turn) for question, turn in rows)


async def _grade(
    chat: ChatModel,
    prompts: PromptLibrary,
    rules: GradeRules,
    question: Question,
    turn: int,
    said: Sequence[Answer],
    subject: Subject,
) -> StudyGrade:
    texts = [answer.text for answer in said[:turn] if answer.text is not None]
    if len(texts) < turn:
        here = said[turn - 1] if len(said) >= turn else None
        reason = f"no answer: {here.status}{f' ({here.error})' if here.error else ''}" if here else "no answer"
        return _row(question, turn, subject, None, None, reason)
    before = asked(question, texts[:-1])
    reference = question.references[turn - 1] if len(question.references) >= turn else None
    messages = prompts.messages(
        TEMPLATE,
        {
            "system": question.system,
            "history": before.history,
            "question": before.instruction,
            "answer": texts[-1],
            "reference": reference,
        },
    )
    replies: list[ChatReply] = []
    for sample in range(rules.attempts):
        request = ChatRequest(
            rules.agent,
            messages,
            TEMPLATE,
            prompts.version(TEMPLATE),
            dict(rules.params),
            sample,
            stage="grade",
            purpose=f"grade/{subject}/{question.question}/{turn}/{sample}",
            optional=rules.optional,
        )
        try:
            reply = await chat.complete(request)
        except CallError as error:
            return _row(question, turn, subject, rules.agent, None, f"{error.kind}: {error}", replies, error.attempts)
        replies.append(reply)
        grade = parse_grade(reply.text)
        if grade is not None:
            return _row(question, turn, subject, rules.agent, grade, None, replies)
    reason = f"no grade from 1 to 10 in {len(replies)} replies"
    return _row(question, turn, subject, rules.agent, None, reason, replies)


def _row(
    question: Question,
    turn: int,
    subject: Subject,
    agent: str | None,
    grade: float | None,
    error: str | None,
    replies: Sequence[ChatReply] = (),
    more_attempts: int = 0,
) -> StudyGrade:
    booked = [reply for reply in replies if reply.booked]
    return StudyGrade(
        target=subject.target,
        arm=subject.arm,
        seed=subject.seed,
        question=question.question,
        turn=turn,
        source=question.source,
        category=question.category,
        grade=grade,
        # a lone surrogate cannot be written
        reply=replies[-1].text.encode("utf-8", "replace").decode() if replies else None,
        error=error,
        judge_agent=agent,
        attempts=sum(reply.attempts for reply in booked) + more_attempts,
        prompt_tokens=sum(reply.prompt_tokens for reply in booked),
        completion_tokens=sum(reply.completion_tokens for reply in booked),
        cost_usd=sum(reply.cost_usd for reply in booked),
    )
