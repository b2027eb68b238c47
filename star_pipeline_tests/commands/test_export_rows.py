"""``export`` of a final data set that was written by hand: what it holds decides which fields there are, and what is said of nothing."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.export import export
from star_pipeline.core import tables
from star_pipeline.core.errors import LakeError
from star_pipeline_tests.core.publishing.test_exports import EARLIER, star_row


def written(folder, *rows):
    made = Lake.at(folder / "lake")
    made.write_table(tables.STAR_DATASET, tables.STAR_DATASET.to_arrow(rows))
    return made


def test_alpaca_without_earlier_turns_and_system_prompts_is_plain_alpaca(tmp_path):
    plain = written(tmp_path, star_row(seed_id="1"), star_row(seed_id="2"))
    export(plain, "alpaca", str(tmp_path / "a.json"))
    assert (
        json.loads((tmp_path / "a.json").read_text())
        == [{"instruction": "Why?", "input": "", "output": "Because."}] * 2
    )
    export(
        written(tmp_path, star_row("Be brief.", seed_id="1"), star_row(seed_id="2")), "alpaca", str(tmp_path / "a.json")
    )
    systems = [record["system"] for record in json.loads((tmp_path / "a.json").read_text())]
    assert systems == ["Be brief.", ""]


def test_many_rows_in_their_order(tmp_path):
    count = 10_000
    many = written(tmp_path, *(star_row(seed_id=str(n), instruction=f"Why {n}?") for n in range(count)))
    for ending in (".jsonl", ".parquet"):
        export(many, "sharegpt", str(tmp_path / f"train{ending}"))
    assert pq.ParquetFile(tmp_path / "train.parquet").num_row_groups > 1
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert [json.loads(line)["id"] for line in lines] == [str(n) for n in range(count)]


def test_where_there_is_nothing_to_export_nothing_is_written(tmp_path):
    target = tmp_path / "train.json"
    target.write_text("as it was")
    with pytest.raises(LakeError, match=r"star_dataset.parquet is not there; .*star-pipeline run"):
        export(Lake.at(tmp_path / "none"), "messages", str(target))
    with pytest.raises(LakeError, match="no rows, so there is nothing to export"):
        export(written(tmp_path), "messages", str(target))
    odd = star_row(seed_id="1", history=EARLIER[1:])
    with pytest.raises(LakeError, match=r"no row gives a record \(left out 1: earlier turns"):
        export(written(tmp_path, odd), "alpaca", str(target))
    with pytest.raises(LakeError, match=r"no row gives a record \(left out 1: shard not done"):
        export(written(tmp_path, odd), "preference", str(target))
    assert target.read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir() if path.name != "lake"] == ["train.json"]


def test_a_broken_data_set_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    many = [star_row(seed_id=str(n), response=os.urandom(40).hex()) for n in range(9_000)]
    lake, target = written(tmp_path, *many), tmp_path / "train.jsonl"
    export(lake, "messages", str(target))
    whole = target.read_bytes()
    path = Path(str(lake.table(tables.STAR_DATASET)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = b"\0" * 4000
    path.write_bytes(data)
    with pytest.raises(LakeError, match=r"star_dataset\.parquet cannot be read"):
        export(lake, "messages", str(target))
    assert target.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir() if path.name != "lake"] == ["train.jsonl"]
