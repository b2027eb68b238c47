"""The memory bank in LanceDB: which pair made good data of which kind of instruction."""

import logging
import math
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.stores.settings import S3Settings
from star_pipeline.adapters.stores.trouble import told
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.errors import LakeError, in_short
from star_pipeline.core.ports import MemoryBank
from star_pipeline.core.records import MemoryEntry, Neighbour

if TYPE_CHECKING:
    import lancedb

TABLE = "instructions"
BESIDE = "other_instructions"
"""Embeddings of instructions that the bank does not remember, kept so that the next data set does not compute them again."""
_COLUMNS = ["candidate_id", "instruction", "embedding", "vector"]
_MARGIN_S = 0.1
"""By how much longer versions are kept than they need to be: LanceDB looks at its own clock, a little later."""


def bank_of(lake: Lake, embedding: str) -> MemoryBank:
    """The lake's bank, in its folder or in object storage."""
    if not lake.shared:
        return LanceMemoryBank(lake.local(lake.memory_bank), embedding)
    settings, address = S3Settings.of(), str(lake.memory_bank)
    return _StoredBank(LanceMemoryBank(address, embedding, storage=settings.lance_options), address, settings)


class LanceMemoryBank:
    """One table ``instructions``, a row a selected instruction. Searches are exact and sent in batches.

    Compacted when it has more than ``fragments`` small ones. A reader goes on with the version that he opened for ``kept_s`` seconds
    after the next one was written; the product's own open it anew for each search. ``storage``: how object storage is reached, where
    ``folder`` is an address in it; of two commits at once LanceDB makes one follow the other.
    """

    def __init__(
        self,
        folder: str,
        embedding: str,
        batch: int = 256,
        fragments: int = 16,
        kept_s: float = 600.0,
        storage: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._embedding = embedding
        self._batch = batch
        self._fragments = fragments
        self._kept_s = kept_s
        self._storage = dict(storage) if storage else None

    def _connect(self) -> "lancedb.DBConnection":
        import lancedb

        return lancedb.connect(self._folder, storage_options=self._storage)

    def _table(self) -> "lancedb.table.Table | None":
        database = self._connect()
        if TABLE not in database.list_tables().tables:
            return None
        table = database.open_table(TABLE)
        if "embedding" not in table.schema.names:
            raise LakeError(
                f"memory bank {self._folder}: written by another version; remove the folder, and star-pipeline run fills it again"
            )
        [made_with] = table.search().limit(1).select(["embedding"]).to_list() or [{"embedding": self._embedding}]
        if made_with["embedding"] != self._embedding:
            raise LakeError(
                f"memory bank {self._folder}: its vectors come from {made_with['embedding']}, and memory.embedding is now "
                f"{self._embedding}; set it back, or remove the folder: star-pipeline run fills it again, free of charge"
            )
        return table

    def nearest(self, vectors: Vectors, limit: int, before: int) -> list[list[Neighbour]]:
        """As the port says; ties in similarity go to the smaller seed_id."""
        found: list[list[Neighbour]] = [[] for _ in range(len(vectors))]
        table = self._table()
        # one more than is wanted: where the last of these is as near as the last wanted one, those who tie are not all there yet,
        # and which of them LanceDB gives is a matter of how its rows lie
        asked, count = (list(range(len(vectors))) if table is not None else []), limit + 1
        while asked:
            undecided = []
            for start in range(0, len(asked), self._batch):
                some = asked[start : start + self._batch]
                queries = np.asarray(vectors, dtype=np.float32)[some]
                for at, near in zip(some, _search(table, queries, count, before), strict=True):
                    found[at] = near[:limit]
                    if len(near) == count and near[limit - 1].similarity == near[-1].similarity:
                        undecided.append(at)
            asked, count = undecided, 4 * count
        return found

    def remembers(self, before: int) -> bool:
        """As the port says; raises LakeError where the bank was made with another embedding."""
        if before <= 1:  # shards are counted from 1
            return False
        table = self._table()
        return table is not None and int(table.count_rows(f"sequence < {int(before)}")) > 0

    def replace_shard(self, shard: str, entries: Sequence[MemoryEntry], vectors: Vectors) -> int:
        """As the port says; raises LakeError where the bank was made with another embedding."""
        table = self._table()
        rows = _to_arrow(entries, np.asarray(vectors, dtype=np.float32), self._embedding) if entries else None
        if table is None:
            if rows is None:
                return 0
            table = self._connect().create_table(TABLE, rows)
            return int(table.count_rows())
        gone = "shard = '{}'".format(shard.replace("'", "''"))
        if rows is None:
            table.delete(gone)
        else:
            # one commit: a kill leaves the old entries or the new ones
            merge = table.merge_insert("candidate_id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(gone).execute(rows)
        count = int(table.count_rows())
        # each commit adds a fragment, and each commit and search opens them all; compacting writes the bank anew, so a larger bank
        # waits longer for it
        if table.stats()["fragment_stats"]["num_small_fragments"] > max(self._fragments, math.isqrt(count) // 4):
            self._compact(table)
        return count

    def kept_vectors(self, instructions: Mapping[str, str]) -> dict[str, Vectors]:
        """As the port says; raises LakeError where the bank was made with another embedding."""
        found: dict[str, Vectors] = {}
        for table in (self._beside(), self._table()):
            for name, text, vector in self._vectors(table):
                if instructions.get(name) == text:
                    found[name] = vector
        return found

    def cache_embeddings(
        self, instructions: Mapping[str, str], vectors: Iterable[Vectors], wanted: Container[str]
    ) -> None:
        """As the port says."""
        before = self._beside()
        rows = {name: (text, vector) for name, text, vector in self._vectors(before) if name in wanted}
        rows |= {name: (text, vector) for (name, text), vector in zip(instructions.items(), vectors, strict=True)}
        if rows:
            columns: dict[str, Sequence[object]] = {
                "candidate_id": [*rows],
                "instruction": [text for text, _ in rows.values()],
            }
            stacked = np.asarray([vector for _, vector in rows.values()], np.float32)
            table = self._connect().create_table(
                BESIDE,
                _with_vectors(columns, stacked, self._embedding),
                mode="overwrite" if before is not None else "create",
            )
            self._compact(table)

    def _compact(self, table: "lancedb.table.Table") -> None:
        """Make one fragment of a table's small ones, and remove the versions that nobody reads any more.

        The rows stay as they are, in one commit: a kill leaves the table as it was, and files that a later clean-up removes once they
        are a week old. LanceDB goes by when a version was *made*, and one that was made long ago may have been the current one, and be
        read, until a moment ago: so those go that were made before the one that was current ``kept_s`` ago.
        """
        now = time.time()
        made = [version["timestamp"].timestamp() for version in table.list_versions()]
        current = max((at for at in made if at < now - self._kept_s), default=min(made))
        beyond = max(now - current, self._kept_s) + _MARGIN_S
        try:
            table.optimize(cleanup_older_than=timedelta(seconds=beyond))
        except (OSError, RuntimeError) as error:  # what was written is there, and the next write tries again
            logging.getLogger(__name__).warning(
                f"memory bank {self._folder}: not compacted ({in_short(error)}); it works on, slower and larger; "
                "see to free space and permissions there"
            )

    def _vectors(self, table: "lancedb.table.Table | None") -> Iterator[tuple[str, str, Vectors]]:
        """(candidate_id, instruction, vector) of the rows that this embedding made."""
        if table is None:
            return
        kept = table.search().select(_COLUMNS).limit(None).to_arrow()
        size = kept.schema.field("vector").type.list_size
        for batch in kept.to_batches():
            names, texts, made_with = (batch.column(column).to_pylist() for column in _COLUMNS[:3])
            vectors = batch.column("vector").flatten().to_numpy().reshape(-1, size)
            for name, text, made, vector in zip(names, texts, made_with, vectors, strict=True):
                if made == self._embedding:
                    yield name, text, vector

    def _beside(self) -> "lancedb.table.Table | None":
        database = self._connect()
        return database.open_table(BESIDE) if BESIDE in database.list_tables().tables else None


class _StoredBank:
    """A bank in object storage, which says in one line what is wrong with that."""

    def __init__(self, bank: MemoryBank, address: str, settings: S3Settings) -> None:
        self._bank, self._address, self._settings = bank, address, settings

    def _told(self) -> AbstractContextManager[None]:
        return told(self._address, self._settings)

    def nearest(self, vectors: Vectors, limit: int, before: int) -> list[list[Neighbour]]:
        with self._told():
            return self._bank.nearest(vectors, limit, before)

    def remembers(self, before: int) -> bool:
        with self._told():
            return self._bank.remembers(before)

    def replace_shard(self, shard: str, entries: Sequence[MemoryEntry], vectors: Vectors) -> int:
        with self._told():
            return self._bank.replace_shard(shard, entries, vectors)

    def kept_vectors(self, instructions: Mapping[str, str]) -> dict[str, Vectors]:
        with self._told():
            return self._bank.kept_vectors(instructions)

    def cache_embeddings(
        self, instructions: Mapping[str, str], vectors: Iterable[Vectors], wanted: Container[str]
    ) -> None:
        with self._told():
            self._bank.cache_embeddings(instructions, vectors, wanted)


def _search(table: "lancedb.table.Table", queries: Vectors, count: int, before: int) -> list[list[Neighbour]]:
    """For each query ``count`` entries of highest cosine; ties in the order of their seed_id."""
    found: list[list[Neighbour]] = [[] for _ in queries]
    hits = (
        table.search([*queries], vector_column_name="vector")
        .distance_type("cosine")
        .where(f"sequence < {int(before)}", prefilter=True)
        .bypass_vector_index()
        .limit(count)
        .select(["seed_id", "pair_id", "_distance"])
        .to_arrow()
        .to_pylist()
    )
    for hit in hits:
        near = Neighbour(hit["seed_id"], hit["pair_id"], 1.0 - float(hit["_distance"]))
        found[hit.get("query_index", 0)].append(near)
    return [sorted(near, key=lambda n: (-n.similarity, n.seed_id)) for near in found]


def _to_arrow(entries: Sequence[MemoryEntry], vectors: Vectors, embedding: str) -> pa.Table:
    columns: dict[str, Sequence[object]] = {
        f.name: [getattr(entry, f.name) for entry in entries] for f in fields(MemoryEntry)
    }
    return _with_vectors(columns, vectors, embedding)


def _with_vectors(columns: dict[str, Sequence[object]], vectors: Vectors, embedding: str) -> pa.Table:
    columns["embedding"] = [embedding] * len(vectors)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    return pa.table(columns)
