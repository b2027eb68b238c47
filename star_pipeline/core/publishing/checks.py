"""What must hold for the final data set and its domains, and what is worth a look: pure checks, as in ``checks``."""

from collections import Counter
from collections.abc import Iterable, Sequence

from star_pipeline.core.checks import Finding, Rule, WarningLimits, correct_finding, listed, share_finding
from star_pipeline.core.records import CatalogEntry, LeftOutRow, StarRow, TaskDomain

NEAR_DUPLICATES = Rule("near_duplicates", "Do nearly all rows ask something of their own?", False)
NOT_EMPTY = Rule(
    "not_empty", "Do the settings under dataset leave any row, and as many as dataset.rows asks for?", False
)
EVERY_SEED = Rule("every_seed", "Has every live seed its row in the final data set?", False)


def domains_consistent(rows: Sequence[TaskDomain]) -> Finding:
    """Domains are 0, 1, … by size, each with one name of its own; near-duplicates point to a row that leads its group."""
    leader_of = {row.seed_id: row.near_duplicate_of for row in rows}
    lost = [row.seed_id for row in rows if leader_of.get(row.near_duplicate_of) != row.near_duplicate_of]
    sizes = Counter(row.domain for row in rows)
    names = {row.domain: row.domain_name for row in rows}
    ordered = [sizes[domain] for domain in range(len(sizes))]
    wrong = f"{listed(lost)} are near-duplicates of a row that leads no group" if lost else ""
    if not wrong and (ordered != sorted(ordered, reverse=True) or 0 in ordered):
        wrong = "the domains are not 0, 1, … by size"
    if not wrong and (len(set(names.values())) < len(names) or not all(names.values())):
        wrong = "two domains share a name, or one has none"
    return correct_finding("task_domains", wrong, f"{len(rows):,} rows in {len(sizes):,} domains")


def near_duplicate_share(rows: Sequence[TaskDomain], shares: WarningLimits) -> Finding:
    return share_finding(
        NEAR_DUPLICATES,
        rows,
        lambda row: row.near_duplicate_of != row.seed_id,
        shares.near_duplicates,
        shares.least_rows,
        "rows ask nearly the same as a better one",
        "see which: star-pipeline query near_duplicates; dataset.near_duplicates: 1 keeps the best of each group",
    )


def dataset_consistent(rows: Sequence[StarRow], live: Iterable[str]) -> Finding:
    """Only live seeds, each with a last turn of the assistant that holds its response."""
    alive = set(live)
    gone = [row.seed_id for row in rows if row.seed_id not in alive]
    mute = [row.seed_id for row in rows if not row.messages or row.messages[-1].content != row.response]
    wrong = (
        f"{listed(gone)} have left the seed files"
        if gone
        else f"{listed(mute)} do not end in their response"
        if mute
        else ""
    )
    return correct_finding("star_dataset", wrong, f"{len(rows):,} rows")


def every_seed(rows: Sequence[StarRow], left_out: Sequence[LeftOutRow], entries: Iterable[CatalogEntry]) -> Finding:
    """A warning that counts the live seeds without a row, by shard; those left out on purpose are said, and do not count."""
    there = {row.seed_id for row in rows}.union(row.seed_id for row in left_out)
    missing = [entry.shard for entry in entries if entry.live and entry.seed_id not in there]
    values = {"missing": len(missing), "left_out": len(left_out)}
    if not missing:
        beside = f", {len(left_out):,} of them left out (table left_out_rows)" if left_out else ""
        return Finding(EVERY_SEED, True, f"all {len(there):,} live seeds{beside}", values)
    shards = listed(sorted(set(missing)))
    text = f"{len(missing):,} live seeds have no row yet (shards {shards}); materialise these shards, or run: star-pipeline run"
    return Finding(EVERY_SEED, False, text, values)


def not_empty(
    rows: Sequence[StarRow], left_out: Sequence[LeftOutRow], wanted: int | None = None, short: Sequence[str] = ()
) -> Finding:
    """A warning where the settings under ``dataset`` left everything out, or fewer rows than are ``wanted`` are to be had.

    ``short`` are the domains that have fewer than their share, in words.
    """
    if rows and wanted is not None and len(rows) < wanted:
        why = ", ".join(
            f"{count:,} by {reason}" for reason, count in Counter(row.reason for row in left_out).most_common()
        )
        less = f"; left out: {why}" if why else ""
        less += f"; by dataset.domain_shares {', '.join(short)}" if short else ""
        text = (
            f"dataset.rows asks for {wanted:,} rows, and {len(rows):,} are to be had{less}; add seeds, relax the settings under dataset, "
            "or lower dataset.rows, and run again"
        )
        return Finding(NOT_EMPTY, False, text, {"rows": len(rows), "wanted": wanted})
    if rows or not left_out:
        return Finding(NOT_EMPTY, True, f"{len(rows):,} rows" if rows else "no rows yet: no shard has been done")
    reasons = Counter(row.reason for row in left_out)
    said = ", ".join(f"{count:,} by {reason}" for reason, count in reasons.most_common())
    text = f"the final data set is empty: all {len(left_out):,} rows were left out ({said}); relax the settings under dataset, run again"
    return Finding(NOT_EMPTY, False, text)
