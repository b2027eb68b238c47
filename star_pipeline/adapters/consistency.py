"""What the tables in the lake say of what they were made from, and which of them do not belong together."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.core.errors import LakeError
from star_pipeline.core.planning.consistency import COMPARED, MADE_FROM, Misfit, fits
from star_pipeline.core.table_spec import AnyTable
from star_pipeline.core.tables import TABLES

VERSION = b"data_version"
"""In a shard's table's own metadata: names its content."""
_MADE_FROM = b"made_from"
"""Beside it, JSON: the data versions of the tables that it was made from."""


def write_with_origin(lake: Lake, spec: AnyTable, table: pa.Table, shard: str | None) -> UPath:
    """Write a table that was made of those in the lake, and what they are with it; returns its path.

    The caller holds the lake, so that they are still what it has read.
    """
    if spec.name in MADE_FROM and shard is not None:
        versions = {source: _version(lake, source, shard) for source in MADE_FROM[spec.name]}
        said = {**(table.schema.metadata or {}), _MADE_FROM: json.dumps(versions, sort_keys=True).encode()}
        table = table.replace_schema_metadata(said)
    return lake.write_table(spec, table, shard)


def misfits(lake: Lake, shard: str) -> list[Misfit]:
    """The tables of the shard that were made from others than are there now, in the order of the flow.

    A table that does not say what it was made from, as those of earlier versions, is judged by its content alone.
    """
    return list(_misfits(lake, shard))


def _misfits(lake: Lake, shard: str) -> Iterator[Misfit]:
    there = {
        name: lake.read_arrow(TABLES[name], shard, _columns(name))
        for name in dict.fromkeys(["sampling_plan", *MADE_FROM])
        if lake.has_table(TABLES[name], shard)
    }
    for name, sources in MADE_FROM.items():
        for source in (source for source in sources if name in there and source in there):
            made_from = json.loads(_said(there[name], _MADE_FROM) or "{}")
            same = source not in made_from or made_from[source] == (
                _said(there[source], VERSION) or _version(lake, source, shard)
            )
            compared = "agent_pair_probabilities" in name or fits(name, source, there[name], there[source])
            if not (same and compared):
                yield Misfit(shard, name, source, not same)


def _columns(name: str) -> list[str]:
    if name == "agent_pair_probabilities":
        return []
    compared = COMPARED.values() if name == "composite_scores" else [COMPARED[name]] if name in COMPARED else []
    return ["candidate_id", *compared]


def _said(table: pa.Table, key: bytes) -> str:
    return str((table.schema.metadata or {}).get(key, b"").decode())


def _version(lake: Lake, name: str, shard: str) -> str:
    path = lake.table(TABLES[name], shard)
    try:
        with path.open("rb") as file:
            said = (pq.read_schema(file).metadata or {}).get(VERSION)
    except (pa.ArrowInvalid, OSError) as error:
        raise LakeError(f"{path} cannot be read: {error}; remove it and run: star-pipeline run") from error
    return said.decode() if said else content_hash(lake.read_arrow(TABLES[name], shard))
