"""lm-eval's tasks on a tuned model: what each metric says of each question."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upath import UPath

from star_pipeline.adapters.lake import write_whole
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.study.extras import need, quietly
from star_pipeline.config.study import LmEvalConfig
from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.errors import ConfigError, StarError, in_short
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.answers import Subject
from star_pipeline.core.study.records import StudyTask


def task_rows(
    source: str, settings: LmEvalConfig, subject: Subject, kept: Path, numerics: Numerics, progress: Progress
) -> list[StudyTask]:
    """A row a question and metric of each task, in the tasks' order; a task that is finished is kept in the folder ``kept``.

    The tasks are as lm-eval has them: no chat template, its own few-shot examples. Metrics whose value is not of one question (such as
    a perplexity over a corpus) are left out. Raises ConfigError for a task that is not there or cannot be had.
    """
    lm_eval, manager, model = need("lm_eval", "study.evaluate.lm_eval"), None, None
    progress.stage(f"lm-eval on {subject}", len(settings.tasks))
    rows: list[StudyTask] = []
    for task in settings.tasks:
        file = UPath(
            kept / f"{identity.digest(task, settings.limit, settings.num_fewshot, settings.include_path)}.json"
        )
        if file.exists():
            told = [tuple(entry) for entry in json.loads(file.read_text("utf-8"))]
        else:
            with quietly(), numerics.in_force(), told_of(task):
                manager = manager or manager_of(settings)
                model = model or _model(source, settings, numerics)
                found = lm_eval.simple_evaluate(
                    model=model,
                    tasks=[task],
                    num_fewshot=settings.num_fewshot,
                    limit=settings.limit,
                    bootstrap_iters=0,
                    task_manager=manager,
                )
            told = list(_values(found["samples"]))
            if not told:
                raise ConfigError(
                    f"study.evaluate.lm_eval.tasks: no metric of {task!r} says something of a single question; expected one that does, "
                    "such as an accuracy; take the task out"
                )
            kept.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(told, ensure_ascii=False).encode())
        rows += [StudyTask(subject.target, subject.arm, subject.seed, *entry) for entry in told]
        progress.advance()
    return rows


def _values(samples: JsonMapping) -> Iterator[tuple[str, str, str, float]]:
    """(task, metric, question, value); a metric under a filter is named with it, as lm-eval does."""
    for task, told in samples.items():
        for sample in told:
            under = "" if sample["filter"] == "none" else f",{sample['filter']}"
            for metric in sample["metrics"]:
                value = sample[metric]
                if hasattr(value, "item"):  # one of numpy
                    value = value.item()
                if isinstance(value, int | float):
                    yield task, f"{metric}{under}", str(sample["doc_id"]), float(value)


def manager_of(settings: LmEvalConfig) -> Any:  # Any: lm-eval is not followed
    from lm_eval.tasks import TaskManager

    if settings.include_path:
        # to look through all that lm-eval knows takes seconds
        own = TaskManager(include_path=settings.include_path, include_defaults=False)
        if set(settings.tasks) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=settings.include_path)
    unknown = [task for task in settings.tasks if task not in manager.all_tasks]
    if unknown:
        raise ConfigError(
            f"study.evaluate.lm_eval.tasks: lm-eval has no {', '.join(map(repr, unknown))}; expected names that `lm-eval ls tasks` "
            "lists, or tasks of files in include_path"
        )
    return manager


def _model(source: str, settings: LmEvalConfig, numerics: Numerics) -> Any:
    from lm_eval.models.huggingface import HFLM

    batch: int | str = settings.batch_size or (8 if numerics.device == "cpu" else "auto")
    return HFLM(pretrained=source, device=numerics.device, dtype=numerics.dtype, batch_size=batch)


@contextmanager
def told_of(task: str) -> Iterator[None]:
    """What lm-eval and datasets raise for a task whose data cannot be had, in a line."""
    import logging

    chatter = logging.getLogger("lm_eval")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        yield
    except StarError:
        raise
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise ConfigError(
            f"study.evaluate.lm_eval.tasks: {task!r} cannot be run: {type(error).__name__}: {in_short(error)}; expected a task whose data "
            "is on this machine or on a hub that it reaches"
        ) from error
    finally:
        chatter.setLevel(level)
