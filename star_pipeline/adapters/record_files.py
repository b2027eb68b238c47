"""Records out of JSON, JSONL, CSV and Parquet files, one after the other, without ever holding a whole file.

A reader yields (row, record), rows counted from 1 (JSONL: lines). A record that cannot be read for itself comes as a
RowError; what spoils the whole file raises SeedError, naming the file and the place.
"""

import codecs
import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.core.errors import SeedError
from star_pipeline.core.seeds import RowError

_CHUNK = 1 << 20
_NESTED = ("history", "conversations", "messages")


def read_json_lines(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    """One JSON value a line; empty lines do not count."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                text = line.decode("utf-8")
                if text.strip():
                    yield number, json.loads(text)
            except UnicodeDecodeError as error:
                yield number, RowError(f"line {number}, byte {error.start + 1}: not UTF-8, save the file as UTF-8")
            except json.JSONDecodeError as error:
                yield number, RowError(f"line {number}, column {error.colno}: no valid JSON ({error.msg})")


def read_json(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    """The elements of one JSON list."""
    stream = _JsonStream(path, source)
    opening = stream.skip_to_token()
    if opening == "":
        raise SeedError(f"{source}: the file is empty, expected a JSON list of records; fill it or remove it")
    if opening != "[":
        value = stream.value()
        hint = "; it looks like one record a line: name it .jsonl" if stream.skip_to_token() else ""
        raise SeedError(f"{source}: a JSON {type(value).__name__}, expected a list of records{hint}")
    stream.step()
    row = 0
    while (token := stream.skip_to_token()) != "]":
        if row:
            if token != ",":
                stream.fail("Expecting ',' or ']'")
            stream.step()
        row += 1
        yield row, stream.value()
    stream.step()
    if stream.skip_to_token():
        stream.fail("Extra data")


def read_csv(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    """Rows under the header as objects; cells of nested fields hold JSON, or nothing."""
    csv.field_size_limit(1 << 30)
    with path.open("rb") as raw:
        lines = _decoded_lines(raw, source)
        try:
            rows = csv.reader(lines)
            header = [name.strip() for name in next(rows, [])]
            if not any(header):
                raise SeedError(f"{source}: the file is empty, expected a header with the names of the columns")
            for number, cells in enumerate((cells for cells in rows if cells), start=1):
                if len(cells) != len(header):
                    yield (
                        number,
                        RowError(
                            f"{len(cells)} cells, expected {len(header)} as in the header; quote cells with commas"
                        ),
                    )
                else:
                    yield number, _with_nested(dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise SeedError(f"{source}, line {rows.line_num}: no valid CSV ({error}); mend the file") from error


def read_parquet(path: UPath, source: str) -> Iterator[tuple[int, Any]]:
    """Rows as objects."""
    try:
        with path.open("rb") as file:
            row = 0
            for batch in pq.ParquetFile(file).iter_batches(1024, use_threads=False):  # see arrow_table
                for record in batch.to_pylist():
                    row += 1
                    yield row, record
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SeedError(f"{source}: no valid Parquet ({error}); write the file again") from error


READERS: dict[str, Callable[[UPath, str], Iterator[tuple[int, Any]]]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


class _JsonStream:
    """A JSON text read in pieces; ``fail`` names line and column of the present place."""

    def __init__(self, path: UPath, source: str) -> None:
        self._file = path.open("rb")
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._line, self._column = "", 0, 1, 1
        self._ended = False

    def _more(self, size: int = _CHUNK) -> None:
        """Read on, until the file has ended."""
        self._advance_position()
        data = self._file.read(size)
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line + self._buffer.count("\n") + data[: max(error.start, 0)].count(b"\n")
            raise SeedError(f"{self._source}, line {line}: a byte that is not UTF-8; save the file as UTF-8") from error
        self._buffer += text
        if not data:
            self._ended = True
            self._file.close()

    def _advance_position(self) -> None:
        """Forget what has been read, keeping count of lines and columns."""
        done = self._buffer[: self._at]
        lines = done.count("\n")
        self._line += lines
        self._column = len(done) - done.rfind("\n") if lines else self._column + len(done)
        self._buffer, self._at = self._buffer[self._at :], 0

    def skip_to_token(self) -> str:
        """The next character that is no space, not yet taken; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if not self._buffer[self._at].isspace():
                    return self._buffer[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def step(self) -> None:
        self._at += 1

    def value(self) -> Any:
        """The next JSON value. Reads on, in pieces twice as large each time, until it is whole."""
        self.skip_to_token()
        size = _CHUNK
        while True:
            try:
                value, end = self._scan(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._at = error.pos
                    self.fail(error.msg)
            else:
                if self._ended or end < len(self._buffer):  # a number may go on in the next piece
                    self._at = end
                    return value
            self._more(size)
            size *= 2

    def fail(self, reason: str) -> None:
        self._advance_position()
        raise SeedError(
            f"{self._source}, line {self._line}, column {self._column}: no valid JSON ({reason}); mend the file"
        )


def _decoded_lines(raw: Any, source: str) -> Iterator[str]:
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SeedError(
                f"{source}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
            ) from error


def _with_nested(record: dict[str, Any]) -> dict[str, Any]:
    for name in _NESTED:
        if not record.get(name, "x"):
            del record[name]
        if str(record.get(name, "")).lstrip().startswith("["):
            try:
                record[name] = json.loads(record[name])
            except json.JSONDecodeError:
                continue  # stays text, and is refused as such with its field's name
    return record
