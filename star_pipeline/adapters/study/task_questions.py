"""The questions of lm-eval's tasks, to look for in the rows that are trained on: as the tasks themselves put them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from upath import UPath

from star_pipeline.adapters.lake import write_whole
from star_pipeline.adapters.study.extras import need, quietly
from star_pipeline.adapters.study.tasks import manager_of, told_of
from star_pipeline.config.study import LmEvalConfig
from star_pipeline.core import identity
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.records import Question


def task_questions(settings: LmEvalConfig, kept: Path, progress: Progress) -> list[Question]:
    """Every question that the tasks ask, at most ``limit`` of each, groups' tasks too; kept in the folder ``kept``, task by task.

    Needs lm-eval and the tasks' data where they are not kept. Raises ConfigError where a task is not there or cannot be had, as running
    it would.
    """
    manager = None
    found: list[Question] = []
    for task in settings.tasks:
        file = UPath(kept / f"lm_eval_questions-{identity.digest(task, settings.limit, settings.include_path)}.json")
        if file.exists():
            told = json.loads(file.read_text("utf-8"))
        else:
            need("lm_eval", "study.evaluate.lm_eval")
            progress.note(f"reading the questions of lm-eval's {task}, to leave out rows that overlap with them")
            with quietly(), told_of(task):
                manager = manager or manager_of(settings)
                tasks = manager.load([task])["tasks"]
                told = [entry for name, one in tasks.items() for entry in _asked(name, one, settings.limit)]
            kept.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(told, ensure_ascii=False).encode())
        found += [_question(*entry) for entry in told]
    return found


def _asked(
    name: str, task: Any, limit: int | None
) -> Iterator[tuple[str, int, list[str], list[str]]]:  # Any: not followed
    """(task, question's number, texts of the question, texts of its answers) of each."""
    for number, doc in task.doc_iterator(limit=limit):
        prompt, target = task.doc_to_text(doc), task.doc_to_target(doc)
        choices = _texts(task.doc_to_choice(doc)) if task.config.doc_to_choice is not None else []
        # where the prompt is one of the choices (Winogrande), all of them are what is asked
        asked = [prompt] if isinstance(prompt, str) else choices
        fields = [value for value in doc.values() if isinstance(value, str) and " " in value.strip()]
        # without what the task puts around it, in which no seed is the same
        asked += [field for field in fields if any(field in text for text in asked)]
        yield name, number, list(dict.fromkeys(asked)), list(dict.fromkeys([*choices, *_texts(target)]))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, Sequence) else []


def _question(task: str, number: int, asked: Sequence[str], answers: Sequence[str]) -> Question:
    content = identity.digest("question of a task", task, number, list(asked))
    return Question(content, f"lm-eval's {task}", number, str(number), None, None, (), tuple(asked), tuple(answers))
