"""A study's arms off the lake's tables, and other lakes', into ``study/``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.selected_rows import OF_CANDIDATES, done_shards, selected_rows
from star_pipeline.adapters.study_files import write_arms
from star_pipeline.config import StarConfig
from star_pipeline.config.scoring import AnyModel, ServedModel
from star_pipeline.config.study import StudyConfig
from star_pipeline.core.errors import ConfigError, LakeError, StarError
from star_pipeline.core.ports import Progress
from star_pipeline.core.publishing.overlap import Overlaps
from star_pipeline.core.records import StarRow
from star_pipeline.core.study.arms import Arms, Asked, CountTokens, options_of
from star_pipeline.core.study.records import Question, StudyArm, StudyLeftOut
from star_pipeline.core.tables import CANDIDATES, COMPOSITE_SCORES, IFD_SCORES, SEED_SHARDS

_TOKENIZED = 1024
"""Texts that are tokenised at once."""


@dataclass(frozen=True)
class MadeArms:
    """``shards`` were done, of ``of``; ``questions`` were looked for in the rows, ``of_tasks`` of them lm-eval's."""

    arms: Sequence[StudyArm]
    left_out: Sequence[StudyLeftOut]
    questions: int
    shards: int
    of: int
    of_tasks: int = 0


def study_of(settings: StarConfig) -> StudyConfig:
    """The study that is configured. Raises ConfigError where none is."""
    if settings.study is None:
        raise ConfigError(
            "no study is configured; add to the configuration a section such as study: {arms: [seeds, random, star], "
            "evaluate: {held_out: [FILE]}}"
        )
    return settings.study


def make_arms(lake: Lake, settings: StarConfig, progress: Progress, count: CountTokens | None = None) -> MadeArms:
    """Choose, look for overlaps, and write ``study/arms/``; the caller keeps other publishers out (``hold_publishing``).

    ``count`` counts tokens of responses that were not scored; by itself scoring.small's tokenizer, loaded where there are such.
    Raises StarError, in one line, where a lake has no rows, a file cannot be read, or no seed is left.
    """
    study = study_of(settings)
    in_files, of_tasks = evaluated(settings), asked_by_tasks(lake, settings, progress)
    questions = [*in_files, *of_tasks]
    entries = {entry.seed_id: entry for entry in lake.catalog_rows()}
    shards = sorted({entry.shard for entry in entries.values()})
    done = done_shards(lake, shards)
    if not done:
        raise never_run(lake)
    elsewhere = {name: _selected(name, root) for name, root in study.lakes.items()}
    arms = Arms(Asked(study.arms, elsewhere, settings.sampling.seed, study.equalise, Overlaps(questions)))
    progress.stage("study arms", len(done))
    for shard in done:
        seeds = [seed for seed in lake.read_table(SEED_SHARDS, shard) if entries[seed.seed_id].live]
        candidates, scores, composite = (lake.read_arrow(spec, shard) for spec in OF_CANDIDATES)
        arms.add(
            options_of(
                shard,
                seeds,
                CANDIDATES.from_arrow(candidates),
                IFD_SCORES.from_arrow(scores),
                COMPOSITE_SCORES.from_arrow(composite),
            )
        )
        progress.advance()
    rows, told = arms.finished(count or token_counter(settings.scoring.small, lake, progress))
    if empty := [arm for arm in told if not arm.rows]:
        if short := [arm.arm for arm in empty if arm.left_out_tokens]:
            raise StarError(
                f"study: of equal tokens {', '.join(short)} would have no row, since its first is longer than all of another arm; set "
                "study.equalise: rows, or study more seeds"
            )
        raise StarError(_nothing_left(arms.left_out))
    write_arms(lake, rows, told, arms.left_out)
    return MadeArms(told, arms.left_out, len(questions), len(done), len(shards), len(of_tasks))


def never_run(lake: Lake) -> LakeError:
    return LakeError(
        f"{lake.root} has no shard that is done, so there is nothing to choose rows from; run: star-pipeline run"
    )


def evaluated(settings: StarConfig) -> list[Question]:
    """All that the tuned models are asked, as far as it is in files or data sets that are named. Raises SeedError."""
    asked = study_of(settings).evaluate
    fields = settings.seed_fields
    found = read_questions(asked.held_out, fields, answered=True)
    for section in (asked.answers, asked.ifeval):
        found += read_questions(section.questions, fields) if section else []
    return list({question.question: question for question in found}.values())


def asked_by_tasks(lake: Lake, settings: StarConfig, progress: Progress) -> list[Question]:
    """The questions of lm-eval's tasks; lm-eval is not needed where there are none. Raises ConfigError where a task cannot be had."""
    wanted = study_of(settings).evaluate.lm_eval
    if wanted is None:
        return []
    from star_pipeline.adapters.study.task_questions import task_questions

    return task_questions(wanted, Path(lake.local(lake.study_measured)), progress)


def _selected(name: str, root: str) -> Mapping[str, StarRow]:
    other = Lake.at(root)
    rows = {row.seed_id: row for row in selected_rows(other).rows}
    if not rows:
        raise ConfigError(
            f"study.lakes.{name}: {root} holds no selected rows; expected the folder of a lake that was run (--lake of its run)"
        )
    return rows


def _nothing_left(left_out: Sequence[StudyLeftOut]) -> str:
    reasons = {
        "overlap": "overlap with a question",
        "empty_response": "have an empty response",
        "not_in_lake": "are not in another lake",
    }
    counts = {words: sum(row.reason == reason for row in left_out) for reason, words in reasons.items()}
    said = ", ".join(f"{count:,} {words}" for words, count in counts.items() if count) or "the shards hold none"
    return (
        f"study: no seed is left to train on ({said}); name other evaluation files, or lakes made from the same seeds"
    )


def token_counter(model: AnyModel, lake: Lake, progress: Progress) -> CountTokens:
    """Counts tokens as scoring does; the tokenizer is loaded at the first count."""

    def count(texts: Sequence[str]) -> list[int]:
        tokenize = _tokenizer(model, lake, progress)
        places = range(0, len(texts), _TOKENIZED)
        return [n for place in places for n in tokenize(texts[place : place + _TOKENIZED])]

    return count


def _tokenizer(model: AnyModel, lake: Lake, progress: Progress) -> Callable[[Sequence[str]], list[int]]:
    from star_pipeline.adapters.scoring import model_source
    from star_pipeline.adapters.scoring.tokenizer import load_tokenizer

    source = model.tokenizer_source if isinstance(model, ServedModel) else model_source(str(model), lake, progress)
    tokenizer = load_tokenizer(source).tokenizer
    return lambda texts: [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
