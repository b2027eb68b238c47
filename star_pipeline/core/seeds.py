"""Seed records: from the objects that a file holds to validated seeds. One function a format; errors name the field."""

from collections.abc import Mapping, Sequence
from typing import Any

from star_pipeline.core import identity
from star_pipeline.core.errors import SeedError
from star_pipeline.core.records import Message, Seed

ALPACA_FIELDS = {
    "instruction": "instruction",
    "input": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}
"""Our name -> the file's name; ``seeds.fields`` of the configuration replaces entries."""


def seed_from_alpaca(raw: Any, source: str, row: int, fields: Mapping[str, str]) -> Seed:
    """A seed from Alpaca fields: instruction, input, output; optional system and history ([user, assistant] pairs).

    A non-empty input is appended to the instruction after one newline. ``row`` counts from 1. Raises SeedError.
    """
    where = f"{source}, row {row}"
    if not isinstance(raw, Mapping):
        raise SeedError(f"{where}: a {type(raw).__name__}, expected an object with the fields {_expected(fields)}")
    names = {**ALPACA_FIELDS, **fields}
    instruction = _text(raw, names["instruction"], where, required=True)
    if not instruction.strip():
        raise SeedError(
            f"{where}, field {names['instruction']!r}: empty, expected an instruction; fill it in or remove the row"
        )
    extra = _text(raw, names["input"], where, required=False)
    response = _text(raw, names["response"], where, required=True)
    system = _text(raw, names["system"], where, required=False) or None
    history = _history(raw.get(names["history"]), f"{where}, field {names['history']!r}")
    return make_seed(
        source, row, system, history, f"{instruction}\n{extra}" if extra.strip() else instruction, response
    )


def make_seed(
    source: str, row: int, system: str | None, history: Sequence[Message], instruction: str, response: str
) -> Seed:
    """A seed under its content's name."""
    name = identity.seed_id(system, history, instruction, response)
    return Seed(name, source, row, system, tuple(history), instruction, response)


def _expected(fields: Mapping[str, str]) -> str:
    names = {**ALPACA_FIELDS, **fields}
    return f"{names['instruction']!r} and {names['response']!r}"


def _text(raw: Mapping[str, Any], field: str, where: str, required: bool) -> str:
    value = raw.get(field)
    if value is None:
        if required:
            there = ", ".join(repr(key) for key in list(raw)[:8]) or "nothing"
            raise SeedError(
                f"{where}: no field {field!r} (it holds {there}); rename it, or map it in the configuration under seeds: {{fields: …}}"
            )
        return ""
    if not isinstance(value, str):
        raise SeedError(
            f"{where}, field {field!r}: a {type(value).__name__} ({value!r:.40}), expected text; put it in quotes"
        )
    return value


def _history(value: Any, where: str) -> list[Message]:
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise SeedError(f"{where}: a {type(value).__name__}, expected a list of [user, assistant] pairs")
    turns: list[Message] = []
    for number, pair in enumerate(value, start=1):
        fits = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not fits or not all(isinstance(text, str) for text in pair):
            raise SeedError(f"{where}, turn {number}: {pair!r:.60}, expected [user text, assistant text]")
        turns += [Message("user", pair[0]), Message("assistant", pair[1])]
    return turns
