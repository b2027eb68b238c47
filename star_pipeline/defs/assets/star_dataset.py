"""The final data set: one row for each live seed."""

from collections import Counter
from collections.abc import Mapping, Sequence

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters.dataset_files import (
    allowed_differences,
    numerics,
    shard_origins,
    signatures,
    versions,
    write_dataset,
)
from star_pipeline.adapters.dataset_files import made_of as all_of
from star_pipeline.adapters.decontamination import overlapping, question_files
from star_pipeline.adapters.journal.opening import read_spend
from star_pipeline.adapters.lake import Lake, arrow_table
from star_pipeline.adapters.seed_state import contents
from star_pipeline.adapters.selected_rows import SelectedRows, selected_rows
from star_pipeline.config import StarConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.checks import CORRECT, listed
from star_pipeline.core.errors import LakeError
from star_pipeline.core.health.examination import RULES, findings
from star_pipeline.core.publishing.card import CardFacts, dataset_card
from star_pipeline.core.publishing.checks import EVERY_SEED, NOT_EMPTY, dataset_consistent, every_seed, not_empty
from star_pipeline.core.publishing.domain_shares import named_shares, shortages
from star_pipeline.core.publishing.manifest import configurations, manifest
from star_pipeline.core.publishing.rows import kept_rows
from star_pipeline.core.records import AgentSpend, HealthLine, LeftOutRow, StarRow, TaskDomain
from star_pipeline.core.tables import (
    AGENT_PAIR_PROBABILITIES,
    JUDGE_VERDICTS,
    LEFT_OUT_ROWS,
    SAMPLING_PLAN,
    STAR_DATASET,
    TASK_DOMAINS,
)
from star_pipeline.defs.asset_factory import SIMILARITY, AllShards, blocking, counts, lake_asset, stamped, table_result
from star_pipeline.defs.automation import once_settled
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.defs.selected_rows import SELECTED_ROWS_DEPS
from star_pipeline.inspection.build import health_before_publishing

_TOLD = (SAMPLING_PLAN, JUDGE_VERDICTS, AGENT_PAIR_PROBABILITIES)
"""Tables that card, manifest and the checks of health tell of, and no row is made from."""
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


@lake_asset(
    "star_dataset",
    "5_publish",
    "The final data set for trainers: the selected candidate of every live seed as chat `messages`, with its scores and where it comes "
    "from. One Parquet file (it loads straight into `datasets` and TRL), a data set card and a manifest, which names both by their hashes "
    "and what they were made from. Rows that the settings under `dataset` leave out are in the table `left_out_rows`; shards that are not "
    "done are left out and counted. Where the tables of a shard do not belong together, since one was made again alone, nothing is "
    "written: the line names them, and the data set stays as it was. Its checks "
    "of health tell whether the run means anything, over all shards; none of them blocks.",
    spec=STAR_DATASET,
    partitioned=False,
    locked=False,
    automation=once_settled,
    deps=["task_domains", "seed_catalog", *SELECTED_ROWS_DEPS, *(AllShards(spec.name) for spec in _TOLD)],
    checks=(CORRECT, EVERY_SEED, NOT_EMPTY, *RULES.values()),
)
def star_dataset(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
) -> dg.MaterializeResult[None]:
    config, home = settings.load(), lake.open()
    before, spend = signatures(home), read_spend(config, home)
    made_of = selected_rows(home)
    # only near_duplicates and rows need them; without, the card does not tell what the rows are about
    domains = home.read_table(TASK_DOMAINS) if home.has_table(TASK_DOMAINS) else []
    leaders, overlaps = _leaders(home, config, made_of.rows, domains), overlapping(home, config, made_of)
    domain_of = {row.seed_id: row.domain for row in domains}
    names = {row.domain: row.domain_name for row in domains}
    share_of = named_shares(config.dataset.domain_shares, names)
    rows, left_out = kept_rows(made_of.rows, config.keep_rules, leaders, overlaps.rows, domain_of, share_of)
    short = shortages(rows, left_out, config.dataset.rows, share_of, domain_of, names)
    health = health_before_publishing(home, made_of.done, Counter(row.pair_id for row in rows))
    result = table_result(
        config,
        STAR_DATASET,
        rows,
        ["instruction", "response", "pair_id", "pi", "selection", "source"],
        {
            "dagster/column_lineage": _column_lineage(Scope.of(context.asset_key)),
            "path": dg.MetadataValue.path(str(home.table(STAR_DATASET))),
            "shards": len(made_of.done),
            "shards_not_done": len(made_of.shards) - len(made_of.done),
            "selections": dg.MetadataValue.json(counts(row.selection for row in rows)),
            "pairs": dg.MetadataValue.json(counts(row.pair_id for row in rows)),
            "left_out": dg.MetadataValue.json(counts(row.reason for row in left_out)),
        },
        [
            dataset_consistent(rows, made_of.live),
            every_seed(rows, left_out, made_of.entries.values()),
            not_empty(rows, left_out, config.dataset.rows, short),
            *findings(health),
        ],
    )
    if blocking(result) or result.value is None:
        return result
    data = home.encoded(STAR_DATASET, result.value)
    card, told = _beside(home, config, made_of, rows, left_out, domains, spend, data, health, overlaps.candidates)
    with home.as_listed("tables"):  # as they are by now
        after = signatures(home)
    if torn := [shard for shard in made_of.done if before.get(shard) != after.get(shard)]:
        raise LakeError(
            f"tables of {listed(torn)} were written while the data set was made from them, so it would mix old and new; wait until "
            "the shards are done, then materialise star_dataset again, or run: star-pipeline run"
        )
    home.write_table(LEFT_OUT_ROWS, stamped(LEFT_OUT_ROWS.to_arrow(left_out), config, LEFT_OUT_ROWS))
    write_dataset(home, data, card, told)
    # written above, so that the manifest, which names the others, comes last
    return dg.MaterializeResult(
        metadata=result.metadata, data_version=result.data_version, check_results=result.check_results
    )


