"""What a seed is, whatever the file it came from: validated, and named by its content."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from star_pipeline.core import identity
from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.formats import BadRecord, Format, Parts, detect
from star_pipeline.core.records import Message, RejectedRow, Seed


def make_seed(
    source: str, row: int, system: str | None, history: Sequence[Message], instruction: str, response: str
) -> Seed:
    """A seed under its content's name."""
    name = identity.seed_id(system, history, instruction, response)
    return Seed(name, source, row, system, tuple(history), instruction, response)


Turns = Literal["last", "every"]


@dataclass(frozen=True)
class SeedRules:
    """How seed files are read: ``fields`` maps our names to the files'. ``turns``: of a conversation the last answer is a seed,
    or every answer is. ``skip_bad_rows``: what is no seed comes as a RejectedRow instead of raising."""

    fields: Mapping[str, str] = field(default_factory=dict)
    skip_bad_rows: bool = False
    turns: Turns = "last"
    empty_instructions: bool = False


@dataclass(frozen=True)
class RowError:
    """A record that could not even be read (a broken line, say), in the place of one."""

    reason: str


def seeds_of(records: Iterator[tuple[int, object]], source: str, rules: SeedRules) -> Iterator[Seed | RejectedRow]:
    """The seeds of one file's (row, record) pairs, by row and turn; rows count from 1.

    The format is that of the first record that has one. A record that is no seed raises SeedError, naming file, row and
    field, or is skipped as ``rules`` say. Where every turn is a seed, one whose question is empty is left out by itself.
    """
    form: Format | None = None
    for row, raw in records:
        try:
            if isinstance(raw, RowError):
                raise BadRecord(None, raw.reason)
            form = form or detect(raw, rules.fields)
            parts = _whole(form.read(raw, rules.fields))
        except BadRecord as bad:
            yield _rejected(bad, source, row, rules)
            continue
        for turn in parts.every_turn() if rules.turns == "every" else (parts,):
            if rules.empty_instructions or turn.instruction.strip():
                yield make_seed(source, row, turn.system, turn.history, turn.instruction, turn.response)
            else:
                yield _rejected(BadRecord(turn.instruction_field, "empty, expected an instruction"), source, row, rules)


def _rejected(bad: BadRecord, source: str, row: int, rules: SeedRules) -> RejectedRow:
    """Raises SeedError unless bad rows are to be skipped."""
    if not rules.skip_bad_rows:
        where = f"{source}, row {row}" + (f", field {bad.field!r}" if bad.field else "")
        raise SeedError(
            f"{where}: {bad}; mend the row, or leave such rows out with seeds: {{on_bad_row: skip}}"
        ) from bad
    return RejectedRow(source, row, f"field {bad.field!r}: {bad}" if bad.field else str(bad))


def _whole(parts: Parts) -> Parts:
    texts = (parts.system or "", parts.instruction, parts.response, *(turn.content for turn in parts.history))
    if not all(identity.is_unicode(text) for text in texts):
        raise BadRecord(None, "holds half a character (a lone surrogate such as \\ud83d), expected whole ones")
    return parts
