"""How long the lines of health take for a lake of many rows, and what they are:

python -m star_pipeline_tests.benchmarks.health LAKE [ROWS]      # ROWS: the lake's tables over and over, 100,000 rows unless told

The copies have seeds and candidates of their own, so that the figures are the lake's and the intervals those of so many rows. On two
busy cores 100,625 rows in 125 shards took 4 s.
"""

import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.health.lines import in_words
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, SAMPLING_PLAN, SHARD_TABLES, STAR_DATASET
from star_pipeline.inspection.build import health_before_publishing

IDS = ("seed_id", "candidate_id", "base_candidate_id")


def many(lake: Lake, folder: Path, rows: int) -> Lake:
    """A lake whose shards are each all shards of ``lake`` under other names; probabilities are those of its last shard."""
    wide = Lake.at(folder)
    shards = lake.shards_of(SAMPLING_PLAN)
    copies = -(-rows // sum(lake.read_arrow(SAMPLING_PLAN, shard, ["slot"]).num_rows for shard in shards))
    for spec in SHARD_TABLES:
        taken = shards[-1:] if spec is AGENT_PAIR_PROBABILITIES else shards
        whole = pa.concat_tables([lake.read_arrow(spec, shard) for shard in taken], promote_options="default")
        for number in range(copies):
            table = whole
            for name in set(IDS) & set(table.column_names):
                place = table.column_names.index(name)
                named = pc.binary_join_element_wise(table.column(name), pa.scalar(f"-{number}"), "")
                table = table.set_column(place, table.schema.field(name), named)
            path = Path(str(wide.table(spec, f"{number + 1:06d}-copy")))
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
    return wide


def main(lake: Lake, rows: int) -> None:
    pairs = pc.value_counts(lake.read_arrow(STAR_DATASET, columns=["pair_id"]).column("pair_id")).to_pylist()
    published = {one["values"]: one["counts"] for one in pairs}
    with tempfile.TemporaryDirectory() as folder:
        wide = many(lake, Path(folder), rows)
        began = time.perf_counter()
        lines = health_before_publishing(wide, wide.shards_of(SAMPLING_PLAN), published)
        print(f"{time.perf_counter() - began:.1f} s")
    for line in lines:
        print(f"{line.verdict:9} {line.signature}: {in_words(line)}")


if __name__ == "__main__":
    main(Lake.at(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
