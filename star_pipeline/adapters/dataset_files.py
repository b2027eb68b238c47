"""The final data set's three files: Parquet, card and manifest; and what the lake says of where they come from."""

import hashlib
import io
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.adapters.lake import Lake, Signature, file_digest
from star_pipeline.adapters.scoring.numerics import PROBES
from star_pipeline.adapters.stores.paths import placed
from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.errors import LakeError
from star_pipeline.core.publishing.manifest import ShardOrigin, TableSource
from star_pipeline.core.records import AgentSpend
from star_pipeline.core.table_spec import AnyTable
from star_pipeline.core.tables import (
    AGENT_PAIR_PROBABILITIES,
    CANDIDATES,
    REJECTED_ROWS,
    SEED_CATALOG,
    SEED_SHARDS,
    SHARD_TABLES,
    STAR_DATASET,
)

_PACKAGES = (
    "star-pipeline",
    "dagster",
    "duckdb",
    "lancedb",
    "litellm",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "sentence-transformers",
    "torch",
    "transformers",
)


def write_dataset(lake: Lake, data: bytes, card: bytes, manifest: JsonMapping) -> None:
    """Write data and card, and last the manifest, which names both by their hashes.

    A kill in between leaves a manifest that does not name the other files: ``dataset_problem`` says so, and a run writes anew.
    """
    parquet = lake.table(STAR_DATASET)
    files = {"data": (parquet, data), "card": (lake.dataset_card, card)}
    told = dict(manifest)
    for role, (path, content) in files.items():
        lake.write_bytes(path, content)
        named = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        told[role] = {**named, **manifest.get(role, {})}
    text = json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True)
    lake.write_bytes(lake.dataset_manifest, f"{text}\n".encode())


