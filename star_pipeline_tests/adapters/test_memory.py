"""The memory bank in real LanceDB, against an exhaustive search, with the real embedding model."""

import json
import subprocess
import sys
import time

import lancedb
import numpy as np
import pytest
import torch

from star_pipeline.adapters import embedder
from star_pipeline.adapters.embedder import SentenceEmbedder, embedding, embedding_source, plan_batches, threads_of
from star_pipeline.adapters.fakes import ListBank
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.config.scoring import ScoringConfig
from star_pipeline.core.errors import LakeError, ModelError
from star_pipeline.core.records import MemoryEntry

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def entries(shard, sequence, texts, pair="a+b"):
    return [
        MemoryEntry(f"s{sequence}-{n}", f"c{sequence}-{n}", shard, sequence, text, pair, 0.5)
        for n, text in enumerate(texts)
    ]


def unit(rows, size=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_nearest_equals_an_exhaustive_search_over_earlier_shards_only(tmp_path):
    banks = [LanceMemoryBank(str(tmp_path), "m", batch=7), ListBank()]
    for sequence in range(1, 5):
        rows = entries(f"{sequence:06d}-x", sequence, [f"text {n}" for n in range(30)])
        assert {bank.replace_shard(f"{sequence:06d}-x", rows, unit(30, seed=sequence)) for bank in banks} == {
            30 * sequence
        }
        assert {bank.remembers(sequence) for bank in banks} == {sequence > 1}
        assert {bank.remembers(sequence + 1) for bank in banks} == {True}
    queries = unit(20, seed=99)
    for before in (1, 3, 5):
        found, expected = (bank.nearest(queries, 6, before) for bank in banks)
        assert [[n.seed_id for n in near] for near in found] == [[n.seed_id for n in near] for near in expected]
        for near, near_expected in zip(found, expected, strict=True):
            assert [n.similarity for n in near] == pytest.approx([n.similarity for n in near_expected], abs=1e-5)
            assert len(near) == (0 if before == 1 else 6)


def test_an_empty_bank_has_no_neighbours(tmp_path):
    assert LanceMemoryBank(str(tmp_path), "m").nearest(unit(3), 5, 10) == [[], [], []]
    assert not LanceMemoryBank(str(tmp_path), "m").remembers(10)
    assert LanceMemoryBank(str(tmp_path), "m").replace_shard("k", [], unit(0)) == 0


def test_writing_a_shard_again_replaces_it(tmp_path):
    bank = LanceMemoryBank(str(tmp_path), "m")
    bank.replace_shard("000001-x", entries("000001-x", 1, "ab"), unit(2))
    bank.replace_shard("000002-y", entries("000002-y", 2, "abc"), unit(3))
    assert bank.replace_shard("000001-x", entries("000001-x", 1, "a", "c+d"), unit(1)) == 4
    assert bank.replace_shard("000002-y", [], unit(0)) == 1
    [[only]] = LanceMemoryBank(str(tmp_path), "m").nearest(unit(1), 5, 9)
    assert (only.pair_id, only.similarity) == ("c+d", pytest.approx(1, abs=1e-5))


def table_of(folder):
    return lancedb.connect(str(folder)).open_table("instructions")


def test_of_those_who_tie_the_smaller_seed_ids_are_found_however_the_rows_lie(tmp_path):
    same, banks = np.repeat(unit(1), 40, axis=0), [LanceMemoryBank(str(tmp_path), "m", batch=2), ListBank()]
    for sequence in (3, 1, 2):
        for bank in banks:
            bank.replace_shard(f"{sequence}", entries(f"{sequence}", sequence, "abcdefghijklm"), same[:13])
    queries = np.concatenate([same[:1], unit(4, seed=5)])

    def found(before):
        lance, exhaustive = ([[n.seed_id for n in near] for near in bank.nearest(queries, 5, before)] for bank in banks)
        assert lance == exhaustive
        return lance

    first = found(9)
    assert first[0] == ["s1-0", "s1-1", "s1-10", "s1-11", "s1-12"]
    found(2)
    banks[0].replace_shard("1", entries("1", 1, "abcdefghijklm"), same[:13])  # moves its rows to the end
    assert found(9) == first


def test_the_bank_is_compacted_and_what_it_finds_stays_the_same_to_the_bit(tmp_path):
    bank, queries, found = LanceMemoryBank(str(tmp_path), "m", fragments=5, kept_s=0.0), unit(9, seed=99), {}
    for sequence in range(1, 31):
        bank.replace_shard(f"{sequence:02d}", entries(f"{sequence:02d}", sequence, "abc"), unit(3, seed=sequence))
        if sequence == 10:
            bank.replace_shard("03", entries("03", 3, "ab", "c+d"), unit(2, seed=3))
        if sequence >= 10:
            found[sequence + 1] = bank.nearest(queries, 8, sequence + 1)
        assert table_of(tmp_path).stats()["fragment_stats"]["num_fragments"] <= 6
    assert found == {before: bank.nearest(queries, 8, before) for before in found}
    assert table_of(tmp_path).count_rows() == 89
    time.sleep(0.2)
    for sequence in range(31, 37):  # as many as make one compaction certain
        bank.replace_shard(str(sequence), entries(str(sequence), sequence, "abc"), unit(3, seed=sequence))
    assert len(table_of(tmp_path).list_versions()) <= 9, "the versions before are gone"


READER = """
import sys, lancedb
table = lancedb.connect(sys.argv[1]).open_table("instructions")
print(table.version, flush=True)
sys.stdin.readline()
print(*sorted(row["seed_id"] for row in table.search().limit(None).to_list()))
"""


def read_while_written(folder, kept_s):
    """How long the writing took, the version that a reader had opened, those there afterwards, and what it then read."""
    bank = LanceMemoryBank(str(folder), "m", fragments=2, kept_s=kept_s)
    for sequence in range(1, 4):
        bank.replace_shard(str(sequence), entries(str(sequence), sequence, "ab"), unit(2))
        time.sleep(0.2)
    command = [sys.executable, "-c", READER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        opened = int(reader.stdout.readline())
        time.sleep(kept_s + 0.1)  # now it was made long ago, and is still the current one
        began = time.monotonic()
        for sequence in range(4, 9):
            bank.replace_shard("1", entries("1", 1, "a", f"{sequence}"), unit(1))
            bank.replace_shard(str(sequence), entries(str(sequence), sequence, "ab"), unit(2))
        there = {version["version"] for version in table_of(folder).list_versions()}
        took = time.monotonic() - began
        read, _ = reader.communicate("go\n", timeout=300)
    return took, opened, there, read.split()


def test_a_reader_in_another_process_goes_on_with_the_version_that_was_current_until_a_moment_ago(tmp_path):
    for kept_s in (1.5, 6.0, 24.0):  # a busy machine may write for longer than a moment
        folder = tmp_path / str(kept_s)
        took, opened, there, read = read_while_written(folder, kept_s)
        if took < kept_s:
            break
    assert opened in there
    assert 1 not in there, "older ones are gone"
    assert read == ["s1-0", "s1-1", "s2-0", "s2-1", "s3-0", "s3-1"]
    time.sleep(kept_s + 0.1)
    bank = LanceMemoryBank(str(folder), "m", fragments=2, kept_s=kept_s)
    for sequence in range(9, 12):
        bank.replace_shard(str(sequence), entries(str(sequence), sequence, "ab"), unit(2))
    assert opened not in {version["version"] for version in table_of(folder).list_versions()}


WRITER = """
import sys
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.config.scoring import ScoringConfig
from star_pipeline_tests.adapters.test_memory import entries, unit
bank = LanceMemoryBank(sys.argv[1], "m", fragments=1, kept_s=0.0)
compact = bank._compact
def told(table):
    print("compacts", flush=True)
    compact(table)
bank._compact = told
for sequence in range(1, 1000):
    bank.replace_shard(str(sequence), entries(str(sequence), sequence, ["text"] * 40), unit(40, 384, sequence))
"""


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.015])
def test_a_bank_whose_writer_was_killed_while_it_compacted_is_read_and_written_on(tmp_path, after_s):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(2):
            assert writer.stdout.readline() == "compacts\n"
        time.sleep(after_s)
        writer.kill()
    bank, exhaustive, queries = (
        LanceMemoryBank(str(tmp_path), "m", fragments=1, kept_s=0.0),
        ListBank(),
        unit(5, 384, 0),
    )
    whole, rest = divmod(table_of(tmp_path).count_rows(), 40)
    assert whole >= 3
    assert rest == 0
    for sequence in range(1, whole + 2):
        exhaustive.replace_shard(
            str(sequence), rows := entries(str(sequence), sequence, ["text"] * 40), unit(40, 384, sequence)
        )
        if sequence > whole:
            assert bank.replace_shard(str(sequence), rows, unit(40, 384, sequence)) == 40 * sequence
        found, expected = (one.nearest(queries, 6, sequence + 1) for one in (bank, exhaustive))
        assert [[n.seed_id for n in near] for near in found] == [[n.seed_id for n in near] for near in expected]
    assert table_of(tmp_path).stats()["fragment_stats"]["num_fragments"] < whole


