"""Paths, atomic writes, the lock: real files, real processes, real kills."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.lake import Lake, content_hash, whole_file
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.core import tables
from star_pipeline.core.errors import LakeError
from star_pipeline.core.records import Candidate, CatalogEntry, Seed
from star_pipeline.core.tables import LEFT_OUT_ROWS, SEED_CATALOG, SEED_SHARDS, STAR_DATASET, TASK_DOMAINS


def seeds(*names):
    return [Seed(name, "f", row, None, (), "i", "r") for row, name in enumerate(names, start=1)]


def test_the_lake_is_laid_out_as_the_contract_says(tmp_path):
    lake = Lake.at(tmp_path)
    places = {
        lake.table(SEED_SHARDS, "000001-x"): "tables/seed_shards/000001-x.parquet",
        lake.table(STAR_DATASET): "star_dataset/star_dataset.parquet",
        lake.table(SEED_CATALOG): "tables/seed_catalog.parquet",
        lake.table(TASK_DOMAINS): "tables/task_domains.parquet",
        lake.table(LEFT_OUT_ROWS): "tables/left_out_rows.parquet",
        lake.dataset_card: "star_dataset/README.md",
        lake.dataset_manifest: "star_dataset/manifest.json",
        lake.seeds: "seeds",
        lake.memory_bank: "memory_bank",
        lake.journal: "journal",
        lake.models: "models",
        lake.inspection: "inspect.duckdb",
        lake.report: "report.html",
        lake.dagster_home: "dagster_home",
    }
    assert {path.relative_to(lake.root).as_posix() for path in places} == set(places.values())


def test_a_lake_is_absolute_from_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lake = Lake.at("here")
    monkeypatch.chdir("/")
    assert str(lake.root) == str(tmp_path / "here")


def test_a_table_read_in_pieces_has_every_row_once_in_its_order(tmp_path):
    lake, rows = Lake.at(tmp_path), [CatalogEntry(f"s{n}", "k", n, "f", n, True) for n in range(10_001)]
    lake.write_table(SEED_CATALOG, SEED_CATALOG.to_arrow(rows))
    assert pq.ParquetFile(str(lake.table(SEED_CATALOG))).num_row_groups == 3
    assert list(lake.rows(SEED_CATALOG, 1000)) == rows
    with pytest.raises(LakeError, match="materialise star_dataset first"):
        next(lake.rows(STAR_DATASET))


def test_a_file_written_in_pieces_takes_its_place_only_when_it_is_whole(tmp_path):
    def write(path, last):
        with whole_file(path) as file:
            file.write(b"one ")
            file.write(last())

    path = tmp_path / "f"
    write(path, lambda: b"two")
    assert path.read_bytes() == b"one two"
    with pytest.raises(ZeroDivisionError):
        write(path, lambda: 1 // 0)
    assert path.read_bytes() == b"one two"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(LakeError, match=r"cannot write .*/none/f: No such file or directory; free some space"):
        write(tmp_path / "none" / "f", lambda: b"")


def test_what_is_written_comes_back_and_is_named_by_its_content(tmp_path):
    lake = Lake.at(tmp_path)
    table = SEED_SHARDS.to_arrow(seeds("a", "b"))
    lake.write_table(SEED_SHARDS, table, "k")
    assert lake.read_table(SEED_SHARDS, "k") == seeds("a", "b")
    first = lake.table(SEED_SHARDS, "k").read_bytes()
    lake.write_table(SEED_SHARDS, SEED_SHARDS.to_arrow(seeds("a", "b")), "k")
    assert lake.table(SEED_SHARDS, "k").read_bytes() == first
    assert content_hash(table) == content_hash(lake.read_arrow(SEED_SHARDS, "k"))
    assert content_hash(table) != content_hash(SEED_SHARDS.to_arrow(seeds("a", "c")))


def test_a_table_of_another_schema_is_refused(tmp_path):
    with pytest.raises(LakeError, match="schema"):
        Lake.at(tmp_path).write_table(SEED_SHARDS, SEED_SHARDS.to_arrow(seeds("a")).drop_columns(["response"]), "k")


def test_a_missing_table_says_what_to_do(tmp_path):
    with pytest.raises(LakeError, match=r"seed_shards\[k\].*star-pipeline run"):
        Lake.at(tmp_path).read_table(SEED_SHARDS, "k")


def test_a_lake_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(LakeError, match="--lake"):
        Lake.at(tmp_path / "file").prepare()


def run_python(code, *args, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True, **options
    )


def test_a_writer_that_is_killed_leaves_the_old_content_whole(tmp_path):
    target = tmp_path / "f"
    target.write_bytes(b"old")
    code = """
        import sys
        from star_pipeline.adapters.lake import Lake
        lake = Lake.at(sys.argv[1])
        print("ready", flush=True)
        while True:
            lake.write_bytes(lake.root / "f", b"x" * 30_000_000)
    """
    for _ in range(3):
        writer = run_python(code, tmp_path)
        writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert target.read_bytes() in (b"old", b"x" * 30_000_000)


HOLDER = """
    import sys, time
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.lock import FileLakeLock
    with FileLakeLock(Lake.at(sys.argv[1])).hold("the first"):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_second_process_is_refused_naming_the_first_and_a_killed_holder_holds_nothing(tmp_path):
    lake = Lake.at(tmp_path)
    first = run_python(HOLDER, tmp_path)
    assert first.stdout.readline() == "held\n"
    try:
        with pytest.raises(LakeError, match=f"the first .process {first.pid}"), FileLakeLock(lake).hold("second"):
            pass
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    with FileLakeLock(lake).hold("second"):
        pass


