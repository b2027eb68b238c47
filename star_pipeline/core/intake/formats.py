"""The forms that seed records come in: Alpaca fields, ShareGPT conversations, OpenAI messages. One reader each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Literal, get_args

from star_pipeline.core.intake.json_text import Repeated, parse
from star_pipeline.core.records import Message

SeedField = Literal["instruction", "input", "response", "system", "history", "conversations", "messages"]
"""Our names of what a record holds."""
DEFAULT_FIELDS: Mapping[str, str] = {name: name for name in get_args(SeedField)} | {"response": "output"}
"""Our name -> the file's name; ``seeds.fields`` of the configuration replaces entries."""

ROLES = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bard": "assistant",
    "bing": "assistant",
}
_SPEAKER, _TEXT = ("from", "role"), ("value", "content")
"""What the parts of a turn are called: ShareGPT's names, and OpenAI's. Files mix them, so each turn may have either."""


class BadRecord(Exception):
    """A record is no seed; ``field`` names the field at fault, None where it is the record as a whole."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True)
class Parts:
    """A record taken apart; ``field_of`` tells where message n of the conversation stood in it, system prompt not counted."""

    system: str | None
    history: tuple[Message, ...]
    instruction: str
    response: str
    field_of: Callable[[int], str]

    @property
    def instruction_field(self) -> str:
        return self.field_of(len(self.history))

    def every_turn(self) -> Iterator["Parts"]:
        """One for each answer that follows a user's turn, in order, with all that came before it as history.

        The last one is the record itself. A greeting of the assistant, and a user's turn that another one follows, are
        history alone.
        """
        said = (*self.history, Message("user", self.instruction), Message("assistant", self.response))
        for place, (asked, answer) in enumerate(pairwise(said)):
            if (asked.role, answer.role) == ("user", "assistant"):
                yield Parts(self.system, said[:place], asked.content, answer.content, self.field_of)


@dataclass(frozen=True)
class Format:
    name: str
    read: Callable[[object, Mapping[str, str]], Parts]


def detect(raw: object, fields: Mapping[str, str]) -> Format:
    """The format of a record, told by its fields. Raises BadRecord where it is none that is known."""
    names = {**DEFAULT_FIELDS, **fields}
    record = _object(raw)
    if "instruction" not in fields:
        for form in ("messages", "conversations"):
            if names[form] in record:
                return FORMATS["messages" if form == "messages" else "sharegpt"]
    if names["instruction"] in record:
        return FORMATS["alpaca"]
    raise BadRecord(
        None,
        f"none of the fields {names['instruction']!r}, {names['conversations']!r}, {names['messages']!r} is there (it holds "
        f"{_held(record)}); name yours in the configuration, such as seeds: {{fields: {{instruction: …, response: …}}}}",
    )


def read_alpaca(raw: object, fields: Mapping[str, str]) -> Parts:
    """instruction, input, output, and optionally system and history ([user, assistant] pairs).

    A non-empty input is appended to the instruction after one newline.
    """
    names = {**DEFAULT_FIELDS, **fields}
    record = _object(raw)
    instruction = _text(record, names["instruction"], required=True)
    used = {names["instruction"], names["response"]}
    extra = "" if names["input"] in used else _text(record, names["input"], required=False)
    history = _pairs(record.get(names["history"]), names["history"])
    return Parts(
        system=_text(record, names["system"], required=False) or None,
        history=history,
        instruction=f"{instruction}\n{extra}" if extra.strip() else instruction,
        response=_text(record, names["response"], required=True),
        field_of=lambda n: f"{names['history']}[{n // 2}]" if n < len(history) else names["instruction"],
    )


def read_sharegpt(raw: object, fields: Mapping[str, str]) -> Parts:
    """``conversations``: turns with ``from`` and ``value``, or ``role`` and ``content``; an optional ``system`` beside them."""
    return _read_turns(raw, fields, "conversations")


def read_messages(raw: object, fields: Mapping[str, str]) -> Parts:
    """``messages``: turns with ``role`` and ``content`` (text, or a list of text parts), or ``from`` and ``value``."""
    return _read_turns(raw, fields, "messages")


FORMATS = {
    "alpaca": Format("alpaca", read_alpaca),
    "sharegpt": Format("sharegpt", read_sharegpt),
    "messages": Format("messages", read_messages),
}


def _read_turns(raw: object, fields: Mapping[str, str], form: str) -> Parts:
    names = {**DEFAULT_FIELDS, **fields}
    record, field = _object(raw), names[form]
    turns = _nested(record.get(field))
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise BadRecord(
            field, f"{_kind(turns)}, expected a list of turns with 'role' and 'content', or 'from' and 'value'"
        )
    if not turns:
        raise BadRecord(field, "no turns, expected at least one of the user and one of the assistant")
    messages = [_turn(turn, f"{field}[{number}]", form) for number, turn in enumerate(turns)]
    system = _text(record, names["system"], required=False) or None
    if messages[0].role == "system":
        system, messages = messages[0].content or system, messages[1:]
    if any(message.role == "system" for message in messages):
        raise BadRecord(field, "a system turn after the first turn; expected it first or nowhere")
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise BadRecord(
            field, "ends with the user's turn: there is no response" if messages else "holds a system turn alone"
        )
    if messages[-2].role != "user":
        raise BadRecord(field, "the last response follows no turn of the user")
    before = len(turns) - len(messages)
    return Parts(
        system,
        tuple(messages[:-2]),
        messages[-2].content,
        messages[-1].content,
        field_of=lambda n: f"{field}[{before + n}]",
    )


def _turn(turn: object, where: str, form: str) -> Message:
    usual = 0 if form == "conversations" else 1
    if not isinstance(turn, Mapping):
        raise BadRecord(where, f"{_kind(turn)}, expected an object with {_SPEAKER[usual]!r} and {_TEXT[usual]!r}")
    if isinstance(turn, Repeated):
        raise BadRecord(f"{where}.{turn.field}", "there twice, and nothing says which is meant; expected it once")
    role_key, text_key = (_held_key(turn, keys, usual) for keys in (_SPEAKER, _TEXT))
    said = turn.get(role_key)
    if not isinstance(said, str) or said not in ROLES:
        expected = ", ".join(sorted(ROLES))
        raise BadRecord(f"{where}.{role_key}", f"role {_shown(said)} cannot be used; expected one of {expected}")
    if turn.get("tool_calls"):
        raise BadRecord(f"{where}.tool_calls", "tool calls cannot be used; expected text alone")
    text = turn.get(text_key)
    if isinstance(text, Sequence) and not isinstance(text, str):
        if not all(
            isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in text
        ):
            raise BadRecord(f"{where}.{text_key}", "holds a part that is no text; expected text alone")
        text = "".join(part["text"] for part in text)
    if not isinstance(text, str):
        raise BadRecord(f"{where}.{text_key}", f"{_kind(text)}, expected text")
    return Message(ROLES[said], text)


def _held_key(turn: Mapping[str, object], keys: tuple[str, str], usual: int) -> str:
    """The one of two keys that the turn has a value under (Parquet gives every turn all keys); the form's own in doubt."""
    other = keys[1 - usual]
    return other if turn.get(keys[usual]) is None and turn.get(other) is not None else keys[usual]