def test_a_bank_made_with_another_embedding_is_refused_with_a_remedy(tmp_path):
    LanceMemoryBank(str(tmp_path), "m").replace_shard("k", entries("k", 1, "a"), unit(1, 16))
    other = LanceMemoryBank(str(tmp_path), "other")
    for use in (
        lambda: other.nearest(unit(1, 8), 1, 9),
        lambda: other.replace_shard("k", entries("k", 1, "a"), unit(1, 8)),
    ):
        with pytest.raises(LakeError, match=r"come from m, and memory\.embedding is now other"):
            use()


def test_the_default_embedding_is_real_and_comes_without_a_download(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert embedding_source(MODEL) != MODEL
    assert embedding_source("other/model") == "other/model"
    vectors = SentenceEmbedder(MODEL).embed(["How do I bake bread?", "A recipe for a loaf", "Sort a list in Python"])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert SentenceEmbedder(MODEL).embed([]).shape == (0, 384)


def test_an_embedding_that_is_not_there_is_said_in_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"memory\.embedding"):
        SentenceEmbedder(str(tmp_path / "nothing")).embed(["x"])


def test_vectors_are_found_again_by_candidate_and_text_and_others_are_kept_beside_the_bank(tmp_path):
    vectors = unit(6)
    for bank in (LanceMemoryBank(str(tmp_path), "m"), ListBank()):
        assert bank.kept_vectors({"c1-0": "a"}) == {}
        bank.replace_shard("k", entries("k", 1, "ab"), vectors[:2])
        bank.cache_embeddings({"x": "one", "y": "two"}, vectors[2:4], {"x", "y"})
        asked = {"c1-0": "a", "c1-1": "other text", "x": "one", "y": "2", "nobody": "z"}
        found = bank.kept_vectors(asked)
        assert set(found) == {"c1-0", "x"}
        np.testing.assert_array_equal([found["c1-0"], found["x"]], vectors[[0, 2]])
        # y is not wanted any more, x is, and z is new
        bank.cache_embeddings({"z": "three"}, vectors[4:5], {"x", "z"})
        kept = bank.kept_vectors({"x": "one", "y": "two", "z": "three"})
        assert set(kept) == {"x", "z"}
        np.testing.assert_array_equal([kept["x"], kept["z"]], vectors[[2, 4]])
        [near] = bank.nearest(vectors[4:5], 5, 9)
        assert {entry.seed_id for entry in near} == {"s1-0", "s1-1"}


