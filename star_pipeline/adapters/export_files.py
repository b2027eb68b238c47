"""Records into JSONL, JSON and Parquet files, as they come, without ever holding a whole file."""

import gzip
import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from star_pipeline.adapters.lake import whole_file
from star_pipeline.core.aliases import JsonObject

Records = Iterable[JsonObject]

_ROW_GROUP = 4096
# JSON may hold these as they are, but str.splitlines would end a line there
_LINE_ENDS = str.maketrans({character: f"\\u{ord(character):04x}" for character in "\u0085\u2028\u2029"})


def write_json_lines(file: BinaryIO, records: Records, schema: pa.Schema) -> None:
    """One JSON object a line, in UTF-8."""
    file.writelines(_encoded(record) + b"\n" for record in records)


def write_json(file: BinaryIO, records: Records, schema: pa.Schema) -> None:
    """One JSON list, an object a line, in UTF-8."""
    before = b"[\n"
    for record in records:
        file.write(before + _encoded(record))
        before = b",\n"
    file.write((before if before == b"[\n" else b"\n") + b"]\n")


def write_parquet(file: BinaryIO, records: Records, schema: pa.Schema) -> None:
    """Parquet of exactly this schema, in row groups of a few thousand records."""
    rest = iter(records)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while chunk := list(islice(rest, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


WRITERS: dict[str, Callable[[BinaryIO, Records, pa.Schema], None]] = {
    ".jsonl": write_json_lines,
    ".json": write_json,
    ".parquet": write_parquet,
}
ENDINGS = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
"""What names of files that can be written end in."""


def ending_of(name: str) -> str | None:
    """The one of ENDINGS that the name ends in, in whatever case; None where it is none of them."""
    return next((ending for ending in ENDINGS if name.lower().endswith(ending)), None)


def write_records(path: Path, records: Records, schema: pa.Schema) -> None:
    """Write a file whole or not at all, in the form that its name's ending says. Raises LakeError where it cannot be written.

    The same records make the same bytes.
    """
    ending = ending_of(path.name) or ""
    write = WRITERS[ending.removesuffix(".gz")]
    with whole_file(path) as file:
        if ending.endswith(".gz"):
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                write(cast(BinaryIO, packed), records, schema)
        else:
            write(file, records, schema)


def _encoded(record: JsonObject) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS).encode()
