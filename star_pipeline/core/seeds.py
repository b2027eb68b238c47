"""What a seed is, whatever the file it came from: validated, and named by its content."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_pipeline.core import identity
from star_pipeline.core.errors import SeedError
from star_pipeline.core.records import Message, RejectedRow, Seed
from star_pipeline.core.seed_formats import BadRecord, Format, Parts, detect


def make_seed(
    source: str, row: int, system: str | None, history: Sequence[Message], instruction: str, response: str
) -> Seed:
    """A seed under its content's name."""
    name = identity.seed_id(system, history, instruction, response)
    return Seed(name, source, row, system, tuple(history), instruction, response)


@dataclass(frozen=True)
class RowError:
    """A record that could not even be read (a broken line, say), in the place of one."""

    reason: str


def seeds_of(
    records: Iterator[tuple[int, Any]],
    source: str,
    fields: Mapping[str, str],
    skip_bad_rows: bool,
    empty_instructions: bool = False,
) -> Iterator[Seed | RejectedRow]:
    """The seeds of one file's (row, record) pairs; rows count from 1. The format is that of the first record that has one.

    A record that is no seed raises SeedError, naming file, row and field, or with ``skip_bad_rows`` comes as a RejectedRow.
    """
    form: Format | None = None
    for row, raw in records:
        try:
            if isinstance(raw, RowError):
                raise BadRecord(None, raw.reason)
            form = form or detect(raw, fields)
            yield _seed(form.read(raw, fields), source, row, empty_instructions)
        except BadRecord as bad:
            where = f"{source}, row {row}" + (f", field {bad.field!r}" if bad.field else "")
            if not skip_bad_rows:
                raise SeedError(
                    f"{where}: {bad}; mend the row, or leave such rows out with seeds: {{on_bad_row: skip}}"
                ) from bad
            yield RejectedRow(source, row, f"field {bad.field!r}: {bad}" if bad.field else str(bad))


def _seed(parts: Parts, source: str, row: int, empty_instructions: bool) -> Seed:
    if not (empty_instructions or parts.instruction.strip()):
        raise BadRecord(parts.instruction_field, "empty, expected an instruction")
    texts = (parts.system or "", parts.instruction, parts.response, *(turn.content for turn in parts.history))
    if not all(identity.is_unicode(text) for text in texts):
        raise BadRecord(None, "holds half a character (a lone surrogate such as \\ud83d), expected whole ones")
    return make_seed(source, row, parts.system, parts.history, parts.instruction, parts.response)
