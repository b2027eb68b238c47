"""Whether the tables of a shard belong together, and which are out of date: what each was made from, and what that says of it."""

from dataclasses import dataclass

import pyarrow as pa

from star_pipeline.core.table_spec import TEXT, Column, TableSpec

MADE_FROM = {
    "candidates": ("sampling_plan",),
    "ifd_scores": ("candidates",),
    "judge_verdicts": ("candidates", "ifd_scores"),
    "composite_scores": ("candidates", "ifd_scores", "judge_verdicts"),
    "agent_pair_probabilities": ("sampling_plan", "composite_scores"),
}
"""A shard's table -> the tables of the same shard that it is made from, in the order of the flow; its seeds never change."""
JOINED = ("candidates", "ifd_scores", "judge_verdicts", "composite_scores")
"""What a row of the final data set is joined from: where one of them does not fit, nothing is published."""
COMPARED = {"ifd_scores": "gap", "judge_verdicts": "pi_llm"}
"""A table -> its column that composite_scores repeats."""


@dataclass(frozen=True)
class Misfit:
    """A table of a shard that was made from another ``source`` than is there.

    ``says_so``: by its own record of what it was made from, and not only by what the two hold, as where one of them is damaged.
    """

    shard: str
    table: str
    source: str
    says_so: bool

    def __str__(self) -> str:
        return f"{self.table}[{self.shard}] was made from other {self.source} than are there now"


@dataclass(frozen=True)
class StaleTable:
    """A table that would be another one if it were made now."""

    shard: str
    asset: str
    because: str
    remedy: str


STALE_TABLES = TableSpec(
    "stale_tables",
    StaleTable,
    (
        Column("shard", TEXT, "the shard", False),
        Column("asset", TEXT, "the table of the shard that would be another one if it were made now", False),
        Column("because", TEXT, "what has changed since it was made", False),
        Column("remedy", TEXT, "what brings it up to date", False),
    ),
    ("shard", "asset", "because"),
)


def fits(table: str, source: str, rows: pa.Table, source_rows: pa.Table) -> bool:
    """Whether what ``rows`` repeat of ``source_rows`` is what stands there; both need ``candidate_id`` and what COMPARED names.

    It is all that can be told of tables that do not say what they were made from.
    """
    names, given = (part.column("candidate_id").to_pylist() for part in (rows, source_rows))
    judged = "judge_verdicts" in (table, source)
    if not (set(given).issuperset(names) if table == "judge_verdicts" else judged or names == given):
        return False
    column = COMPARED.get(source) if table == "composite_scores" else None
    if column is None:
        return True
    held = dict(zip(names, rows.column(column).to_pylist(), strict=True))
    there = dict(zip(given, source_rows.column(column).to_pylist(), strict=True))
    # who has no verdict is the reference, or was not made
    return there.keys() <= held.keys() and all(
        value == there[name] if name in there else value in (None, 0.5) for name, value in held.items()
    )


def refusal(found: list[Misfit]) -> str:
    """Why nothing is published, in one line: the shards, their tables and the remedy."""
    told = "; ".join(str(misfit) for misfit in found[:3])
    more = f"; and {len(found) - 3:,} more" if len(found) > 3 else ""
    return (
        f"tables of a shard do not belong together: {told}{more}. The data set stays as it was; make the named tables again, and all "
        "after them in the loop, or run: star-pipeline run"
    )
