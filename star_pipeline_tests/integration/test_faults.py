"""Faults, kills and budgets, end to end: ``star-pipeline run`` against a server that misbehaves."""

import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline_tests.benchmarks.kill_soak import soak
from star_pipeline_tests.chaos import Chaos
from star_pipeline_tests.conftest import seed_rows
from star_pipeline_tests.integration.test_run_against_a_server import configuration, models, scripted
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.program import star

pytestmark = pytest.mark.slow

PRICES = (1e-6, 2e-6)
KEY = "sk-loopback-0123456789abcdef"
assert models  # a fixture


def agents(url, **changes):
    return {
        name: {
            "model": f"hosted_vllm/{name}", "api_base": url, "api_key_env": "FAULTY_KEY", "max_concurrency": 8, "timeout_s": 15,
            "max_tries": 6, "params": {"max_tokens": 64}, "input_cost_per_token": PRICES[0], "output_cost_per_token": PRICES[1],
            **changes,
        }
        for name in ("good", "mid", "bad")
    }  # fmt: skip  # read as a table


@pytest.fixture(scope="module")
def story(models, tmp_path_factory):
    """A run through chaos that its budget stops, then the same with a budget raised."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "seeds.json").write_text(json.dumps(seed_rows(30)))
    (folder / "small_").mkdir()
    chaos = Chaos(scripted, seed=7, prices=PRICES)
    environment = {**os.environ, "FAULTY_KEY": KEY}
    with chat_server(chaos) as server:

        def run(budget_usd):
            sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 15}
            settings = {"agents": agents(server.url), "sampling": sampling, "budget": {"usd": budget_usd}}
            config = configuration(models, server.url, **settings)
            options = ("--config", config, "--lake", folder / "lake", "--seeds", folder / "seeds.json")
            return star("run", *options, env=environment)

        short = run(0.05)
        server.settle()
        stopped_at = {"bill": chaos.bill_usd, "requests": len(server.requests), "answers": chaos.answers.copy()}
        rich = run(5.0)
        yield {
            "lake": Lake.at(folder / "lake"),
            "short": short,
            "rich": rich,
            "stopped_at": stopped_at,
            "chaos": chaos,
            "requests": len(server.requests),
        }


def test_the_budget_stops_the_run_with_one_line_and_the_servers_own_count_is_below_it(story):
    assert story["short"].returncode == 1
    last = story["short"].stderr.strip().splitlines()[-1]
    assert re.search(r"the budget is used up: 0\.\d+ of 0\.05 USD spent.* raise budget\.usd and run again", last), last
    assert "Traceback" not in story["short"].stderr
    assert 0.01 < story["stopped_at"]["bill"] <= 0.05


def test_the_run_ends_well_and_every_candidate_is_there_or_has_its_reason(story):
    assert story["rich"].returncode == 0, story["rich"].stderr
    assert all(
        story["chaos"].fates[fate]
        for fate in ("429", "500", "503", "reset", "half", "garbage", "empty", "cut", "silence")
    )
    lake = story["lake"]
    for shard in lake.shards_of(tables.CANDIDATES):
        plan = lake.read_table(tables.SAMPLING_PLAN, shard)
        rows = lake.read_table(tables.CANDIDATES, shard)
        assert [row.candidate_id for row in rows] == [row.candidate_id for row in plan]
        assert all((row.status == "ok") == (row.error is None and row.error_kind is None) for row in rows)
        verdicts = lake.read_table(tables.JUDGE_VERDICTS, shard)
        assert all(row.error for row in verdicts if row.verdict in ("failed", "unparsed"))
    assert len(lake.read_table(tables.STAR_DATASET)) == 30


def test_no_answered_request_was_sent_again_and_the_bill_is_covered_by_what_was_spent_and_reserved(story):
    assert set(story["chaos"].answers.values()) == {1}
    with duckdb.connect(str(story["lake"].inspection), read_only=True) as database:
        spent, replies, reserved = database.execute(
            "SELECT sum(cost_usd), sum(replies), sum(reserved_usd) FROM spend"
        ).fetchone()
        in_tables, requests = database.execute("SELECT sum(cost_usd), sum(requests) FROM costs").fetchone()
    assert replies == sum(story["chaos"].answers.values())
    assert in_tables == pytest.approx(spent)
    assert spent < story["chaos"].bill_usd <= spent + reserved
    # tries of requests that the first run did not bring to an end are in no table
    assert requests <= story["requests"]
    assert story["requests"] - requests <= story["stopped_at"]["requests"] - len(story["stopped_at"]["answers"])


def test_the_key_is_in_no_table_journal_log_error_or_metadata(story):
    said = [result.stdout + result.stderr for result in (story["short"], story["rich"])]
    assert not any(KEY in text for text in said)
    assert story["chaos"].fates["garbage"]
    files = [path for path in Path(str(story["lake"].root)).rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
        if path.suffix == ".parquet":
            assert KEY not in _texts(pq.read_table(path)), path
    with closing(sqlite3.connect(str(story["lake"].journal / FILE))) as journal:
        assert not any(KEY.encode() in text for (text,) in journal.execute("SELECT text FROM reply"))


def _texts(table: pa.Table) -> str:
    return json.dumps(table.to_pydict(), default=str)


def test_runs_that_are_killed_at_random_end_like_an_undisturbed_one_and_pay_nothing_twice(models, tmp_path):
    told = soak(tmp_path, models, kills=3, seed=3, lag=1, seeds=36)
    assert told.differences == []
    assert told.replies == told.undisturbed
    assert told.requests == told.undisturbed + sum(told.lost)
    assert max(told.lost) <= told.most_in_flight


def test_a_run_by_thompson_sampling_that_is_killed_within_a_shard_ends_like_an_undisturbed_one(models, tmp_path):
    """Its tallies, variances and costs come out of the shards' tables: what the kill left half made is counted once."""
    told = soak(tmp_path, models, kills=1, seed=1, seeds=24, method="thompson")
    assert told.differences == []
    assert told.requests == told.undisturbed + sum(told.lost)