def test_one_process_may_hold_the_lake_twice_and_gives_it_back_at_the_end(tmp_path):
    lake = Lake.at(tmp_path)
    attempt = """
        import sys
        from star_pipeline.adapters.lake import Lake
        from star_pipeline.adapters.lock import FileLakeLock
        from star_pipeline.core.errors import LakeError
        try:
            with FileLakeLock(Lake.at(sys.argv[1])).hold("other"):
                print("got it")
        except LakeError as error:
            print("refused", error)
    """
    with FileLakeLock(lake).hold("outer"):
        with FileLakeLock(lake).hold("inner"):
            pass
        said = run_python(attempt, tmp_path).communicate()[0]
        assert said.startswith("refused")
        assert "outer" in said
    assert run_python(attempt, tmp_path).communicate()[0] == "got it\n"


def test_a_lake_has_one_id_for_good_and_it_is_not_anothers(tmp_path):
    one, other = Lake.at(tmp_path / "one"), Lake.at(tmp_path / "other")
    assert one.lake_id == Lake.at(tmp_path / "one").lake_id != other.lake_id


def test_what_a_row_cost_does_not_change_its_data_version():
    row = Candidate("c", "s", 0, "keep+a", "q", "r", "ok", None, None, 1, 10, 20, 0.5, 1.5)
    dear = replace(
        row, attempts=3, prompt_tokens=0, completion_tokens=0, cost_usd=0.0, latency_s=9.0, rewrite_cost_usd=0.1
    )
    versions = [content_hash(tables.CANDIDATES.to_arrow([one])) for one in (row, dear, replace(row, response="x"))]
    assert versions[0] == versions[1] != versions[2]


def test_a_process_that_reads_a_table_and_ends_at_once_ends_with_its_own_code(tmp_path):
    lake = Lake.at(tmp_path)
    lake.write_table(SEED_CATALOG, SEED_CATALOG.to_arrow([CatalogEntry("s", "k", 0, "f", 1, True)]))
    code = """
        import sys
        from star_pipeline.adapters.lake import Lake
        from star_pipeline.core.tables import SEED_CATALOG
        Lake.at(sys.argv[1]).read_table(SEED_CATALOG)
        sys.exit(2)
    """
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
