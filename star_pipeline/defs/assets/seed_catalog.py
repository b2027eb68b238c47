"""Which record is in which shard; it alone adds partition keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.seed_files import FORMATS, passed_over, seed_files
from star_pipeline.adapters.seed_intake import GivenFile, SeedReading, take_in_starter
from star_pipeline.config import StarConfig
from star_pipeline.core.checks import REJECTED, rejected_rows
from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.catalog import CatalogUpdate, update_catalog
from star_pipeline.core.records import Seed
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, REJECTED_ROWS, SEED_CATALOG, SHARD_MANIFEST
from star_pipeline.defs.asset_factory import check_result, lake_asset, markdown, stamped
from star_pipeline.defs.partitions import PRIOR_STATE
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.instance.tags import DATA_VERSION

AWAITED = "awaiting the shard before"
SEED_FILES = "seed_files"
"""Metadata of the catalogue: names the contents of the files that it was made from."""


@dataclass(frozen=True)
class Scan:
    """What the seed files hold, against the catalogue; ``files`` names their contents. The new shards' manifests are written."""

    update: CatalogUpdate
    files: str


_scans: dict[tuple[object, ...], Scan] = {}
"""What a command found last: its asset goes on from there while files, catalogue and configuration are the same."""


def scan_seed_files(lake: Lake, settings: StarConfig, given: Mapping[str, GivenFile] | None = None) -> Scan:
    """Read the seed files, each once. Raises SeedError.

    A command hands in the files that are ``given`` to it (read in the places that they are to have), and what it found is kept for
    the asset, which reads nothing again.

    Takes the starter seeds in where the profile says so and there are none.
    """
    if not given and not seed_files(lake.seeds) and not lake.has_table(SEED_CATALOG):
        if not settings.seeds.starter:
            raise SeedError(
                f"{lake.seeds}: no seed files; put one there ({FORMATS}), or hand it in: "
                f"star-pipeline run --lake {lake.root} --seeds FILE"
            )
        take_in_starter(lake)
    reading = SeedReading(lake, given or {}, settings.seed_rules)
    key = lake, reading.listing.signature, settings.fingerprint, settings.name, lake.signature(SEED_CATALOG)
    known = _scans.pop(key, None) if given is None else None
    if known and set(known.update.new_shards).issubset(lake.shards_of(SHARD_MANIFEST)):
        return known

    def write_manifest(key: str, members: Sequence[Seed]) -> None:
        lake.write_table(SHARD_MANIFEST, stamped(SHARD_MANIFEST.to_arrow(members), settings, SHARD_MANIFEST), key)

    _forget_orphans(lake)
    try:
        update = update_catalog(lake.catalog_rows(), reading.seeds(), settings.shard_sizes, write_manifest)
    except BaseException:
        _forget_orphans(lake)
        raise
    scan = Scan(update, reading.content())
    _scans.clear()
    if given is not None:
        _scans[key] = scan
    return scan


@lake_asset(
    "seed_catalog",
    "1_seeds",
    "Which seed record is in which shard, from the files under `seeds/`. New and changed records get new shards (partitions), "
    "removed ones are tombstoned, equal ones are kept once. Materialise this first; then materialise the new partitions of the loop.",
    spec=SEED_CATALOG,
    partitioned=False,
    checks=(REJECTED,),
)
def seed_catalog(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult[None]:
    home = lake.open()
    home.prepare()
    config = settings.load()

    scan = scan_seed_files(home, config)
    update = scan.update
    home.write_table(REJECTED_ROWS, stamped(REJECTED_ROWS.to_arrow(update.rejected), config, REJECTED_ROWS))
    table = stamped(SEED_CATALOG.to_arrow(update.entries), config, SEED_CATALOG)
    home.write_table(SEED_CATALOG, table)
    _announce(
        context.instance,
        Scope.of(context.asset_key),
        home,
        sorted({entry.shard for entry in update.entries}),
        config.evolution.lag,
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content_hash(table)),
        metadata={
            "dagster/row_count": table.num_rows,
            "records": update.records,
            "live": update.live,
            "duplicates": update.duplicates,
            "added": update.added,
            "removed": update.removed,
            "returned": update.returned,
            "rejected": len(update.rejected),
            "rejected_rows": markdown(REJECTED_ROWS.to_arrow(update.rejected), ["source", "source_row", "reason"]),
            "passed_over": passed_over(home.seeds) or "nothing",
            "new_shards": dg.MetadataValue.json(list(update.new_shards)),
            SEED_FILES: scan.files,
            "preview": markdown(table, ["seed_id", "shard", "source", "source_row", "live"]),
        },
        check_results=[check_result(rejected_rows(len(update.rejected), update.records))],
    )


def _forget_orphans(lake: Lake) -> None:
    """Remove manifests that no catalogue names: a catalogue run that failed or was killed left them."""
    for key in set(lake.shards_of(SHARD_MANIFEST)).difference(lake.catalog_shards()):
        lake.table(SHARD_MANIFEST, key).unlink()


def _announce(instance: dg.DagsterInstance, scope: Scope, lake: Lake, shards: list[str], lag: int) -> None:
    """Observe what each new shard starts from, with this lag; then add its key: that comes last, so that a crash in between repeats all."""
    known = set(instance.get_dynamic_partitions(str(scope.partitions.name)))
    new = [key for key in shards if key not in known]
    for key in new:
        before = shards.index(key) - 1 - lag
        version = AWAITED
        if before < 0 or lake.has_table(AGENT_PAIR_PROBABILITIES, shards[before]):
            version = (
                "initial" if before < 0 else content_hash(lake.read_arrow(AGENT_PAIR_PROBABILITIES, shards[before]))
            )
        manifest = content_hash(lake.read_arrow(SHARD_MANIFEST, key))
        for asset, data_version in ((SHARD_MANIFEST.name, manifest), (PRIOR_STATE, version)):
            instance.report_runless_asset_event(
                dg.AssetObservation(scope.key(asset), partition=key, tags={DATA_VERSION: data_version})
            )
    if new:
        instance.add_dynamic_partitions(str(scope.partitions.name), new)
