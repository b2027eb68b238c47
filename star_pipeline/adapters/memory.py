"""The memory bank in LanceDB: which pair made good data of which kind of instruction."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from star_pipeline.core.errors import LakeError
from star_pipeline.core.records import MemoryEntry, Neighbour

TABLE = "instructions"
_TEXT_COLUMNS = ("seed_id", "candidate_id", "shard", "instruction", "pair_id")


class LanceMemoryBank:
    """One table ``instructions``, a row a selected instruction. Searches are exact and sent in batches."""

    def __init__(self, folder: str, batch: int = 256) -> None:
        self._folder = folder
        self._batch = batch

    def _table(self) -> Any | None:
        import lancedb

        database = lancedb.connect(self._folder)
        return database.open_table(TABLE) if TABLE in database.list_tables().tables else None

    def nearest(self, vectors: Any, limit: int, before: int) -> list[list[Neighbour]]:
        """As the port says; ties in similarity go to the smaller seed_id."""
        found: list[list[Neighbour]] = [[] for _ in range(len(vectors))]
        table = self._table()
        if table is None or not len(vectors):
            return found
        for start in range(0, len(vectors), self._batch):
            queries = np.asarray(vectors[start : start + self._batch], dtype=np.float32)
            hits = (
                table.search([*queries], vector_column_name="vector")
                .distance_type("cosine")
                .where(f"sequence < {int(before)}", prefilter=True)
                .bypass_vector_index()
                .limit(limit)
                .select(["seed_id", "pair_id", "_distance"])
                .to_arrow()
                .to_pylist()
            )
            for hit in hits:
                near = Neighbour(hit["seed_id"], hit["pair_id"], 1.0 - float(hit["_distance"]))
                found[start + hit.get("query_index", 0)].append(near)
        return [sorted(near, key=lambda n: (-n.similarity, n.seed_id)) for near in found]

    def replace_shard(self, shard: str, entries: Sequence[MemoryEntry], vectors: Any) -> int:
        """As the port says. A kill between removal and addition leaves the shard out until it is made again."""
        import lancedb

        table = self._table()
        rows = _to_arrow(entries, np.asarray(vectors, dtype=np.float32)) if entries else None
        if table is None:
            if rows is None:
                return 0
            table = lancedb.connect(self._folder).create_table(TABLE, rows)
            return int(table.count_rows())
        if rows is not None and table.schema.field("vector").type != rows.schema.field("vector").type:
            raise LakeError(
                f"memory bank {self._folder}: holds {table.schema.field('vector').type}, and memory.embedding now gives "
                f"{rows.schema.field('vector').type}; set the embedding back, or remove the folder and refill it with: "
                "star-pipeline run"
            )
        escaped = shard.replace("'", "''")
        table.delete(f"shard = '{escaped}'")
        if rows is not None:
            table.add(rows)
        return int(table.count_rows())


def _to_arrow(entries: Sequence[MemoryEntry], vectors: Any) -> pa.Table:
    columns: dict[str, Any] = {f.name: [getattr(entry, f.name) for entry in entries] for f in fields(MemoryEntry)}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    return pa.table(columns)
