"""The final data set: one row for each live seed."""

import dagster as dg
import pyarrow as pa

from star_pipeline.assets.face import all_shards_of, counts, lake_asset, made
from star_pipeline.assets.following import FOLLOW
from star_pipeline.assets.seed_catalog import seed_catalog
from star_pipeline.core.checks import CORRECT, EVERY_SEED, dataset_consistent, every_seed
from star_pipeline.core.dataset_card import dataset_card
from star_pipeline.core.records import StarRow
from star_pipeline.core.selection import star_rows
from star_pipeline.core.tables import (
    CANDIDATES,
    COMPOSITE_SCORES,
    IFD_SCORES,
    SEED_SHARDS,
    STAR_DATASET,
)
from star_pipeline.resources import LakeResource, SettingsResource

_LINEAGE = {
    "seed_id": (("seed_shards", "seed_id"),),
    "messages": (
        ("seed_shards", "system"),
        ("seed_shards", "history"),
        ("candidates", "instruction"),
        ("candidates", "response"),
    ),
    "instruction": (("candidates", "instruction"), ("seed_shards", "instruction")),
    "response": (("candidates", "response"), ("seed_shards", "response")),
    "pair_id": (("candidates", "pair_id"),),
    "pi": (("composite_scores", "pi"),),
    "pi_dual": (("composite_scores", "pi_dual"),),
    "pi_llm": (("composite_scores", "pi_llm"),),
    "ifd_small": (("ifd_scores", "ifd_small"),),
    "ifd_large": (("ifd_scores", "ifd_large"),),
    "gap": (("ifd_scores", "gap"),),
    "shard": (("seed_catalog", "shard"),),
    "source": (("seed_catalog", "source"),),
    "source_row": (("seed_catalog", "source_row"),),
    "candidate_id": (("composite_scores", "candidate_id"),),
    "selection": (("composite_scores", "selection"),),
}
"""Each column of the final data set, and where it comes from: (asset, column)."""
_OF_CANDIDATES = (CANDIDATES, IFD_SCORES, COMPOSITE_SCORES)
_PARTS = (SEED_SHARDS, *_OF_CANDIDATES)


@lake_asset(
    "star_dataset",
    "5_publish",
    "The final data set for trainers: the selected candidate of every live seed as chat `messages`, with its scores and where it comes "
    "from. One Parquet file (it loads straight into `datasets` and TRL) and a data set card beside it. Shards that are not done are left "
    "out and counted.",
    spec=STAR_DATASET,
    partitioned=False,
    locked=False,
    follows=FOLLOW,
    deps=[seed_catalog, *(all_shards_of(spec) for spec in _PARTS)],
    checks=(CORRECT, EVERY_SEED),
)
def star_dataset(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult[pa.Table]:
    config, home = settings.load(), lake.open()
    entries = {entry.seed_id: entry for entry in home.catalog_rows()}
    shards = sorted({entry.shard for entry in entries.values()})
    done: list[str] = []
    rows: list[StarRow] = []
    for shard in shards:
        if not all(home.has_table(spec, shard) for spec in _PARTS):
            continue
        candidates, scores, composite = (home.read_arrow(spec, shard) for spec in _OF_CANDIDATES)
        ids = composite.column("candidate_id")
        if not all(ids.equals(table.column("candidate_id")) for table in (candidates, scores)):
            continue  # a shard that is just being made again
        done.append(shard)
        chosen = composite.column("selected")
        rows += star_rows(
            shard,
            home.read_table(SEED_SHARDS, shard),
            entries,
            CANDIDATES.from_arrow(candidates.filter(chosen)),
            COMPOSITE_SCORES.from_arrow(composite.filter(chosen)),
            IFD_SCORES.from_arrow(scores.filter(chosen)),
        )
    home.write_bytes(home.dataset_card, dataset_card(rows, config.name, config.model_dump(mode="json")).encode())
    return made(
        config,
        STAR_DATASET,
        rows,
        ["instruction", "response", "pair_id", "pi", "selection", "source"],
        {
            "dagster/column_lineage": _column_lineage(),
            "shards": len(done),
            "shards_not_done": len(shards) - len(done),
            "selections": dg.MetadataValue.json(counts(row.selection for row in rows)),
            "pairs": dg.MetadataValue.json(counts(row.pair_id for row in rows)),
        },
        [
            dataset_consistent(rows, (seed_id for seed_id, entry in entries.items() if entry.live)),
            every_seed(rows, entries.values()),
        ],
    )


def _column_lineage() -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(asset), name) for asset, name in origins]
            for column, origins in _LINEAGE.items()
        }
    )
