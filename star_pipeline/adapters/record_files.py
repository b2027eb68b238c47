"""Records out of JSON, JSONL, CSV and Parquet files, one after the other, without ever holding a whole file.

A reader yields (row, record), rows counted from 1 (JSONL: lines). A record that cannot be read for itself comes as a
RowError; what spoils the whole file raises SeedError, naming the file and the place.
"""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.json_text import parse, parse_from
from star_pipeline.core.intake.seeds import RowError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_CHUNK = 1 << 20
_NESTED = ("history", "conversations", "messages")
_TOO_DEEP = "nested too deeply to be read"
_BAD_VALUES = (ValueError, OverflowError, LookupError, pa.ArrowException)
"""What Arrow and Python say of a value that Python cannot hold: bytes that are no UTF-8, a date beyond year 9999, a time zone."""


class Digest(Protocol):
    """A hash of ``hashlib``."""

    def update(self, data: bytes, /) -> None: ...


def read_records(
    path: UPath, source: str, names: Mapping[str, str], digest: Digest | None = None
) -> Iterator[tuple[int, object]]:
    """The records of a file whose name ends in one of ENDINGS, unpacked where that says so.

    ``names`` maps our names of the fields to the file's; a format that can read columns by themselves reads no others.
    ``digest`` is fed with the file's bytes, all of them once the last record has been read.
    """
    ending = ending_of(path.name) or ""
    packing = next((packing for packing in PACKINGS if ending.endswith(packing)), None)
    try:
        with path.open("rb") as raw:
            told = _telling(raw, digest, ending) if digest else raw
            file = PACKINGS[packing](told) if packing else told
            yield from READERS[ending.removesuffix(packing or "")](file, source, names)
            while digest and told.read(_CHUNK):  # what stands behind the last record
                pass
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = (
            f"cannot be unpacked or read ({reason}); pack it again"
            if packing
            else f"cannot be read ({reason}); mend it"
        )
        raise SeedError(f"{source}: {what}, or its permissions") from error


def _telling(raw: BinaryIO, digest: Digest, ending: str) -> BinaryIO:
    """The file, which tells ``digest`` of what is read of it; of a Parquet file, in which a reader jumps about, at once."""
    if ending != ".parquet":
        return io.BufferedReader(_Telling(raw, digest), _CHUNK)
    while piece := raw.read(_CHUNK):
        digest.update(piece)
    raw.seek(0)
    return raw


class _Telling(io.RawIOBase):
    def __init__(self, raw: BinaryIO, digest: Digest) -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        piece = self._raw.read(len(view))
        self._digest.update(piece)
        view[: len(piece)] = piece
        return len(piece)


def read_json_lines(file: BinaryIO, source: str, names: Mapping[str, str]) -> Iterator[tuple[int, object]]:
    """One JSON value a line; empty lines do not count."""
    for number, line in enumerate(file, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            text = line.decode("utf-8")
            if text.strip():
                yield number, parse(text)
        except UnicodeDecodeError as error:
            yield number, RowError(f"line {number}, byte {error.start + 1}: not UTF-8, save the file as UTF-8")
        except json.JSONDecodeError as error:
            yield number, RowError(f"line {number}, column {error.colno}: no valid JSON ({error.msg})")
        except RecursionError:
            yield number, RowError(f"line {number}: {_TOO_DEEP}")


def read_json(file: BinaryIO, source: str, names: Mapping[str, str]) -> Iterator[tuple[int, object]]:
    """The elements of one JSON list."""
    stream = _JsonStream(file, source)
    opening = stream.skip_to_token()
    if opening == "":
        raise SeedError(f"{source}: the file is empty, expected a JSON list of records; fill it or remove it")
    if opening != "[":
        value = stream.value()
        kind = f"something {value.reason}" if isinstance(value, RowError) else f"a JSON {type(value).__name__}"
        hint = "; it looks like one record a line: name it .jsonl" if stream.skip_to_token() else ""
        raise SeedError(f"{source}: {kind}, expected a list of records{hint}")
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


def read_csv(file: BinaryIO, source: str, names: Mapping[str, str]) -> Iterator[tuple[int, object]]:
    """Rows under the header as objects, without the nested fields that a row leaves empty."""
    csv.field_size_limit(1 << 30)
    nested = [names[field] for field in _NESTED]
    try:
        rows = csv.reader(_decoded_lines(file, source))
        header = [name.strip() for name in next(rows, [])]
        if not any(header):
            raise SeedError(f"{source}: the file is empty, expected a header with the names of the columns")
        _require_distinct([name for name in header if name], source)
        for number, cells in enumerate((cells for cells in rows if cells), start=1):
            if len(cells) != len(header):
                problem = f"{len(cells)} cells, expected {len(header)} as in the header; quote cells with commas"
                yield number, RowError(problem)
                continue
            record = dict(zip(header, cells, strict=True))
            for name in nested:
                if record.get(name) == "":
                    del record[name]
            yield number, record
    except csv.Error as error:
        raise SeedError(f"{source}, line {rows.line_num}: no valid CSV ({error}); mend the file") from error


def read_parquet(file: BinaryIO, source: str, names: Mapping[str, str]) -> Iterator[tuple[int, object]]:
    """Rows as objects. Of columns that ``names`` does not name the records hold the name alone."""
    try:
        table = pq.ParquetFile(file)
        there = table.schema_arrow.names
        _require_distinct(there, source)
        blank = dict.fromkeys(there)
        row = 0
        for batch in table.iter_batches(1024, columns=_wanted(there, names), use_threads=False):  # see arrow_table
            for record in _rows_of(batch):
                row += 1
                yield row, record if isinstance(record, RowError) else {**blank, **record}
    except (*_BAD_VALUES, OSError) as error:
        said = " ".join(str(error).split())
        raise SeedError(f"{source}: no valid Parquet ({said}); write the file again") from error


def _wanted(there: Collection[str], names: Mapping[str, str]) -> list[str]:
    """The columns to read; one of the others where there is none, since the rows have to be counted."""
    return [name for name in there if name in names.values()] or list(there)[:1]


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, object] | RowError]:
    try:
        yield from batch.to_pylist()
        return
    except _BAD_VALUES:
        pass
    for place in range(batch.num_rows):
        yield _row_of(batch, place)


