"""What a table is: its columns, checked when rows are written and when they are read back."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa

from star_pipeline.core import records
from star_pipeline.core.errors import LakeError

R = TypeVar("R")

TEXT, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
MESSAGES = pa.list_(pa.struct([pa.field("role", TEXT), pa.field("content", TEXT)]))

OPINIONS = pa.list_(
    pa.struct(
        [
            *((name, TEXT) for name in ("agent", "verdict", "verdict_first", "verdict_swapped")),
            ("flipped", BOOL),
            *((name, FLOAT) for name in ("pi_llm", "log_odds_first", "log_odds_swapped", "margin")),
            *((name, TEXT) for name in ("reply_first", "reply_swapped", "error")),
            *((name, INT) for name in ("attempts", "prompt_tokens", "completion_tokens")),
            ("cost_usd", FLOAT),
        ]
    )
)


@dataclass(frozen=True)
class Column:
    """``later``: not in the files of every earlier version, and null where it is missing."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = True
    later: bool = False


@dataclass(frozen=True)
class TableSpec(Generic[R]):
    """A table's name, the record of its rows, its columns and the columns that identify a row."""

    name: str
    record: type[R]
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, c.nullable, {"description": c.description}) for c in self.columns])

    def to_arrow(self, rows: Sequence[R]) -> pa.Table:
        """The rows as an Arrow table of exactly this schema.

        Raises LakeError, naming table, row and column, for a null where none may be and for a row whose key came before.
        """
        # Any, here and below: a column's type stands in ``columns``, and Arrow checks it
        data: dict[str, list[Any]] = {c.name: [getattr(row, c.name) for row in rows] for c in self.columns}
        data |= {
            c.name: [_plain(turns) for turns in data[c.name]] for c in self.columns if c.type in (MESSAGES, OPINIONS)
        }
        for column in self.columns:
            if not column.nullable and None in data[column.name]:
                where = data[column.name].index(None)
                raise LakeError(f"table {self.name}, row {where}, column {column.name}: null, expected {column.type}")
        seen: set[tuple[object, ...]] = set()
        for number, identity in enumerate(zip(*(data[name] for name in self.key), strict=True)):
            if identity in seen:
                raise LakeError(
                    f"table {self.name}, row {number}: {dict(zip(self.key, identity, strict=True))} is there twice"
                )
            seen.add(identity)
        try:
            return pa.Table.from_pydict(data, schema=self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise LakeError(f"table {self.name} does not fit its schema: {error}") from error

    def from_arrow(self, table: pa.Table) -> list[R]:
        """Inverse of ``to_arrow``; raises LakeError where a column is missing."""
        names = [field.name for field in dataclasses.fields(self.record)]  # type: ignore[arg-type]  # no bound says: a dataclass
        absent = {column.name for column in self.columns if column.later}.difference(table.column_names)
        missing = [name for name in names if name not in table.column_names and name not in absent]
        if missing:
            raise LakeError(
                f"table {self.name} lacks {', '.join(missing)}; it was written by another version: make it again"
            )
        types = {column.name: str(column.type) for column in self.columns}
        nulls = [None] * table.num_rows
        columns = [
            nulls if name in absent else _revived(table.column(name).to_pylist(), _REVIVE.get(types[name]))
            for name in names
        ]
        return [self.record(*row) for row in zip(*columns, strict=True)]


AnyTable = TableSpec[Any]
"""A table, whichever record its rows are: what files and columns are asked of needs no more."""


def _plain(parts: Iterable[records.Message | records.JudgeOpinion] | None) -> list[dict[str, Any]] | None:
    return None if parts is None else [dataclasses.asdict(part) for part in parts]


_Make = Callable[[Any], object]
"""Makes of a value, as Arrow gives it for the column's type, what the record holds."""


def _revived(values: list[Any], make: _Make | None) -> list[Any]:
    return [None if value is None else make(value) for value in values] if make else values


def _messages(value: Iterable[dict[str, str]]) -> tuple[records.Message, ...]:
    return tuple(records.Message(turn["role"], turn["content"]) for turn in value)


def _opinions(value: Iterable[dict[str, Any]]) -> tuple[records.JudgeOpinion, ...]:
    return tuple(records.JudgeOpinion(**opinion) for opinion in value)


_REVIVE: dict[str, _Make] = {
    str(MESSAGES): _messages,
    str(OPINIONS): _opinions,
    str(pa.list_(TEXT)): tuple,
    str(pa.list_(FLOAT)): tuple,
}
