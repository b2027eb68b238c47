"""IFEval: instructions that a program verifies, by lm-eval's copy of Google's checks."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_pipeline.adapters.study.extras import need
from star_pipeline.core.errors import ConfigError, SeedError, in_short
from star_pipeline.core.study.answers import Answer, Subject, by_question
from star_pipeline.core.study.questions import question_of
from star_pipeline.core.study.records import Question, StudyTask

TASK = "ifeval"
_CUTS_SENTENCES = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
"""Instructions whose check needs NLTK's data."""


@dataclass(frozen=True)
class VerifiableQuestion:
    """``instructions``: IFEval's instruction_id_list with the arguments of each (its kwargs)."""

    question: Question
    instructions: tuple[tuple[str, dict[str, Any]], ...]  # Any: each instruction has arguments of its own


def verifiable_questions(files: Iterable[str]) -> list[VerifiableQuestion]:
    """The questions of JSONL files in IFEval's form. Raises SeedError, naming file, row and field."""
    return [made for file in files for made in _of_file(Path(file))]


def _of_file(path: Path) -> list[VerifiableQuestion]:
    expected = "expected IFEval's form: key, prompt, instruction_id_list and kwargs, a JSON object a line"
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SeedError(
            f"study.evaluate.ifeval.questions: {path} cannot be read: {in_short(error)}; {expected}"
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt, ids, given = row["prompt"], row["instruction_id_list"], row["kwargs"]
            if not (isinstance(prompt, str) and prompt.strip() and ids and len(ids) == len(given)):
                raise ValueError("prompt, instruction_id_list or kwargs is empty, or the last two differ in length")
            pairs = tuple((str(name), dict(arguments)) for name, arguments in zip(ids, given, strict=True))
        except (ValueError, KeyError, TypeError) as error:
            raise SeedError(f"{path}, row {number}: {type(error).__name__}: {in_short(error)}; {expected}") from error
        question = question_of(row, path.name, number, {})
        assert isinstance(question, Question), "a row with a prompt is one"
        found.append(VerifiableQuestion(question, pairs))
    if not found:
        raise SeedError(f"study.evaluate.ifeval.questions: {path} holds no question; {expected}")
    return found


def verified(questions: Sequence[VerifiableQuestion], answers: Iterable[Answer], subject: Subject) -> list[StudyTask]:
    """Four rows a question: whether all its instructions are followed, and the share that is, strictly and loosely (with the first or
    last line, or asterisks, taken off). A question without an answer follows none, as in IFEval.

    Raises ConfigError where a package, or NLTK's data, is missing, or an instruction is unknown.
    """
    checks = _checks(questions)
    said = by_question(answers)
    rows = []
    for one in questions:
        answer = next((answer.text for answer in said.get(one.question.question, ()) if answer.text is not None), "")
        asked = checks.InputExample(
            key=0,
            instruction_id_list=[name for name, _ in one.instructions],
            prompt=one.question.turns[0],
            kwargs=[arguments for _, arguments in one.instructions],
        )
        for kind, check in (
            ("strict", checks.test_instruction_following_strict),
            ("loose", checks.test_instruction_following_loose),
        ):
            try:
                followed = check(asked, answer).follow_instruction_list
            except (TypeError, ValueError, KeyError) as error:
                raise SeedError(
                    f"{one.question.source}, row {one.question.source_row}: IFEval cannot check {', '.join(asked.instruction_id_list)}: "
                    f"{in_short(error)}; expected kwargs as IFEval's own file has them"
                ) from error
            for metric, value in (
                (f"prompt_level_{kind}_acc", float(all(followed))),
                (f"instructions_followed_{kind}", sum(followed) / len(followed)),
            ):
                rows.append(
                    StudyTask(subject.target, subject.arm, subject.seed, TASK, metric, one.question.question, value)
                )
    return rows


def _checks(questions: Sequence[VerifiableQuestion]) -> Any:  # Any: lm-eval is not followed
    """lm-eval's module of checks; what it would load from the network when it is imported is asked for only where it is needed."""
    what = "study.evaluate.ifeval"
    for module in ("langdetect", "immutabledict"):
        need(module, what)
    nltk = need("nltk", what)
    download, nltk.download = nltk.download, lambda *_, **__: False
    try:
        checks = need("lm_eval.tasks.ifeval.utils", what)
    finally:
        nltk.download = download
    known = checks.instructions_registry.INSTRUCTION_DICT
    for one in questions:
        for name, _ in one.instructions:
            if name not in known:
                raise SeedError(
                    f"{one.question.source}, row {one.question.source_row}: unknown instruction {name!r}; expected one of IFEval's "
                    f"{len(known)}, such as punctuation:no_comma"
                )
    if any(name in _CUTS_SENTENCES for one in questions for name, _ in one.instructions):
        _require_sentences(nltk)
    return checks


def _require_sentences(nltk: Any) -> None:
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        nltk.download("punkt_tab", quiet=True)
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError as error:
        raise ConfigError(
            "study.evaluate.ifeval: some questions count sentences or words in capitals, and NLTK's data for that is not here and could "
            "not be loaded; python -m nltk.downloader punkt_tab, where there is a network, or leave those questions out"
        ) from error
