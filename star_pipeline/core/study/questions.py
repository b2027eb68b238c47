"""The forms that evaluation questions come in: seeds', MT-bench's and Vicuna-bench's, WizardLM's and Koala's test sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from star_pipeline.core import identity
from star_pipeline.core.intake.formats import DEFAULT_FIELDS, BadRecord, Parts, detect
from star_pipeline.core.records import Message
from star_pipeline.core.study.records import Question

_OWN_NAMES = ("question_id", "idx", "id", "key")
_CATEGORIES = ("category", "Skill")
QUESTION_FIELDS = (
    *_OWN_NAMES, *_CATEGORIES, "turns", "choices", "reference", "Instruction", "prompt",
)  # fmt: skip
"""What a record of questions may hold beside the fields of seeds."""
_ASKED = ("instruction", "conversations", "messages")
_FORMS = "turns (MT-bench), Instruction (WizardLM), prompt (Koala), or a seed's instruction, conversations or messages"


@dataclass(frozen=True, slots=True)
class References:
    """A row of a file of reference answers (FastChat's model answers): to the question ``name``, one for each turn."""

    name: str
    turns: tuple[str, ...]


def question_of(raw: object, source: str, row: int, fields: Mapping[str, str]) -> Question | References:
    """A record as a question, or as the references of one. Raises BadRecord, naming the field.

    ``fields`` are the names in the user's own files (``seeds.fields``); they count where the record holds them. A seed's response is
    the reference; it may be missing, and a conversation may end with the user.
    """
    if not isinstance(raw, Mapping):
        raise BadRecord(None, f"a {type(raw).__name__}, expected an object with {_FORMS}")
    name = next((str(raw[field]) for field in _OWN_NAMES if _names(raw.get(field))), "")
    if raw.get("choices") is not None:
        return References(_required(name, "question_id"), _answers(raw["choices"]))
    category = next((str(raw[field]) for field in _CATEGORIES if _names(raw.get(field))), None)
    own = fields if all(fields[field] in raw for field in _ASKED if field in fields) else {}
    if raw.get("turns") is not None:
        turns = _texts(raw["turns"], "turns")
        given = raw.get("reference")
        if not isinstance(given, Sequence | None) or isinstance(given, str):
            raise BadRecord(
                "reference", f"{_kind(given)}, expected a list of texts, one a turn, empty where there is none"
            )
        references = tuple(_text(text, f"reference[{n}]") if text else None for n, text in enumerate(given or ()))
        return _question(source, row, name, category, None, (), turns, references)
    for field in ("Instruction", "prompt"):
        if raw.get(field) is not None and "instruction" not in own and "instruction" not in raw:
            return _question(source, row, name, category, None, (), (_text(raw[field], field),), ())
    parts = _seed(raw, own)
    reference = parts.response if parts.response.strip() else None
    return _question(
        source, row, name, category, parts.system, parts.history, (_text(parts.instruction, parts.instruction_field),), (reference,)
    )  # fmt: skip


def with_references(questions: Sequence[Question], references: Mapping[str, References]) -> list[Question]:
    """The questions with the references to their names, where there are any; the turns beyond them have none."""
    return [
        replace(question, references=_filled(references[question.name].turns, len(question.turns)))
        if question.name in references
        else question
        for question in questions
    ]


def _seed(raw: Mapping[str, object], fields: Mapping[str, str]) -> Parts:
    names = {**DEFAULT_FIELDS, **fields}
    try:
        form = detect(raw, fields)
    except BadRecord as error:
        held = ", ".join(map(str, list(raw)[:8])) or "nothing"
        raise BadRecord(None, f"it holds {held}; expected {_FORMS}") from error
    if form.name == "alpaca":
        return form.read({names["response"]: "", **raw}, fields)
    field = names["messages" if form.name == "messages" else "conversations"]
    turns = raw.get(field)
    if isinstance(turns, Sequence) and not isinstance(turns, str) and turns and isinstance(turns[-1], Mapping):
        last = turns[-1].get("role") or turns[-1].get("from")
        if last in ("user", "human"):
            return form.read({**raw, field: [*turns, {"role": "assistant", "content": ""}]}, fields)
    return form.read(raw, fields)


def _question(
    source: str,
    row: int,
    name: str,
    category: str | None,
    system: str | None,
    history: tuple[Message, ...],
    turns: tuple[str, ...],
    references: tuple[str | None, ...],
) -> Question:
    content = identity.digest("question", system, [[turn.role, turn.content] for turn in history], turns)
    return Question(
        content, source, row, name or str(row), category, system, history, turns, _filled(references, len(turns))
    )


def _filled(references: Sequence[str | None], count: int) -> tuple[str | None, ...]:
    return (*references, *[None] * count)[:count]


def _names(value: object) -> bool:
    named = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return named and identity.is_unicode(str(value))


def _required(name: str, field: str) -> str:
    if not name:
        raise BadRecord(field, "missing, and it says which question the answer is to; expected a text or a number")
    return name


def _answers(choices: object) -> tuple[str, ...]:
    """The turns of the first choice."""
    if (
        not isinstance(choices, Sequence)
        or isinstance(choices, str)
        or not choices
        or not isinstance(choices[0], Mapping)
    ):
        raise BadRecord("choices", "expected a list of objects with turns, as in FastChat's model answers")
    return _texts(choices[0].get("turns"), "choices[0].turns")


def _texts(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadRecord(field, f"{_kind(value)}, expected a list of texts, one a turn")
    return tuple(_text(text, f"{field}[{number}]") for number, text in enumerate(value))


def _text(value: object, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRecord(field, f"{_kind(value)}, expected a text")
    if not identity.is_unicode(value):
        raise BadRecord(field, "half a character (a lone surrogate), which no file can hold; mend the text")
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None or value == "" or value == [] else f"a {type(value).__name__}"
