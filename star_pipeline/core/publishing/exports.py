"""The final data set in the forms that trainers read, a record a row; preference pairs are in ``preferences``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.records import Message, StarRow
from star_pipeline.core.table_spec import FLOAT, MESSAGES, TEXT
from star_pipeline.core.tables import STAR_DATASET

Record = JsonObject

SCORES = ("seed_id", "pair_id", "candidate_id", "pi", "gap", "ifd_small", "ifd_large", "source", "selection")
"""Columns of the final data set that may go along with a record."""
_FROM_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


class NoRecord(StrEnum):
    """Why a row of the final data set has no record in a form."""

    NO_PAIRS = "earlier turns that are no [user, assistant] pairs; --format messages keeps them"
    NOT_JUDGED = "no candidate judged better or worse than the reference"
    OTHER_INSTRUCTION = "better and worse only for different instructions"
    REJECTS_SELECTED = "the response that was judged worse is the one that the final data set holds"
    OVERLAP = "better or worse overlaps with an evaluation question (dataset.decontaminate)"
    SAME_TEXT = "better and worse are the same text"
    NO_ROOM = "no response, or a prompt that leaves it no room within the tokens that were scored"
    IN_THE_MAKING = "shard not done, or just being made again"


class Remark(StrEnum):
    """What a trainer makes of a record, where it is not what one would expect."""

    OPENING_CUT = (
        "without the opening turn of the assistant, for which trainers on ShareGPT drop the conversation or cut it so; "
        "--format messages keeps the turn"
    )
    OUT_OF_TURN = "with user and assistant not in turn, which trainers on ShareGPT drop or refuse"
    CUT = "cut at the tokens that were scored, and without an end token"
    ASSISTANT_FIRST = "that the assistant opens, which some chat templates refuse (Gemma's, Mistral's)"


def _sharegpt_remarks(roles: Sequence[str]) -> Iterator[Remark]:
    said = [role for role in roles if role != "system"]
    if said[:1] == ["assistant"]:
        yield Remark.OPENING_CUT
    said = [role for role in roles[_openings(roles) :] if role != "system"]
    if said != ["user", "assistant"] * (len(said) // 2):
        yield Remark.OUT_OF_TURN


def _chat_remarks(roles: Sequence[str]) -> Iterator[Remark]:
    if [role for role in roles if role != "system"][:1] == ["assistant"]:
        yield Remark.ASSISTANT_FIRST


def _openings(roles: Sequence[str]) -> int:
    """How many turns come before the user's first."""
    return next((place for place, role in enumerate(roles) if role == "user"), 0)


@dataclass(frozen=True)
class ExportForm:
    """A trainer's form.

    ``fields`` are the Arrow types of a record; the ``optional`` ones stand in a file only where one of its records fills them, since
    loaders want the same fields in every record. ``by_line``: one record a line is usual, else one JSON list. ``record`` is None
    for preference pairs, which need more than the row; ``of_pair`` makes the records of one.
    ``remarks`` are on a conversation, given by its turns' roles.
    """

    fields: tuple[pa.Field, ...]
    by_line: bool
    record: Callable[[StarRow], Record | NoRecord] | None
    optional: tuple[str, ...] = ()
    remarks: Callable[[Sequence[str]], Iterable[Remark]] = lambda roles: ()
    of_pair: Callable[[Record], list[Record]] = lambda pair: [pair]


def alpaca(row: StarRow) -> Record | NoRecord:
    """instruction, input (empty), output; system and history, a list of [user, assistant] pairs, as LLaMA-Factory reads them.

    NO_PAIRS where the earlier turns do not alternate between user and assistant, which this form cannot say.
    """
    system, turns = _opening(row.messages[:-2])
    roles = [turn.role for turn in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2):
        return NoRecord.NO_PAIRS
    history = [[user.content, assistant.content] for user, assistant in zip(turns[::2], turns[1::2], strict=True)]
    return {"instruction": row.instruction, "input": "", "output": row.response, "system": system, "history": history}


def sharegpt(row: StarRow) -> Record:
    """id (the seed's) and conversations: turns with from (system, human or gpt) and value; a system prompt is the first turn.

    What the assistant says before the user's first turn is left out: trainers want the user to begin.
    """
    cut = _openings([turn.role for turn in row.messages])
    kept = [turn for place, turn in enumerate(row.messages) if place >= cut or turn.role == "system"]
    turns = [{"from": _FROM_SHAREGPT[turn.role], "value": turn.content} for turn in kept]
    return {"id": row.seed_id, "conversations": turns}


def messages(row: StarRow) -> Record:
    """messages: turns with role and content, as OpenAI and TRL take them."""
    return {"messages": chat(row.messages)}


def prompt_completion(row: StarRow) -> Record:
    """prompt: all turns but the last; completion: the response alone. TRL's SFT then learns the completion only."""
    return {"prompt": chat(row.messages[:-1]), "completion": chat(row.messages[-1:])}


def without_margin(pair: Record) -> list[Record]:
    """A preference pair for DPO."""
    return [{name: value for name, value in pair.items() if name != "margin"}]


def one_by_one(pair: Record) -> list[Record]:
    """Both sides of a preference pair for KTO, each with whether it is the better one."""
    rest = {name: value for name, value in pair.items() if name not in ("prompt", "chosen", "rejected", "margin")}
    sides = (("chosen", True), ("rejected", False))
    return [{"prompt": pair["prompt"], "completion": pair[name], "label": label, **rest} for name, label in sides]


def scores(row: StarRow) -> Record:
    """What ``SCORES`` names, of the row."""
    return {name: getattr(row, name) for name in SCORES}


def chat(turns: Sequence[Message]) -> list[Mapping[str, str]]:
    """Messages as plain objects with role and content."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _opening(turns: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """(system prompt or nothing, the turns after it)."""
    return (turns[0].content, turns[1:]) if turns and turns[0].role == "system" else ("", turns)


def _fields(**types: pa.DataType) -> tuple[pa.Field, ...]:
    return tuple(pa.field(name, type_) for name, type_ in types.items())


SCORE_FIELDS = tuple(STAR_DATASET.schema.field(name) for name in SCORES)
_TURNS = pa.list_(pa.struct([pa.field("from", TEXT), pa.field("value", TEXT)]))
_ALPACA = _fields(instruction=TEXT, input=TEXT, output=TEXT, system=TEXT, history=pa.list_(pa.list_(TEXT)))
FORMS = {
    "alpaca": ExportForm(_ALPACA, False, alpaca, ("system", "history")),
    "sharegpt": ExportForm(_fields(id=TEXT, conversations=_TURNS), False, sharegpt, (), _sharegpt_remarks),
    "messages": ExportForm(_fields(messages=MESSAGES), True, messages, (), _chat_remarks),
    "prompt-completion": ExportForm(
        _fields(prompt=MESSAGES, completion=MESSAGES), True, prompt_completion, (), _chat_remarks
    ),
    "preference": ExportForm(
        _fields(prompt=MESSAGES, chosen=MESSAGES, rejected=MESSAGES), True, None, (), _chat_remarks, without_margin
    ),
    "reward": ExportForm(
        _fields(prompt=MESSAGES, chosen=MESSAGES, rejected=MESSAGES, margin=FLOAT), True, None, (), _chat_remarks
    ),
    "kto": ExportForm(
        _fields(prompt=MESSAGES, completion=MESSAGES, label=pa.bool_()), True, None, (), _chat_remarks, one_by_one
    ),
}
