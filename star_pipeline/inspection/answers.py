"""Answers of DuckDB in the forms that programs read. Every form keeps every value, as exactly as DuckDB has it."""

import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow.parquet as pq

if TYPE_CHECKING:
    # here, since DuckDB complains of leaks at exit when it is imported before the models
    import duckdb
    from duckdb.sqltypes import DuckDBPyType

NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|BIGNUM")
"""Types that stand at the right of a column."""
_NESTED = ("list", "array", "struct", "map", "union")
# what Arrow would round, or Parquet does not know: as text. DECIMAL(38,0) holds all that a sum of integers can come to
_NOT_IN_PARQUET = {"hugeint": "DECIMAL(38,0)", "uhugeint": "VARCHAR", "bignum": "VARCHAR", "interval": "VARCHAR"}
_NOT_IN_PARQUET |= {"time with time zone": "VARCHAR", "bit": "VARCHAR", "union": "VARCHAR"}
_TEXT_OR_NO_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"|-?(?:NaN|Infinity)')


def write_csv(answer: "duckdb.DuckDBPyRelation", file: BinaryIO) -> None:
    """A header, then a row a line. An empty cell is null, ``""`` an empty text; lists and structs are JSON."""
    columns = [f"to_json({name})" if kind.id in _NESTED else name for name, kind in _columns(answer)]
    with _copied(_projected(answer, columns), "FORMAT csv, HEADER") as lines:
        file.writelines(lines)


def write_json(answer: "duckdb.DuckDBPyRelation", file: BinaryIO) -> None:
    """One list, an object a row. JSON knows no NaN and no infinity: they are the texts ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    with _copied(answer, "FORMAT json, ARRAY true") as lines:
        for line in lines:
            said = line.decode()
            if "NaN" in said or "Infinity" in said:
                said = _TEXT_OR_NO_NUMBER.sub(lambda found: found[0] if found[0][0] == '"' else f'"{found[0]}"', said)
            file.write(said.encode())


def write_parquet(answer: "duckdb.DuckDBPyRelation", file: BinaryIO) -> None:
    """Columns of their own types; those that Parquet has no type for are texts, huge integers decimals."""
    import duckdb

    try:
        table = _lasting(answer, _NOT_IN_PARQUET).to_arrow_table()
    except duckdb.ConversionException:  # an integer of 39 digits
        table = _lasting(answer, {**_NOT_IN_PARQUET, "hugeint": "VARCHAR"}).to_arrow_table()
    sink = io.BytesIO()  # Parquet's footer needs a file that knows its place
    pq.write_table(table, sink)
    file.write(sink.getbuffer())


WRITERS: dict[str, Callable[["duckdb.DuckDBPyRelation", BinaryIO], None]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
}


def for_eyes(answer: "duckdb.DuckDBPyRelation") -> "duckdb.DuckDBPyRelation":
    """The answer with floating-point numbers as they are, and everything else as the text that DuckDB or JSON has for it."""
    columns = []
    for name, kind in _columns(answer):
        text = f"to_json({name})" if kind.id in _NESTED else name
        columns.append(name if kind.id in ("float", "double") else f"CAST({text} AS VARCHAR)")
    return _projected(answer, columns)


def distinct(answer: "duckdb.DuckDBPyRelation") -> "duckdb.DuckDBPyRelation":
    """The answer, a number behind every name that an earlier column has (in whatever case), as DuckDB itself numbers them."""
    return answer.project("*")


def _columns(answer: "duckdb.DuckDBPyRelation") -> list[tuple[str, "DuckDBPyType"]]:
    """(quoted name, type) of each column."""
    return [(_quoted(name), kind) for name, kind in zip(answer.columns, answer.types, strict=True)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _projected(answer: "duckdb.DuckDBPyRelation", columns: Sequence[str]) -> "duckdb.DuckDBPyRelation":
    named = zip(columns, answer.columns, strict=True)
    return answer.project(", ".join(f"{column} AS {_quoted(name)}" for column, name in named))


def _lasting(answer: "duckdb.DuckDBPyRelation", other: dict[str, str]) -> "duckdb.DuckDBPyRelation":
    columns = []
    for name, kind in _columns(answer):
        kept = _kept(kind, other)
        if kind.id == "union":
            name, kind = f"to_json({name})", "JSON"
        columns.append(name if kept == str(kind) else f"CAST({name} AS {kept})")
    return _projected(answer, columns)


def _kept(kind: "DuckDBPyType", other: dict[str, str]) -> str:
    """The type with those of its parts replaced that ``other`` names."""
    if kind.id in other:
        return other[kind.id]
    if kind.id not in _NESTED:
        return str(kind)
    parts = dict(kind.children)
    if kind.id == "struct":
        return "STRUCT(" + ", ".join(f"{_quoted(name)} {_kept(part, other)}" for name, part in parts.items()) + ")"
    if kind.id == "map":
        return f"MAP({_kept(parts['key'], other)}, {_kept(parts['value'], other)})"
    return f"{_kept(parts['child'], other)}[{parts.get('size', '')}]"


@contextmanager
def _copied(answer: "duckdb.DuckDBPyRelation", options: str) -> Iterator[Iterator[bytes]]:
    """The lines of the file that DuckDB writes."""
    with tempfile.TemporaryDirectory(prefix="star-query-") as folder:
        target = Path(folder) / "answer"
        answer.query("answer", f"COPY (FROM answer) TO '{str(target).replace(chr(39), chr(39) * 2)}' ({options})")
        with target.open("rb") as lines:
            yield lines


def print_answer(answer: "duckdb.DuckDBPyRelation", form: str) -> None:
    """To standard output, in one of WRITERS; what was renamed is told on standard error."""
    named = distinct(answer)
    renamed = [name for name, before in zip(named.columns, answer.columns, strict=True) if name != before]
    sys.stdout.flush()
    WRITERS[form](named, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    if renamed:
        print(f"(columns of one name: the later ones are called {', '.join(renamed)})", file=sys.stderr)
