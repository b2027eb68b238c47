"""Evaluation questions off files and the hub, each with what it comes from; and reference answers off FastChat's files."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.record_files import ending_of, read_records
from star_pipeline.adapters.seed_files import FORMATS
from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.formats import DEFAULT_FIELDS, BadRecord
from star_pipeline.core.intake.seeds import RowError
from star_pipeline.core.study.questions import QUESTION_FIELDS, References, question_of, with_references
from star_pipeline.core.study.records import Question

_MOST = 1_000_000
_SPLITS = ("test", "validation", "train")


def read_questions(
    names: Sequence[str], fields: Mapping[str, str], limit: int | None = None, answered: bool = False
) -> list[Question]:
    """The questions of all files, in order; one that came before in the same words comes once.

    A file of reference answers gives them to the questions of the nearest file before it that has their ids. ``answered`` questions
    need a reference to every turn. Of a file at most ``limit`` questions, the first.
    Raises SeedError, naming file, row, field and the remedy.
    """
    files: list[list[Question]] = []
    for name in names:
        questions: list[Question] = []
        references: dict[str, References] = {}
        for row, found in islice(_records(name, fields), _MOST):
            if isinstance(found, Question):
                questions.append(found)
            else:
                _place(files, found, name, row)
                references[found.name] = found
        if questions and references:
            raise SeedError(f"{name}: holds both questions (turns) and answers (choices); expected a file of each")
        if references:
            files = [_referred(of, references, later=files[place + 1 :]) for place, of in enumerate(files)]
        elif not questions:
            raise SeedError(f"{name}: no records; expected at least one question, fill or remove the file")
        else:
            files.append(questions[:limit])
    if answered:
        for question in (question for of in files for question in of):
            if not all(question.references):
                raise SeedError(
                    f"{question.source}, row {question.source_row}: no reference answer, and its loss is what is measured; fill the "
                    "response, or name the file under evaluate.answers.questions"
                )
    return list({question.question: question for of in reversed(files) for question in reversed(of)}.values())[::-1]


def _place(files: Sequence[Sequence[Question]], found: References, name: str, row: int) -> None:
    if not any(question.name == found.name for of in files for question in of):
        raise SeedError(
            f"{name}, row {row}, field 'question_id': no file of questions named before it has a question {found.name!r}; name that file "
            "first, or remove the row"
        )


def _referred(
    of: list[Question], references: Mapping[str, References], later: Sequence[Sequence[Question]]
) -> list[Question]:
    taken = {question.name for questions in later for question in questions}
    return with_references(of, {name: given for name, given in references.items() if name not in taken})


def _records(name: str, fields: Mapping[str, str]) -> Iterator[tuple[int, Question | References]]:
    path = Path(name)
    names = {**DEFAULT_FIELDS, **fields, **{field: field for field in QUESTION_FIELDS}}
    if path.is_file():
        if ending_of(path.name) is None:
            raise SeedError(f"{name}: its name does not say what it holds; expected one that ends in {FORMATS}")
        source, records = path.name, read_records(UPath(path), path.name, names)
    else:
        source, records = name, _hub_records(name)
    for row, raw in records:
        try:
            if isinstance(raw, RowError):
                raise BadRecord(None, raw.reason)
            yield row, question_of(raw, source, row, fields)
        except BadRecord as bad:
            where = f"{source}, row {row}" + (f", field {bad.field!r}" if bad.field else "")
            raise SeedError(f"{where}: {bad}; mend the row or remove it") from bad


def _hub_records(name: str) -> Iterator[tuple[int, object]]:
    """The rows of a data set on the hub, ``owner/name``, or ``owner/name:split``; without, of test, validation or train, the first."""
    hub, _, wanted = name.partition(":")
    if hub.count("/") != 1 or ending_of(hub) is not None or hub.startswith((".", "/", "~")):
        raise SeedError(
            f"{name}: no such file; expected a file (relative to the configuration), or a data set's hub name such as owner/name"
        )
    try:
        import datasets
    except ImportError as error:
        raise SeedError(
            f"{name}: no such file, and a data set by hub name needs the package datasets; run: pip install 'star-pipeline[study]'"
        ) from error
    try:
        splits = datasets.get_dataset_split_names(hub)
        split = wanted or next((split for split in _SPLITS if split in splits), splits[0])
        rows = datasets.load_dataset(hub, split=split)
    except Exception as error:  # whatever the hub says to a name that it does not know, or to a split
        said = " ".join(str(error).split())[:200]
        raise SeedError(
            f"{name}: no such file, and the hub has no such data set or split ({said}); check the name, or give a file"
        ) from error
    yield from enumerate(rows, start=1)