def _nested(value: object) -> object:
    """A list that stands as JSON in a text, as in cells of CSV files; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return parse(value)
        except (ValueError, RecursionError):
            pass  # stays text, and is refused as such with its field's name
    return value


def _object(raw: object) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise BadRecord(None, f"{_kind(raw)}, expected an object with fields")
    if isinstance(raw, Repeated):
        raise BadRecord(raw.field, "there twice, and nothing says which is meant; expected it once")
    return raw


def _text(record: Mapping[str, object], field: str, required: bool) -> str:
    value = record.get(field)
    if value is None:
        if required:
            raise BadRecord(
                field, f"missing (the record holds {_held(record)}); rename it, or map it under seeds: {{fields: …}}"
            )
        return ""
    if not isinstance(value, str):
        raise BadRecord(field, f"{_kind(value)} ({_shown(value)}), expected text")
    return value


def _pairs(value: object, field: str) -> tuple[Message, ...]:
    value = _nested(value)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRecord(field, f"{_kind(value)}, expected a list of [user, assistant] pairs")
    turns: list[Message] = []
    for number, pair in enumerate(value):
        fits = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not fits or not all(isinstance(text, str) for text in pair):
            raise BadRecord(f"{field}[{number}]", f"{_shown(pair, 60)}, expected [user text, assistant text]")
        turns += [Message("user", pair[0]), Message("assistant", pair[1])]
    return tuple(turns)


def _held(record: Mapping[str, object]) -> str:
    return ", ".join(map(_shown, list(record)[:8])) or "nothing"


def _shown(value: object, most: int = 40) -> str:
    """How Python writes a value, cut; a kind where it cannot, as for a list that is nested a thousand times."""
    try:
        return f"{value!r:.{most}}"
    except (RecursionError, ValueError):
        return _kind(value)


_KINDS = {
    str: "text",
    int: "a number",
    float: "a number",
    Decimal: "a number",
    bool: "true or false",
    type(None): "nothing",
    list: "a list",
    dict: "an object",
    Repeated: "an object",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")
