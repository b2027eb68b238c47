"""The manifest beside the final data set: what it was made from, so that a file can be traced to its run."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.records import AgentSpend, CatalogEntry, LeftOutRow, StarRow

FORMAT = 1
_PRIVATE = {"api_base", "base_url", "api_key_env"}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)


@dataclass(frozen=True)
class TableSource:
    """A table's file: its SHA-256, and the configuration that made it; ``settings`` is JSON, None where it was not kept."""

    sha256: str
    fingerprint: str
    name: str
    settings: str | None


@dataclass(frozen=True)
class ShardOrigin:
    """A shard's tables by their names, and the snapshot after it; None where it has none yet."""

    shard: str
    snapshot_id: str | None
    tables: Mapping[str, TableSource]


@dataclass(frozen=True)
class Configuration:
    """A configuration that made ``tables`` of the shards; ``settings`` without addresses, None where they were not kept."""

    fingerprint: str
    name: str
    settings: JsonMapping | None
    tables: int


def configurations(shards: Sequence[ShardOrigin]) -> list[Configuration]:
    """The configurations that made the shards, the one that made most first; without addresses of servers."""
    made: Counter[tuple[str, str]] = Counter()
    settings: dict[tuple[str, str], str | None] = {}
    for shard in shards:
        for table in shard.tables.values():
            named = (table.fingerprint, table.name)
            made[named] += 1
            settings[named] = settings.get(named) or table.settings
    return [
        Configuration(*named, public(json.loads(found)) if (found := settings[named]) else None, count)
        for named, count in sorted(made.items(), key=lambda item: (-item[1], item[0]))
    ]


def public(settings: JsonMapping) -> JsonObject:
    """Settings without addresses of servers, names of keys and folders: the data may be published, these are the team's own.

    A model in a folder is named by the folder's own name. The user's prompts stay as they are.
    """
    return {name: value if name == "prompts" else _public(value) for name, value in settings.items()}


def _public(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _public(inner) for name, inner in value.items() if name not in _PRIVATE}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    if isinstance(value, str) and _ADDRESS.search(value):
        return "(address left out)"
    if isinstance(value, str) and re.match(r"(/|~|\.\.?/|[A-Za-z]:\\)", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def manifest(
    *,
    name: str,
    lake_id: str,
    schema: pa.Schema,
    rows: Sequence[StarRow],
    left_out: Sequence[LeftOutRow],
    dataset: JsonMapping,
    dataset_fingerprint: str,
    shards: Sequence[ShardOrigin],
    sources: Mapping[str, str],
    entries: Mapping[str, CatalogEntry],
    spend: Sequence[AgentSpend],
    made_of: str,
    decontaminate: Sequence[JsonMapping] = (),
    not_in_pairs: Mapping[str, str] | None = None,
    numerics: object,
    versions: Mapping[str, str],
) -> JsonObject:
    """Plain data for JSON; the same lake gives the same manifest, since it holds no time.

    ``dataset`` are the settings that decide what is published, ``sources`` seed file -> SHA-256. ``spend`` is the journal's, of
    everything that this lake has paid, tokens and USD; ``made_of`` names all that was published from. ``decontaminate``: file and
    SHA-256 of the evaluation questions that no row overlaps with; ``not_in_pairs`` are then the candidates that do, though they were
    not chosen, with what they share.
    """
    live = Counter(entry.source for entry in entries.values() if entry.live)
    used = Counter(row.source for row in rows)
    return {
        "format": FORMAT,
        "name": name,
        "lake_id": lake_id,
        "data": {"rows": len(rows), "columns": {field.name: str(field.type) for field in schema}},
        "dataset": dict(dataset),
        "dataset_fingerprint": dataset_fingerprint,
        "decontaminate": list(decontaminate),
        **({} if not_in_pairs is None else {"not_in_pairs": dict(not_in_pairs)}),
        "left_out": dict(sorted(Counter(row.reason for row in left_out).items())),
        "configurations": [asdict(used_here) for used_here in configurations(shards)],
        "made_of": made_of,
        "shards": [
            {
                "shard": shard.shard,
                "snapshot_id": shard.snapshot_id,
                "tables": {
                    table: {"sha256": origin.sha256, "config_fingerprint": origin.fingerprint}
                    for table, origin in shard.tables.items()
                },
            }
            for shard in shards
        ],
        "sources": [
            {"file": source, "sha256": sources.get(source), "seeds": live[source], "rows": used[source]}
            for source in sorted(live)
        ],
        "numerics": numerics,
        "spend": [asdict(row) for row in spend],
        "versions": dict(versions),
    }