def test_what_another_embedding_kept_beside_the_bank_is_not_used(tmp_path):
    LanceMemoryBank(str(tmp_path), "m").cache_embeddings({"x": "one"}, unit(1, 16), {"x"})
    other = LanceMemoryBank(str(tmp_path), "other")
    assert other.kept_vectors({"x": "one"}) == {}
    other.cache_embeddings({"x": "one"}, unit(1, 8), {"x"})
    assert other.kept_vectors({"x": "one"})["x"].shape == (8,)


def test_planned_batches_give_the_bytes_that_sentence_transformers_gives_of_all_texts_at_once(tmp_path):
    """Many are of one length: a sort that is not stable lays them in an order of its own."""
    draw = np.random.default_rng(5)
    texts = [" ".join(draw.choice(["sea", "map", "ten", "oak"], count)) for count in draw.choice([2, 3, 9, 30], 90)]
    with embedding(1):
        at_once = embedder._load(MODEL).encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert SentenceEmbedder(MODEL, lambda: 1).embed(texts).tobytes() == at_once.tobytes()
    assert [len(members) for members in plan_batches(texts)] == [32, 32, 26]


def test_a_lake_is_embedded_with_the_threads_that_it_is_scored_with(tmp_path):
    lake, scoring = Lake.at(tmp_path), ScoringConfig(small="s", large="l")
    assert threads_of(lake.numerics, scoring) == torch.get_num_threads()
    elsewhere = ScoringConfig(small="s", large="l", engine="ray", ray={"gpus": 0, "cpus": 7})
    assert threads_of(lake.numerics, elsewhere) == 7
    lake.numerics.write_text(json.dumps({"dtype": "float32", "device": "cpu", "threads": 3}))
    assert threads_of(lake.numerics, scoring) == threads_of(lake.numerics, elsewhere) == 3