def _row_of(batch: pa.RecordBatch, place: int) -> dict[str, object] | RowError:
    record = {}
    for name in batch.schema.names:
        try:
            record[name] = batch.column(name)[place].as_py()
        except _BAD_VALUES as error:
            return RowError(f"field {name!r}: a value that cannot be read ({' '.join(str(error).split()):.200})")
    return record


def _require_distinct(names: Collection[str], source: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SeedError(
            f"{source}: more than one column named {', '.join(map(repr, twice))}, and nothing says which is meant; "
            "expected each name once, rename or remove the others"
        )


def _unzstd(raw: BinaryIO) -> BinaryIO:
    return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))


Reader = Callable[[BinaryIO, str, Mapping[str, str]], Iterator[tuple[int, object]]]
READERS: dict[str, Reader] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
PACKINGS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),  # it reads as one, typeshed only does not say so
    ".zst": _unzstd,
}
ENDINGS = (*READERS, *(form + packing for packing in PACKINGS for form in READERS if form != ".parquet"))
"""What names of seed files end in, in whatever case."""


def ending_of(name: str) -> str | None:
    """The one of ENDINGS that a file's name ends in; None where it is none of them."""
    return next((ending for ending in ENDINGS if name.lower().endswith(ending)), None)


_TEXT_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[][{}]', re.DOTALL)


class _JsonStream:
    """A JSON text read in pieces; ``fail`` names line and column of the present place."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
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

    def value(self) -> object:
        """The next JSON value, a RowError in the place of one that is nested too deeply.

        Reads on, in pieces twice as large each time, until it is whole.
        """
        self.skip_to_token()
        size = _CHUNK
        while True:
            try:
                value, end = parse_from(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._at = error.pos
                    self.fail(error.msg)
            except RecursionError:
                if (behind := self._behind_brackets()) is not None:
                    self._at = behind
                    return RowError(_TOO_DEEP)
                if self._ended:
                    self.fail(_TOO_DEEP)
            else:
                if self._ended or end < len(self._buffer):  # a number may go on in the next piece
                    self._at = end
                    return value
            self._more(size)
            size *= 2

    def _behind_brackets(self) -> int | None:
        """Where the value that begins here ends, told by its brackets alone; None where that is not in the buffer."""
        depth = 0
        for token in _TEXT_OR_BRACKET.finditer(self._buffer, self._at):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if depth == 0:
                return token.end()
        return None

    def fail(self, reason: str) -> None:
        self._advance_position()
        raise SeedError(
            f"{self._source}, line {self._line}, column {self._column}: no valid JSON ({reason}); mend the file"
        )


def _decoded_lines(raw: BinaryIO, source: str) -> Iterator[str]:
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SeedError(
                f"{source}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
            ) from error
