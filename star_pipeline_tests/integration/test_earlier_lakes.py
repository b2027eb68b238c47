"""Lakes that earlier versions made (``star_pipeline_tests/lakes``) are opened by every command, and nothing of them is made again."""

import json
import sqlite3
import tarfile
from pathlib import Path

import dagster as dg
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.tables import CANDIDATES, SHARD_TABLES
from star_pipeline.defs.build import build_defs
from star_pipeline.instance import open_instance
from star_pipeline_tests import program

ARCHIVES = sorted((Path(__file__).parents[1] / "lakes").glob("*.tar.xz"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def opened(request, tmp_path_factory):
    """The folder of a lake after ``run``, with what the command said and what stood in the shards' tables and the journal before."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(request.param) as packed:
        packed.extractall(folder, filter="data")
    before = shard_tables(folder), replies(folder)
    result = star(folder, "run", "--config", "small.yaml")
    assert result.returncode == 0, result.stderr
    return folder, before, result


def star(folder, command, *arguments):
    return program.star(command, *arguments, "--lake", "lake", cwd=folder)


def shard_tables(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for spec in SHARD_TABLES
        for path in (folder / "lake" / "tables" / spec.name).glob("*.parquet")
    }


def replies(folder):
    with sqlite3.connect(folder / "lake" / "journal" / "journal.sqlite") as journal:
        return journal.execute("SELECT count(*) FROM reply").fetchone()[0]


def test_run_makes_no_shard_again_and_asks_nothing(opened):
    folder, (tables, asked), result = opened
    assert len(tables) >= 2 * len(SHARD_TABLES)
    assert shard_tables(folder) == tables
    assert replies(folder) == asked > 100
    assert "shard 000001" not in result.stdout + result.stderr


def test_a_second_run_finds_nothing_to_do(opened):
    folder, *_ = opened
    again = star(folder, "run", "--config", "small.yaml")
    assert again.returncode == 0, again.stderr
    assert "Nothing new" in again.stdout


def test_queries_report_and_exports_work(opened):
    folder, *_ = opened
    asked = star(folder, "query", "SELECT count(*) AS n FROM lineage", "--format", "json")
    assert json.loads(asked.stdout) == [{"n": 60}], asked.stderr
    assert star(folder, "query", "pair_leaderboard").returncode == 0
    health = star(folder, "query", "SELECT verdict FROM health", "--format", "csv").stdout.split()
    assert len(health) > len(set(health)) > 1  # a header, and a verdict a signature
    assert star(folder, "report").returncode == 0
    exported = star(folder, "export", "--format", "messages", "--output", str(folder / "rows.jsonl"))
    assert exported.returncode == 0, exported.stderr
    assert len((folder / "rows.jsonl").read_text("utf-8").splitlines()) == 12


def test_the_instance_knows_its_shards_and_what_was_made_of_them(opened):
    folder, *_ = opened
    lake = Lake.at(str(folder / "lake"))
    defs = build_defs(config=str(folder / "small.yaml"), lake=str(lake.root))
    with open_instance(lake) as instance:
        shards = instance.get_dynamic_partitions("seed_shards")
        assert shards == lake.shards_of(CANDIDATES)
        for key in defs.resolve_asset_graph().materializable_asset_keys - {dg.AssetKey("calibration")}:
            assert instance.fetch_materializations(key, limit=1).records, key
        assert instance.get_run_records(dg.RunsFilter(job_name="process_shard"))