def read_manifest(lake: Lake) -> JsonObject | None:
    """The manifest; None where there is none, or none that can be read."""
    try:
        told = json.loads(lake.dataset_manifest.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def dataset_problem(lake: Lake, manifest: JsonMapping | None) -> str:
    """Why the files are not those that the manifest names, with the remedy; empty where they are."""
    remedy = "make them again: star-pipeline run"
    if manifest is None:
        return f"{lake.dataset_manifest} is not there, or cannot be read; {remedy}"
    for role, path in (("data", lake.table(STAR_DATASET)), ("card", lake.dataset_card)):
        named = manifest.get(role, {}).get("sha256") if isinstance(manifest.get(role), dict) else None
        try:
            found = file_digest(path)
        except OSError:
            return f"{path} is not there; {remedy}"
        if found != named:
            return f"{path}: its content is not what {lake.dataset_manifest.name} names (changed since, or a run was killed); {remedy}"
    return ""


def is_published(lake: Lake, dataset_fingerprint: str, decontaminated: Sequence[JsonMapping] = ()) -> bool:
    """Whether the three files belong together, and were made with these settings and these files of questions."""
    manifest = read_manifest(lake)
    same = manifest is not None and manifest.get("dataset_fingerprint") == dataset_fingerprint
    same = same and manifest is not None and manifest.get("decontaminate", []) == list(decontaminated)
    # an earlier version did not look through the candidates that were not chosen
    same = same and manifest is not None and (not decontaminated or "not_in_pairs" in manifest)
    return same and not dataset_problem(lake, manifest)


@dataclass(frozen=True)
class PairRules:
    """What the final data set says of preference pairs: ``barred`` candidates overlap with evaluation questions.

    ``sources``: shard -> table -> SHA-256 of what was looked through; None where nothing was.
    """

    barred: frozenset[str]
    sources: Mapping[str, Mapping[str, str]] | None

    def hold(self, lake: Lake, shard: str) -> bool:
        """Whether the shard's texts are those that were looked through."""
        if self.sources is None:
            return True
        known = self.sources.get(shard, {})
        return all(known.get(spec.name) == file_digest(lake.table(spec, shard)) for spec in (SEED_SHARDS, CANDIDATES))


def pair_rules(lake: Lake) -> PairRules:
    """Of the data set's manifest. Raises LakeError where it does not tell, or is of another file."""
    manifest = read_manifest(lake)
    if manifest is None:
        return PairRules(frozenset(), None)
    data = lake.table(STAR_DATASET)
    if manifest.get("data", {}).get("sha256") != file_digest(data):
        raise LakeError(
            f"{data}: its content is not what {lake.dataset_manifest.name} names; make it again: star-pipeline run"
        )
    if not manifest.get("decontaminate"):
        return PairRules(frozenset(), None)
    if "not_in_pairs" not in manifest:
        raise LakeError(
            f"{lake.dataset_manifest}: an earlier version wrote it, which looked for the questions of dataset.decontaminate in the rows "
            "alone and not in the other candidates, of which pairs are made; make it again: star-pipeline run"
        )
    sources = {
        shard["shard"]: {name: table["sha256"] for name, table in shard["tables"].items()}
        for shard in manifest["shards"]
    }
    return PairRules(frozenset(manifest["not_in_pairs"]), sources)


def made_of(lake: Lake, spend: Iterable[AgentSpend]) -> str:
    """Names all that is published from: every table's file, to the byte, and what was paid. The manifest records it."""
    whole = [lake.table(spec) for spec in (SEED_CATALOG, REJECTED_ROWS) if lake.has_table(spec)]
    hashes = [(path.name, *_sha256(path)) for path in whole]
    hashes += [(spec.name, shard, *_sha256(lake.table(spec, shard))) for spec, shard in _shard_tables(lake)]
    return identity.digest("made of", hashes, [asdict(row) for row in spend])


def signatures(lake: Lake) -> dict[str, list[tuple[str, Signature]]]:
    """shard -> what changes when any of its tables is written."""
    found: dict[str, list[tuple[str, Signature]]] = {}
    for spec in SHARD_TABLES:
        folder = lake.root / "tables" / spec.name
        store, key = placed(folder)
        # one request for all of them, where they are not on a disk
        for stored in sorted(store.list(key), key=lambda stored: stored.key):
            name = stored.key.removeprefix(f"{key}/")
            if name.endswith(".parquet") and "/" not in name:
                found.setdefault(name.removesuffix(".parquet"), []).append((spec.name, stored.etag))
    return found


def _shard_tables(lake: Lake) -> Iterator[tuple[AnyTable, str]]:
    return ((spec, shard) for spec in SHARD_TABLES for shard in lake.shards_of(spec))


def _sha256(path: UPath) -> Iterator[str]:
    """The content's hash; nothing where the file has just gone."""
    with suppress(FileNotFoundError):
        yield file_digest(path)


def shard_origins(lake: Lake, shards: Iterable[str]) -> list[ShardOrigin]:
    """What each shard's tables are: hash of the file, the configuration that made it, and the snapshot after the shard."""
    return [
        ShardOrigin(
            shard,
            _snapshot(lake, shard),
            {spec.name: _origin(lake, spec, shard) for spec in SHARD_TABLES if lake.has_table(spec, shard)},
        )
        for shard in shards
    ]


def _snapshot(lake: Lake, shard: str) -> str | None:
    if not lake.has_table(AGENT_PAIR_PROBABILITIES, shard):
        return None
    names = lake.read_arrow(AGENT_PAIR_PROBABILITIES, shard, ["snapshot_id"]).column("snapshot_id")
    return str(names[0]) if len(names) else None


def _origin(lake: Lake, spec: AnyTable, shard: str) -> TableSource:
    path = lake.table(spec, shard)
    try:
        content = path.read_bytes()
        said = pq.read_schema(io.BytesIO(content)).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise LakeError(f"{path} cannot be read: {error}; remove it and run: star-pipeline run") from error
    fingerprint, name, settings = (
        said.get(key, b"").decode() for key in (b"config_fingerprint", b"config_name", b"config_settings")
    )
    return TableSource(hashlib.sha256(content).hexdigest(), fingerprint, name, settings or None)


def numerics(lake: Lake) -> object:
    """How the lake's scores are computed (dtype, device, threads, matrix library); None where nothing was scored here."""
    if not lake.numerics.exists():
        return None
    kept = json.loads(lake.numerics.read_text("utf-8"))
    differences = allowed_differences(lake)
    return {name: value for name, value in kept.items() if name != PROBES} | (
        {"differences": differences} if differences else {}
    )


def allowed_differences(lake: Lake) -> dict[str, float]:
    """Of each scoring model the largest difference, in nats, of a replica that ``scoring.ray.tolerance`` let take part."""
    kept = json.loads(lake.numerics.read_text("utf-8")) if lake.numerics.exists() else {}
    return {name: of["difference"] for name, of in kept.get(PROBES, {}).items() if "difference" in of}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that have a part in the data; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
