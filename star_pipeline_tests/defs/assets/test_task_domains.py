"""Where the rows' embeddings come from."""

import numpy as np

from star_pipeline.adapters.fakes import HashEmbedder
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.core.records import MemoryEntry, Message, StarRow
from star_pipeline.defs.assets.task_domains import embeddings


class Counting(HashEmbedder):
    def __init__(self):
        super().__init__()
        self.asked = []

    def embed(self, texts):
        self.asked += texts
        return super().embed(texts)


def row(name, instruction, selection="best"):
    messages = (Message("user", instruction), Message("assistant", "a"))
    return StarRow(name, messages, instruction, "a", "a+b", *(0.5,) * 6, "k", "x.json", 1, f"c-{name}", selection)


def test_vectors_come_from_the_bank_where_candidate_and_text_are_the_same_and_are_computed_once(tmp_path):
    bank, embedder = LanceMemoryBank(str(tmp_path), "m"), Counting()
    known = ["bake bread", "an older text of this candidate"]
    entries = [MemoryEntry(n, f"c-{n}", "k", 1, text, "a+b", 0.5) for n, text in zip("xy", known, strict=True)]
    bank.replace_shard("k", entries, HashEmbedder().embed(known))
    rows = [row("x", "bake bread"), row("y", "its text now"), row("z", "write a poem", "fallback_base")]
    expected = HashEmbedder().embed([r.instruction for r in rows])
    for computed in (["its text now", "write a poem"], []):
        embedder.asked.clear()
        vectors, count = embeddings(rows, bank, embedder)
        assert (embedder.asked, count) == (computed, len(computed))
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    # a row less, and one that was not there: only that one is computed, and the others are still known
    vectors, count = embeddings([*rows[1:], row("w", "sort a list")], bank, embedder)
    assert (embedder.asked, count, vectors.shape) == (["sort a list"], 1, (3, 64))
    assert embeddings([], bank, embedder)[0].shape == (0, 0)
