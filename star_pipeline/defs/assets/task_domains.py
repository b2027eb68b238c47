"""What the selected rows are about, and which of them ask nearly the same."""

from collections.abc import Sequence

import dagster as dg
import numpy as np
import pyarrow as pa

from star_pipeline.adapters.selected_rows import selected_rows
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.checks import CORRECT
from star_pipeline.core.ports import Embedder, MemoryBank
from star_pipeline.core.publishing.checks import NEAR_DUPLICATES, domains_consistent, near_duplicate_share
from star_pipeline.core.publishing.domains import task_domains as domains_of
from star_pipeline.core.records import StarRow
from star_pipeline.core.tables import TASK_DOMAINS
from star_pipeline.defs.asset_factory import AllShards, counts, covers, lake_asset, plot, table_result
from star_pipeline.defs.automation import once_settled
from star_pipeline.defs.resources import EmbedderResource, LakeResource, MemoryResource, SettingsResource
from star_pipeline.defs.selected_rows import SELECTED_ROWS_DEPS
from star_pipeline.figures import asset_figures


@lake_asset(
    "task_domains",
    "5_publish",
    "What the selected rows are about: k-means of their instructions' embeddings, each domain named by its typical words, largest first; "
    "beside it each row's nearest neighbour, and the group of near-duplicates that it is in (`dataset.near_duplicate_similarity`). "
    "Embeddings come from the memory bank; of what it does not remember they are computed once and kept beside it.",
    spec=TASK_DOMAINS,
    partitioned=False,
    locked=False,
    automation=once_settled,
    deps=["seed_catalog", *SELECTED_ROWS_DEPS, AllShards("memory_bank")],
    checks=(CORRECT, NEAR_DUPLICATES),
)
def task_domains(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    settings: SettingsResource,
    embedder: EmbedderResource,
    memory: MemoryResource,
) -> dg.MaterializeResult[pa.Table]:
    config = settings.load()
    home = lake.open()
    finished = selected_rows(home)
    rows = finished.rows
    vectors, computed = embeddings(rows, memory.bank(), embedder.embedder())
    knobs = config.dataset
    found = domains_of(rows, vectors, knobs.domains, knobs.near_duplicate_similarity)
    names = {row.domain: row.domain_name for row in found}
    return table_result(
        config,
        TASK_DOMAINS,
        found,
        ["seed_id", "domain", "domain_name", "nearest_similarity", "near_duplicate_of"],
        {
            "domains": dg.MetadataValue.json(counts(f"{row.domain}: {row.domain_name}" for row in found)),
            "near_duplicates": sum(row.near_duplicate_of != row.seed_id for row in found),
            "embeddings_computed": computed,
            "plot": plot(
                asset_figures.domains(
                    names, [(domain.domain, row.selection) for domain, row in zip(found, rows, strict=True)]
                ),
                covers(home, finished.done),
            ),
        },
        [domains_consistent(found), near_duplicate_share(found, config.shares)],
    )


def embeddings(rows: Sequence[StarRow], bank: MemoryBank, embedder: Embedder) -> tuple[Vectors, int]:
    """The rows' instructions as unit vectors (n, d), float32, and how many of them had to be computed.

    A vector is taken from the bank, or from those kept beside it, only where candidate and text are the same.
    """
    wanted = {row.candidate_id: row.instruction for row in rows}
    found = bank.kept_vectors(wanted)
    missing = {name: text for name, text in wanted.items() if name not in found}
    if missing:
        found |= zip(missing, embedder.embed([*missing.values()]), strict=True)
        bank.cache_embeddings(missing, [found[name] for name in missing], wanted)
    vectors = [found[row.candidate_id] for row in rows]
    return np.asarray(vectors, np.float32).reshape(len(rows), -1 if rows else 0), len(missing)
