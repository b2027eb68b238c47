"""Answers of a model loaded here, each portion on disk before the next is begun: a kill costs one portion."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from star_pipeline.adapters.scoring.prefix_tree import Tokens
from star_pipeline.adapters.study.generation import Writer, Written
from star_pipeline.core import identity
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.answers import Answer, AnswerStatus, Subject, asked, not_asked
from star_pipeline.core.study.records import Question


class KeptAnswers:
    """A file of lines, a portion each, named by its questions. A line that a kill tore is made again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Answer]] = {}
        whole = 0
        raw = path.read_bytes() if path.exists() else b""
        for line in raw.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            told = json.loads(line)
            self._known[told["portion"]] = [Answer(**answer) for answer in told["answers"]]
            whole += len(line)
        if whole < len(raw):
            os.truncate(path, whole)

    def find(self, portion: str) -> list[Answer] | None:
        return self._known.get(portion)

    def keep(self, portion: str, answers: Sequence[Answer]) -> None:
        self._known[portion] = list(answers)
        line = json.dumps({"portion": portion, "answers": [asdict(answer) for answer in answers]}, ensure_ascii=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(line.encode("utf-8", "replace") + b"\n")
            file.flush()
            os.fsync(file.fileno())


def written_answers(
    writer: Writer, questions: Sequence[Question], kept: KeptAnswers, subject: Subject, progress: Progress
) -> list[Answer]:
    """An answer to every turn of every question, in order; turn by turn, so that all questions of a turn share its portions."""
    progress.stage(f"answers of {subject}", sum(len(question.turns) for question in questions))
    made: dict[tuple[str, int], Answer] = {}
    for turn in range(1, max((len(question.turns) for question in questions), default=0) + 1):
        for answer in _turn(writer, questions, turn, made, kept, progress):
            made[answer.question, answer.turn] = answer
    return [made[question.question, turn] for question in questions for turn in range(1, len(question.turns) + 1)]


def _turn(
    writer: Writer,
    questions: Sequence[Question],
    turn: int,
    before: dict[tuple[str, int], Answer],
    kept: KeptAnswers,
    progress: Progress,
) -> list[Answer]:
    found: list[Answer] = []
    asking: list[Question] = []
    prompts: list[Tokens] = []
    due = [question for question in questions if len(question.turns) >= turn]
    said = [[before[question.question, past].text for past in range(1, turn)] for question in due]
    whole = [
        (question, [text for text in texts if text is not None]) for question, texts in zip(due, said, strict=True)
    ]
    samples = [asked(question, texts) for question, texts in whole if len(texts) == turn - 1]
    tokens = iter(writer.prompts(samples))
    for question, texts in whole:
        if len(texts) < turn - 1:
            found.append(not_asked(question, turn))
        elif (prompt := next(tokens)) is None:
            found.append(_unasked(question, turn, "prompt_refused", "the chat template takes no such conversation"))
        elif writer.room(prompt) <= 0:
            reason = f"its {len(prompt):,} tokens leave no room for an answer within the model's {writer.limit:,}"
            found.append(_unasked(question, turn, "prompt_too_long", reason))
        else:
            asking.append(question)
            prompts.append(prompt)
    progress.advance(len(found))
    for members in writer.portions(prompts):
        some = [asking[number] for number in members]
        portion = identity.digest(turn, [(q.question, prompts[n].tolist()) for n, q in zip(members, some, strict=True)])
        answers = kept.find(portion)
        if answers is None:
            written = writer.write([prompts[n] for n in members], [f"{q.question}/{turn}" for q in some])
            answers = [_answer(question, turn, one) for question, one in zip(some, written, strict=True)]
            kept.keep(portion, answers)
        found += answers
        progress.advance(len(members))
    return found


def _answer(question: Question, turn: int, written: Written) -> Answer:
    status: AnswerStatus = "ok" if written.finish == "stop" else "cut_off"
    return Answer(question.question, turn, written.text, status, tokens=written.tokens)


def _unasked(question: Question, turn: int, status: AnswerStatus, reason: str) -> Answer:
    return Answer(question.question, turn, None, status, reason)