def _leaders(
    home: Lake, config: StarConfig, rows: Sequence[StarRow], domains: Sequence[TaskDomain]
) -> Mapping[str, str]:
    """seed_id -> leader of its group. Raises LakeError where groups or domains are asked for and the table has them of other rows."""
    knobs = config.dataset
    if knobs.near_duplicates is not None or knobs.rows is not None:
        made_with = (
            (home.read_arrow(TASK_DOMAINS, columns=[]).schema.metadata or {}).get(SIMILARITY.encode(), b"").decode()
        )
        known = {(row.seed_id, row.candidate_id) for row in domains}
        unknown = sum((row.seed_id, row.candidate_id) not in known for row in rows)
        other = knobs.near_duplicates is not None and made_with != str(knobs.near_duplicate_similarity)
        if unknown or other:
            what = (
                f"it lacks {unknown:,} of {len(rows):,} rows"
                if unknown
                else f"its groups are of similarity {made_with}"
            )
            asking = "rows" if knobs.near_duplicates is None else "near_duplicates"
            raise LakeError(
                f"dataset.{asking} needs task_domains as the rows are now, and {what}; materialise task_domains first, "
                "or run: star-pipeline run"
            )
    return {row.seed_id: row.near_duplicate_of for row in domains}


def _beside(
    home: Lake,
    config: StarConfig,
    made_of: SelectedRows,
    rows: Sequence[StarRow],
    left_out: Sequence[LeftOutRow],
    domains: Sequence[TaskDomain],
    spend: Sequence[AgentSpend],
    data: bytes,
    health: Sequence[HealthLine],
    not_in_pairs: Mapping[str, str],
) -> tuple[bytes, JsonObject]:
    """(card, manifest) of the file with content ``data``."""
    origins = shard_origins(home, made_of.done)
    dataset, questions = config.dataset.settled, question_files(config.dataset.decontaminate)
    judged = [
        home.read_arrow(JUDGE_VERDICTS, s, ["verdict", "flipped"])
        for s in made_of.done
        if home.has_table(JUDGE_VERDICTS, s)
    ]
    facts = CardFacts(
        name=config.name,
        schema=STAR_DATASET.schema,
        num_bytes=arrow_table(pa.BufferReader(data)).nbytes,  # as it comes back, which is what `datasets` counts
        download_size=len(data),
        dataset=dataset,
        domains=domains,
        left_out=left_out,
        verdicts=Counter(verdict for part in judged for verdict in part.column("verdict").to_pylist()),
        flipped=sum(sum(part.column("flipped").to_pylist()) for part in judged),
        configurations=configurations(origins),
        health=health,
        decontaminated=[named["file"] for named in questions],
        differences=allowed_differences(home),
    )
    told = manifest(
        name=config.name,
        lake_id=home.lake_id,
        schema=STAR_DATASET.schema,
        rows=rows,
        left_out=left_out,
        dataset=dataset,
        dataset_fingerprint=config.dataset_fingerprint,
        shards=origins,
        sources=contents(home),
        entries=made_of.entries,
        spend=spend,
        made_of=all_of(home, spend),
        decontaminate=questions,
        not_in_pairs=not_in_pairs if questions else None,
        numerics=numerics(home),
        versions=versions(),
    )
    return dataset_card(rows, facts).encode(), told


def _column_lineage(scope: Scope) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(scope.key(asset), name) for asset, name in origins]
            for column, origins in _LINEAGE.items()
        }
    )
