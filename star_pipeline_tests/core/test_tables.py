"""Schemas are enforced on write, and records survive the way through Parquet."""

import io

import pyarrow.parquet as pq
import pytest

from star_pipeline.core import tables
from star_pipeline.core.errors import LakeError
from star_pipeline.core.identity import shard_key, shard_number
from star_pipeline.core.records import Message, PlanRow, Seed

SEED = Seed("s", "f", 1, None, (Message("user", "hi"), Message("assistant", "hé")), "i", "r")


def through_parquet(spec, rows):
    sink = io.BytesIO()
    pq.write_table(spec.to_arrow(rows), sink)
    sink.seek(0)
    return spec.from_arrow(pq.read_table(sink))


def test_records_come_back_equal():
    assert through_parquet(tables.SEED_SHARDS, [SEED]) == [SEED]
    row = PlanRow("c", "s", 0, "a+b", "a", "b", "memory", 0.25, "x", ("n", "m"), ("a+b", "c+d"), (0.5, -0.25))
    assert through_parquet(tables.SAMPLING_PLAN, [row]) == [row]
    assert through_parquet(tables.SAMPLING_PLAN, []) == []


def test_a_null_where_none_may_be_is_refused_naming_table_row_and_column():
    with pytest.raises(LakeError, match=r"seed_shards, row 0, column instruction"):
        tables.SEED_SHARDS.to_arrow([Seed("s", "f", 1, None, (), None, "r")])


def test_a_key_that_is_there_twice_is_refused():
    with pytest.raises(LakeError, match=r"row 1.*twice"):
        tables.SEED_SHARDS.to_arrow([SEED, SEED])


def test_a_wrong_type_is_refused():
    with pytest.raises(LakeError, match="does not fit"):
        tables.SEED_SHARDS.to_arrow([Seed("s", "f", "one", None, (), "i", "r")])


def test_a_table_that_lacks_a_column_says_so():
    with pytest.raises(LakeError, match="lacks response"):
        tables.SEED_SHARDS.from_arrow(tables.SEED_SHARDS.to_arrow([SEED]).drop_columns(["response"]))


def test_every_record_field_is_a_column_with_a_description():
    for spec in tables.TABLES.values():
        assert [c.name for c in spec.columns] == list(spec.record.__dataclass_fields__)
        assert all(c.description for c in spec.columns)


def test_shard_keys_sort_like_their_numbers():
    keys = [shard_key(number, "a/My Seeds (v2).jsonl") for number in (1, 2, 10, 999, 1000)]
    assert keys[0] == "000001-my-seeds-v2"
    assert sorted(keys) == keys
    assert [shard_number(key) for key in keys] == [1, 2, 10, 999, 1000]
    assert shard_key(1, "数据.json") == "000001-seeds"
